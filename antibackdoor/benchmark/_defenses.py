"""Defences by name: the columns of a table. A new one is a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from types import MappingProxyType
from typing import Any

from sklearn.base import BaseEstimator

from antibackdoor.backbones import Backbone
from antibackdoor.benchmark._variants import Variant, find_maker
from antibackdoor.defenses import (
    ABLClassifier,
    CBDClassifier,
    DBDClassifier,
    FinePruningClassifier,
    ModeConnectivityClassifier,
    NADClassifier,
    Retrain,
    UndefendedClassifier,
)
from antibackdoor.detection import (
    ActivationClustering,
    BaseDetector,
    PoisonSearch,
    SpectralSignatures,
)


def _searched(classifier: type[ABLClassifier | CBDClassifier], **parameters: Any) -> BaseEstimator:
    """Return a classifier with its default detector named, so that its epochs are told too.

    A detector of its own: those of two columns must not be set by each other.
    """
    return classifier(detector=PoisonSearch(), **parameters)


def _filtered(detector: type[BaseDetector], **parameters: Any) -> BaseEstimator:
    """Return the classifier that is trained on what a detector leaves, as its paper does."""
    return ABLClassifier(detector=detector(), cure=Retrain(), **parameters)


#: Every defence that has a name, and what makes it of parameters.
DEFENSES: dict[str, Callable[..., BaseEstimator]] = {
    "abl": partial(_searched, ABLClassifier),
    "abl-paper": ABLClassifier.from_paper,
    "abl-released": partial(ABLClassifier.from_paper, "released"),
    "activation-clustering": partial(_filtered, ActivationClustering),
    "cbd": partial(_searched, CBDClassifier),
    "cbd-paper": CBDClassifier.from_paper,
    "dbd": DBDClassifier,
    "dbd-paper": DBDClassifier.from_paper,
    "fine-pruning": FinePruningClassifier,
    "mode-connectivity": ModeConnectivityClassifier,
    "nad": NADClassifier,
    "spectral-signatures": partial(_filtered, SpectralSignatures),
    "undefended": UndefendedClassifier,
}


def make_defense(
    defense: str,
    *,
    backbone: Backbone,
    seed: int,
    schedule: float,
    device: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> BaseEstimator:
    """Return the classifier of a column.

    Parameters
    ----------
    defense : str
        A key of `DEFENSES` or the path of a class; parameters as in a call. These
        are taken as they stand: a schedule shortens the other ones only.
    backbone : str, torch.nn.Module or callable
    seed : int
    schedule : float
        What all other numbers of epochs are multiplied by; none falls below one.
    device : str
    settings : mapping of str to object
        Parameters of all columns; those that a column names itself go before.

    Returns
    -------
    BaseEstimator

    Raises
    ------
    ValueError, TypeError
        If there is no such defence, or it takes no such parameter.

    Examples
    --------
    >>> from antibackdoor.benchmark import make_defense
    >>> clf = make_defense("undefended", backbone="auto", seed=0, schedule=0.4, device="cpu")
    >>> type(clf).__name__, clf.epochs
    ('UndefendedClassifier', 10)
    """
    variant = Variant.parse(defense)
    maker = find_maker("defense", variant.name, DEFENSES)
    classifier = maker(**{"backbone": backbone, "random_state": seed, "device": device})
    shortened = {
        name: _shorten(value, schedule)
        for name, value in classifier.get_params().items()
        if _counts_epochs(name, value)
    }
    return classifier.set_params(**{**shortened, **settings, **variant.params})


def _counts_epochs(name: str, value: Any) -> bool:
    if name.endswith("lr_schedule"):  # epochs at which the rate falls, or a name
        return isinstance(value, Sequence) and not isinstance(value, str)
    return name.endswith("epochs") and isinstance(value, Integral)


def _shorten(value: Any, schedule: float) -> Any:
    if isinstance(value, Integral):
        return max(1, round(int(value) * schedule))
    return tuple(sorted({_shorten(epoch, schedule) for epoch in value}))
