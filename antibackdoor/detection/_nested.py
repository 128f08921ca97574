"""A detector inside a classifier: what it takes from it, and the run it works in."""

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
from antibackdoor.training import Run
from antibackdoor.utils import draw_seed, seeded_torch

Detector = TypeVar("Detector", bound=BaseDetector)

#: Parameters that a detector takes from its classifier where its own are left at the default.
INHERITED = ("backbone", "image_shape", "layout", "device", "compile", "random_state")

# The rows are the classifier's, and so is the folder that the fit is written to.
_SHARED = ("image_shape", "layout", "device", "compile", "cache_dir")


def settle(detector: Detector, classifier: BaseEstimator) -> Detector:
    """Return a detector with the parameters that it takes from its classifier.

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
        If a parameter is out of range, or is not the classifier's where it has to be.
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
                f"wanted the same, or none of its own: the two work on the same rows."
            )
    return settled


@contextmanager
def run_inside(detector: BaseDetector, run: Run, *, own_randomness: bool) -> Iterator[Run]:
    """Give the run that a detector works in, inside a fit of its classifier.

    Parameters
    ----------
    detector : BaseDetector
        Settled.
    run : Run
        Of the classifier.
    own_randomness : bool
        Whether it has a `random_state` of its own, and finds then what its own fit would.

    Yields
    ------
    Run
    """
    inside = replace(
        run,
        recipe=detector._recipe(run.samples.layout),
        batch_size=detector.batch_size,
        new_network=detector._network_maker(run.samples, len(run.classes)),
    )
    if not own_randomness:
        yield inside
        return
    random_state = check_random_state(detector.random_state)
    with seeded_torch(draw_seed(random_state), run.device):
        inside.generator = torch.Generator(run.device).manual_seed(draw_seed(random_state))
        inside.new_network()  # as in fit, where a backbone that does not fit ends here
        yield inside


def _defaults(estimator: BaseEstimator) -> dict[str, Any]:
    signature = inspect.signature(type(estimator).__init__)
    return {name: parameter.default for name, parameter in signature.parameters.items()}


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, str) and value == default)
