"""Attacks by name. A new attack is a file of its own and a line here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from antibackdoor.attacks._adaptive_blend import AdaptiveBlend
from antibackdoor.attacks._adaptive_poison import AdaptivePoison
from antibackdoor.attacks._badnets import BadNets
from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._blend import Blend
from antibackdoor.attacks._composite import Composite
from antibackdoor.attacks._dfst import DFST
from antibackdoor.attacks._dynamic import Dynamic
from antibackdoor.attacks._feature_collision import FeatureCollision
from antibackdoor.attacks._label_consistent import LabelConsistent
from antibackdoor.attacks._latent import LatentBackdoor
from antibackdoor.attacks._low_frequency import LowFrequency
from antibackdoor.attacks._sample_specific import SampleSpecific
from antibackdoor.attacks._sig import SIG
from antibackdoor.attacks._trojan import Trojan
from antibackdoor.attacks._wanet import WaNet

#: Every attack that has a name.
ATTACKS: dict[str, type[BaseAttack]] = {
    "adaptive-blend": AdaptiveBlend,
    "adaptive-cbd": AdaptivePoison,
    "badnets": BadNets,
    "blend": Blend,
    "cba": Composite,
    "cl": LabelConsistent,
    "dfst": DFST,
    "dynamic": Dynamic,
    "fc": FeatureCollision,
    "lba": LatentBackdoor,
    "lf": LowFrequency,
    "sig": SIG,
    "ssba": SampleSpecific,
    "trojan": Trojan,
    "wanet": WaNet,
}


def make_attack(attack: str | BaseAttack, **params: Any) -> BaseAttack:
    """Return an attack by its name; an attack object is returned as it is.

    Parameters
    ----------
    attack : str or BaseAttack
        A key of `ATTACKS`, or an attack, which is returned as it is.
    **params
        Parameters for a named attack. An attack object has its own; these must agree with them.

    Returns
    -------
    BaseAttack

    Raises
    ------
    ValueError
        If there is no attack of that name, or a parameter contradicts the attack object.
    TypeError
        If `attack` is neither a name nor an attack, or has no such parameter.

    Examples
    --------
    >>> from antibackdoor.attacks import make_attack
    >>> make_attack("badnets", target_label=3)
    BadNets(target_label=3)
    """
    if isinstance(attack, BaseAttack):
        _check_agrees(attack, params)
        return attack
    if not isinstance(attack, str):
        given = f"the class {attack.__name__}" if isinstance(attack, type) else repr(attack)
        raise TypeError(
            f"attack is {given}; wanted one of {sorted(ATTACKS)} or an attack, such as BadNets()."
        )
    if attack not in ATTACKS:
        raise ValueError(f"attack={attack!r}; wanted one of {sorted(ATTACKS)} or an attack.")
    return ATTACKS[attack](**params)


def ensure_fitted(attack: BaseAttack, X: ArrayLike, y: ArrayLike | None = None) -> BaseAttack:
    """Return the attack itself if it is fitted, otherwise a clone fitted on X and y.

    Parameters
    ----------
    attack : BaseAttack
        Never changed.
    X : array-like of shape (n, ...)
        Rows to fit the clone on.
    y : array-like of shape (n,), default=None
        Their labels.

    Returns
    -------
    BaseAttack

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.attacks import BadNets, ensure_fitted
    >>> attack = BadNets()
    >>> fitted = ensure_fitted(attack, np.zeros((2, 8, 8), dtype=np.uint8))
    >>> fitted is attack, ensure_fitted(fitted, np.zeros((2, 8, 8))) is fitted
    (False, True)
    """
    try:
        check_is_fitted(attack)
    except NotFittedError:
        return clone(attack).fit(X, y)
    return attack


def _check_agrees(attack: BaseAttack, params: dict[str, Any]) -> None:
    own = attack.get_params(deep=False)
    for name, value in params.items():
        if name not in own:
            raise TypeError(f"{type(attack).__name__} takes no parameter {name!r}.")
        if not np.array_equal(own[name], value):
            raise ValueError(
                f"{name}={value!r} contradicts the attack given, {attack!r}; set it on the "
                f"attack, and nowhere else."
            )
