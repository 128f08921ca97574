"""The verdict of a classifier on its training data, in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from antibackdoor.detection import FEWEST_CLASSES, INSTEAD, SMALLEST_CLASS, PoisonSearch
from antibackdoor.inspection._pixels import layout_of


def describe_verdict(classifier: Any, y: np.ndarray) -> dict[str, Any]:
    """Return the verdict of a fitted classifier in sentences: flags, p-value, suspect classes.

    Parameters
    ----------
    classifier : object
        Fitted, with the `isolate_` attributes.
    y : numpy.ndarray of shape (n_samples,)
        The labels of its training rows.

    Returns
    -------
    dict
        ``headline`` and ``assurance``: sentences. ``caveats``: a list of sentences.
        ``n_samples`` and ``n_flagged``: numbers of rows. ``classes``: for each class with flagged
        rows its ``label``, ``n_rows``, ``n_flagged`` and ``signs`` (numbers by name).

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.inspection import describe_verdict
    >>> X, y = load_digits_images()
    >>> clf = UndefendedClassifier(epochs=1, random_state=0).fit(X[:300], y[:300])
    >>> describe_verdict(clf, y[:300])["headline"]
    'Nothing is flagged in 300 rows.'
    """
    flagged = classifier.isolate_mask_
    return {
        "headline": _headline(classifier),
        "assurance": _assurance(classifier, y),
        "caveats": _caveats(classifier),
        "n_samples": len(y),
        "n_flagged": int(flagged.sum()),
        "classes": [_describe_class(classifier, y, label) for label in classifier.isolate_classes_],
    }


def _headline(classifier: Any) -> str:
    n_samples, n_flagged = len(classifier.isolate_mask_), len(classifier.isolate_)
    tested = not np.isnan(_p_value(classifier))
    if not_searched(classifier):
        return f"Not searched for poison: nothing is flagged in {n_samples:,} rows."
    if n_flagged == 0:
        return (
            f"{'No sign of poison: n' if tested else 'N'}othing is flagged in {n_samples:,} rows."
        )
    n_classes = len(classifier.isolate_classes_)
    where = "1 class" if n_classes == 1 else f"{n_classes:,} classes"
    rows = "row is" if n_flagged == 1 else "rows are"
    share = 100 * n_flagged / n_samples
    counted = f"{n_flagged:,} of {n_samples:,} {rows} flagged ({share:.1f} %)"
    return f"Signs of poison in {where}: {counted}." if tested else f"{counted}, in {where}."


def _assurance(classifier: Any, y: np.ndarray) -> str:
    if not getattr(classifier, "flags_rows", True):
        return "This method does not look for poisoned rows: no flags do not mean clean data."
    p_value = _p_value(classifier)
    if not_searched(classifier):
        return f"The data was not searched, so it may hold poison{_reason(classifier, y)}"
    if np.isnan(p_value):
        return "No p-value: how often clean data would be flagged was not tested."
    return (
        f"Clean data would show as strong a sign {_how_often(p_value)}. The search was set to "
        f"raise a false alarm on {100 * _search_of(classifier).false_alarm_rate:g} % of clean data "
        f"sets."
    )


def _caveats(classifier: Any) -> list[str]:
    """Return the caveats: classes that were not tested, and that it is no proof."""
    if np.isnan(_p_value(classifier)):
        return []  # nothing was measured
    proof = ["This is no proof that there is no poison."] if len(classifier.isolate_) == 0 else []
    return [*_untested(classifier), *proof]


def not_searched(classifier: Any) -> bool:
    """Return whether the data could not be searched, so that nothing is flagged."""
    return (
        isinstance(_search_of(classifier), PoisonSearch)
        and np.isnan(_p_value(classifier))
        and len(classifier.isolate_) == 0
    )


def _reason(classifier: Any, y: np.ndarray) -> str:
    """Return the end of a sentence: why the data could not be searched."""
    n_large = int((np.unique(y, return_counts=True)[1] >= SMALLEST_CLASS).sum())
    if _is_of_images(classifier) and n_large >= FEWEST_CLASSES:
        return "."
    return (
        f": the search needs images of {FEWEST_CLASSES} classes or more, each of {SMALLEST_CLASS} "
        f"images or more. {INSTEAD}"
    )


def _search_of(estimator: Any) -> Any:
    """Return a detector itself, or that of a classifier; None for the default."""
    detector = getattr(estimator, "detector", estimator)
    return PoisonSearch() if detector is None and _is_of_images(estimator) else detector


def _is_of_images(estimator: Any) -> bool:
    return layout_of(estimator, tuple(estimator.input_shape_)) is not None


def _untested(classifier: Any) -> list[str]:
    """Return a sentence on the classes that were not searched, if there are any."""
    measured = getattr(classifier, "isolate_signs_", {}).get("transplant", np.zeros(0))
    n_untested = int(np.isnan(measured).sum())
    if n_untested == 0:
        return []
    return [
        f"Not tested: {n_untested:,} of {len(measured):,} classes. Each has fewer than "
        f"{SMALLEST_CLASS} images, or no two parts to compare."
    ]


def _p_value(classifier: Any) -> float:
    return float(getattr(classifier, "isolate_pvalue_", np.nan))


def _how_often(p_value: float) -> str:
    """Return a p-value in words."""
    if p_value < 1e-4:
        return "less than once in 10,000 times (p-value below 0.0001: small means poisoned)"
    if p_value >= 0.1:
        return f"in {100 * p_value:.0f} of 100 cases (p-value {p_value:.2g}: small means poisoned)"
    once = float(f"{1 / p_value:.2g}")
    return f"about once in {once:,.0f} times (p-value {p_value:.2g}: small means poisoned)"


def _describe_class(classifier: Any, y: np.ndarray, label: Any) -> dict[str, Any]:
    known = np.searchsorted(classifier.classes_, label)
    signs = {
        name: float(f"{values[known]:.3g}")
        for name, values in getattr(classifier, "isolate_signs_", {}).items()
        if np.isfinite(values[known])
    }
    rows = y == label
    return {
        "label": str(label),
        "n_rows": int(rows.sum()),
        "n_flagged": int((rows & classifier.isolate_mask_).sum()),
        "signs": signs,
    }
