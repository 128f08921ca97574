"""Is the difference between two parts of a class a trigger? Put it on rows of other classes."""

from __future__ import annotations

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.training import Samples, compute_logits

# Rows of other classes that are asked about: a share of them is known to two per cent.
_N_ROWS = 500


def transplant(
    network: Network,
    samples: Samples,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    seed: int,
) -> float:
    """Return how many rows of other classes the difference of two parts of a class converts.

    Two natural parts of a class differ in what either has of the class, and the mean
    difference of their rows turns few rows of other classes into it. Where one of them
    bears a fixed trigger, it is the trigger, and turns most.

    Parameters
    ----------
    network : Network
        That has seen all rows.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    first, second : numpy.ndarray of shape (n_rows,), int64
        Rows of the two parts.
    seed : int
        Chooses the rows of other classes.

    Returns
    -------
    float
        Rise of the share of these rows that `network` gives the label of the parts, when
        the mean row of one part is added and that of the other taken away: the larger
        of the two ways, -1 to 1.
    """
    label = labels[first[0]]
    elsewhere = np.flatnonzero(labels != label)
    chosen = np.random.RandomState(seed).permutation(elsewhere)[:_N_ROWS]
    rows, first_rows, second_rows = (
        torch.as_tensor(index, device=samples.device) for index in (np.sort(chosen), first, second)
    )
    difference = samples.mean(first_rows) - samples.mean(second_rows)

    def share(sign: int) -> float:
        moved = samples.shifted(rows, sign * difference)
        return float((compute_logits(network, moved).argmax(1) == int(label)).double().mean())

    return max(share(1), share(-1)) - share(0)
