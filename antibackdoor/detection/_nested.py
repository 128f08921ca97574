"""A detector inside a classifier: the parameters it inherits, and the run it works in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from antibackdoor.detection._base import BaseDetector
from antibackdoor.training import Run, resolve_batch_size
from antibackdoor.utils import draw_seed, seeded_torch

Detector = TypeVar("Detector", bound=BaseDetector)

#: Parameters that a detector inherits from its classifier unless they are set.
INHERITED = ("backbone", "image_shape", "layout", "device", "compile", "random_state")

# Parameters that must agree: detector and classifier share the rows and the cache folder.
_SHARED = ("image_shape", "layout", "device", "compile", "cache_dir")


def settle(detector: Detector, classifier: BaseEstimator) -> Detector:
    """Return a copy of a detector with the parameters that it inherits from its classifier.

    Parameters
    ----------
    detector : BaseDetector
        Not changed.
    classifier : BaseEstimator

    Returns
    -------
    BaseDetector

    Raises
    ------
    ValueError
        If a parameter is out of range, or differs from the classifier's where both must agree.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, LossRank
    >>> from antibackdoor.detection import settle
    >>> settle(LossRank(ratio=0.05), ABLClassifier(backbone="small-cnn"))
    LossRank(backbone='small-cnn', ratio=0.05)
    """
    parameters = detector.get_params(deep=False)
    defaults = _defaults(detector)
    for name in INHERITED:
        if name in parameters and _is_default(parameters[name], defaults[name]):
            parameters[name] = getattr(classifier, name)
    settled = type(detector)(**parameters)
    settled._validate_params()
    for name in _SHARED:
        if name not in parameters or _is_default(parameters[name], defaults[name]):
            continue
        own, outer = parameters[name], getattr(classifier, name)
        if own is not outer and own != outer:
            raise ValueError(
                f"detector__{name}={own!r}, but {name}={outer!r} of {type(classifier).__name__}; "
                f"wanted the same value, or none for the detector: both work on the same rows."
            )
    return settled


@contextmanager
def run_inside(detector: BaseDetector, run: Run, *, own_randomness: bool) -> Iterator[Run]:
    """Yield the run that a detector works in, inside a fit of its classifier.

    Parameters
    ----------
    detector : BaseDetector
        As returned by `settle`.
    run : Run
        The run of the classifier.
    own_randomness : bool
        Whether the detector has a `random_state` of its own. It then finds the same rows as in a
        fit of its own.

    Yields
    ------
    Run

    Examples
    --------
    A defence runs a detector so:

    >>> from antibackdoor import LossRank, UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.detection import run_inside, settle
    >>> class OwnRank(UndefendedClassifier):
    ...     def _train(self, run):
    ...         detector = settle(LossRank(epochs=1), self)
    ...         with run_inside(detector, run, own_randomness=False) as inside:
    ...             detection = detector._train(inside)
    ...         return detection.network, detection.isolation
    >>> X, y = load_digits_images()
    >>> len(OwnRank(random_state=0).fit(X[:300], y[:300]).isolate_)
    3
    """
    inside = replace(
        run,
        recipe=detector._recipe(run.samples.layout),
        batch_size=resolve_batch_size(detector.batch_size, len(run.samples)),
        new_network=detector._network_maker(run.samples, len(run.classes)),
    )
    if not own_randomness:
        yield inside
        return
    random_state = check_random_state(detector.random_state)
    with seeded_torch(draw_seed(random_state), run.device):
        inside.generator = torch.Generator(run.device).manual_seed(draw_seed(random_state))
        inside.new_network()  # draws as fit does, which checks the backbone at this point
        yield inside


def _defaults(estimator: BaseEstimator) -> dict[str, Any]:
    signature = inspect.signature(type(estimator).__init__)
    return {name: parameter.default for name, parameter in signature.parameters.items()}


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, str) and value == default)
