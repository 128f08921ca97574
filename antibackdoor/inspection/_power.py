"""Detection power: plant known triggers and count how many a detector finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import check_random_state

from antibackdoor.attacks import BaseAttack
from antibackdoor.datasets import make_poisoned
from antibackdoor.detection import BaseDetector
from antibackdoor.utils import as_labels, as_rows, check_count


def detection_power(
    detector: BaseDetector,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_rows: int = 50,
    n_planted: int = 10,
    attacks: Sequence[str | BaseAttack] = ("badnets", "blend"),
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> dict[str, np.ndarray]:
    """Measure how often a detector finds a known trigger planted in these rows.

    A detector that finds nothing may be blind on this data. If it finds nine of ten planted
    triggers, then a real trigger of that kind, in as many rows, is unlikely. The result does not
    hold for other triggers, or for fewer rows.

    Parameters
    ----------
    detector : BaseDetector
        Cloned and fitted once for each planted trigger, which takes `n_planted` times as long as
        one fit.
    X : array-like of shape (n_samples, ...)
        Rows that count as clean, such as `detector.fit_resample` returns.
    y : array-like of shape (n_samples,)
    n_rows : int, default=50
        Number of rows that get each trigger.
    n_planted : int, default=10
        Number of triggers to plant, one a fit. The attacks take turns; each target class is drawn
        at random.
    attacks : sequence of str or BaseAttack, default=("badnets", "blend")
        As in `make_poisoned`. An attack object keeps its own target.
    n_jobs : int or None, default=None
        Number of fits in parallel, by joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of the targets and rows, and of a detector without a `random_state` of its own.

    Returns
    -------
    dict of str to numpy.ndarray of shape (n_planted,)
        ``"attack"``: name of the attack. ``"target"``: its target class; the first one for an
        all-to-all attack. ``"n_rows"``: number of rows that got it. ``"recall"``: share of them
        that were flagged. ``"found"``: whether the recall is 0.5 or more. ``"p_value"``: p-value
        of the fit.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or a trigger cannot be planted in that many rows.

    See Also
    --------
    describe_power : Tells the result in a sentence, for `write_report`.

    Examples
    --------
    >>> from antibackdoor import PoisonSearch
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.inspection import detection_power
    >>> X, y = load_digits_images()
    >>> power = detection_power(
    ...     PoisonSearch(epochs=5), X, y, n_rows=100, n_planted=1, random_state=0
    ... )
    >>> int(power["found"].sum())
    1
    """
    check_count("n_rows", n_rows)
    check_count("n_planted", n_planted)
    rows, labels = as_rows(X), as_labels("y", y)
    if n_rows >= len(labels):
        raise ValueError(f"n_rows={n_rows}; wanted 1 to {len(labels) - 1}, fewer than y has rows.")
    if isinstance(attacks, str | BaseAttack) or len(attacks) == 0:
        raise ValueError(f"attacks={attacks!r}; wanted a list of one attack or more.")
    generator = check_random_state(random_state)
    planted = []
    for number in range(n_planted):
        attack = attacks[number % len(attacks)]
        target = generator.choice(np.unique(labels)) if isinstance(attack, str) else None
        planted.append((attack, target, int(generator.randint(np.iinfo(np.int32).max))))
    found = Parallel(n_jobs=n_jobs)(
        delayed(_search_for)(detector, rows, labels, n_rows / len(labels), *one) for one in planted
    )
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def describe_power(power: Mapping[str, np.ndarray]) -> str:
    """Return what `detection_power` measured as a sentence.

    Parameters
    ----------
    power : mapping of str to numpy.ndarray of shape (n_planted,)
        As `detection_power` returns it.

    Returns
    -------
    str
        For the `remarks` of `write_report`.

    Raises
    ------
    ValueError
        If `power` lacks something.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.inspection import describe_power
    >>> power = {"attack": ["badnets", "blend"], "n_rows": [50, 50], "found": [True, False]}
    >>> describe_power({name: np.array(values) for name, values in power.items()})
    'Detection power: of 2 known triggers, each planted in 50 unflagged rows, 1 was found (badnets
    1 of 1, blend 0 of 1). Other triggers may be harder to find.'
    """
    missing = [name for name in ("attack", "n_rows", "found") if name not in power]
    if missing:
        raise ValueError(f"power has no {missing[0]!r}; wanted what detection_power returns.")
    attacks, n_rows, found = (np.asarray(power[name]) for name in ("attack", "n_rows", "found"))
    of_attacks = [
        f"{attack} {found[attacks == attack].sum()} of {(attacks == attack).sum()}"
        for attack in dict.fromkeys(attacks.tolist())
    ]
    rows = "1 unflagged row" if n_rows[0] == 1 else f"{n_rows[0]:,} unflagged rows"
    triggers = "known trigger" if len(found) == 1 else "known triggers, each"
    return (
        f"Detection power: of {len(found)} {triggers} planted in {rows}, "
        f"{found.sum()} {'was' if found.sum() == 1 else 'were'} found "
        f"({', '.join(of_attacks)}). Other triggers may be harder to find."
    )


def _search_for(
    detector: BaseDetector,
    X: Any,
    labels: np.ndarray,
    rate: float,
    attack: str | BaseAttack,
    target: Any,
    seed: int,
) -> dict[str, Any]:
    X_bad, y_bad, planted = make_poisoned(
        X, labels, attack=attack, poison_rate=rate, target_label=target, random_state=seed
    )
    search = clone(detector)
    if search.get_params().get("random_state", 0) is None:
        search.set_params(random_state=seed)
    search.fit(X_bad, y_bad)
    recall = float(search.isolate_mask_[planted].mean())
    return {
        "attack": attack if isinstance(attack, str) else type(attack).__name__,
        "target": np.unique(y_bad[planted])[0],
        "n_rows": int(planted.sum()),
        "recall": recall,
        "found": recall >= 0.5,
        "p_value": search.isolate_pvalue_,
    }
