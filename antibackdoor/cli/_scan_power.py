"""The detection power of a scan: known triggers, planted in what it has not flagged."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from sklearn.base import clone

from antibackdoor.benchmark import limited_threads
from antibackdoor.cli._data import Data
from antibackdoor.cli._text import note
from antibackdoor.detection import settle
from antibackdoor.inspection import describe_power, detection_power

# A known trigger is planted in so many images, and in no larger share of them.
_N_ROWS, _LARGEST_SHARE = 50, 0.05


def tell_power(estimator: Any, data: Data, arguments: argparse.Namespace) -> list[str]:
    """Return a sentence on how many planted triggers the search finds.

    Parameters
    ----------
    estimator : object
        Fitted; a classifier with a detector, or the detector.
    data : Data
    arguments : argparse.Namespace
        Of the command line; ``power`` is the number of triggers.

    Returns
    -------
    list of str
        Empty where none is asked for.
    """
    if arguments.power == 0:
        return []
    if np.isnan(estimator.isolate_pvalue_):
        return ["Detection power: not measured, for the data was not searched."]
    unflagged = np.flatnonzero(~estimator.isolate_mask_)
    searches = getattr(estimator, "detector", None)
    detector = estimator if searches is None else settle(searches, estimator)
    if not arguments.quiet:
        note(f"Planting known triggers: {arguments.power} more searches")
    try:
        with limited_threads(arguments.threads):
            power = detection_power(
                # One bar for each of the searches would say little.
                clone(detector).set_params(cache_dir=None).set_callbacks(),
                data.X[unflagged],
                data.y[unflagged],
                n_rows=max(1, min(_N_ROWS, int(_LARGEST_SHARE * len(unflagged)))),
                n_planted=arguments.power,
                random_state=arguments.seed,
            )
    except ValueError as error:
        # Too few images or classes are left. The results of the scan are good all the same.
        return [f"Detection power: not measured. {error}"]
    return [describe_power(power)]
