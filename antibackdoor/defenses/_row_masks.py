"""Masks of rows that a caller gives to fit: clean rows and suspects.

A mask that does not hold booleans is a TypeError, any other fault a ValueError that names it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from antibackdoor.utils._mapping import check_whole


def check_clean_mask(clean_mask: Any, y: np.ndarray) -> np.ndarray:
    """Return a mask of rows known to be clean as an array; every class must have one.

    Parameters
    ----------
    clean_mask : array-like of shape (n_samples,), bool
    y : numpy.ndarray of shape (n_samples,)
        Class labels, validated.
    """
    mask = _check_mask("clean_mask", clean_mask, y, "known to be clean")
    missing = np.setdiff1d(y, y[mask])
    if len(missing) > 0:
        raise ValueError(
            f"clean_mask marks no row of the classes {missing.tolist()}; wanted at least one row "
            f"of every class in y."
        )
    return mask


def check_suspects(suspects: Any, y: np.ndarray) -> np.ndarray:
    """Return a mask of rows that count as poison as an array; every class must keep a row.

    Parameters
    ----------
    suspects : array-like of shape (n_samples,), bool
    y : numpy.ndarray of shape (n_samples,)
        Class labels, validated.
    """
    mask = _check_mask("suspects", suspects, y, "taken for poison")
    missing = np.setdiff1d(y, y[~mask])
    if len(missing) > 0:
        raise ValueError(
            f"suspects marks all rows of the classes {missing.tolist()}; wanted at least one row "
            f"of every class to be left to train on."
        )
    return mask


def _check_mask(name: str, mask: Any, y: np.ndarray, meaning: str) -> np.ndarray:
    array = np.asarray(mask)
    check_whole(array, name)
    if array.dtype != bool:
        raise TypeError(f"{name} holds {array.dtype}; wanted booleans, True for a row {meaning}.")
    if array.shape != y.shape:
        raise ValueError(
            f"{name} has shape {array.shape}; wanted {y.shape}, one boolean for each row of X."
        )
    return array


def draw_by_class(labels: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Draw a share of the rows of every class at random, one row at least.

    Parameters
    ----------
    labels : torch.Tensor of shape (n_samples,), int64
    share : float
        Between 0 and 1.
    generator : torch.Generator
        On the device of the labels.

    Returns
    -------
    torch.Tensor of shape (n_rows,), int64
        Row indices, in rising order.
    """
    drawn = []
    for label in labels.unique():
        rows = (labels == label).nonzero().squeeze(1)
        order = torch.randperm(len(rows), generator=generator, device=generator.device)
        drawn.append(rows[order[: max(1, round(share * len(rows)))]])
    return torch.cat(drawn).sort().values
