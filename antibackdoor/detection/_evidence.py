"""What is known of each class: its signs of poison, and which of its rows they point to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, hmean

from antibackdoor.detection._null import exponential_tail
from antibackdoor.detection._parts import SMALLEST_CLASS, Parts
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.detection._suspects import Suspects
from antibackdoor.detection._transplant import Transplant

# A p-value that is smaller than any float is not 0.
_SMALLEST = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Signs:
    """What was measured of one class.

    Attributes
    ----------
    suspects : Suspects
    parts : Parts
        Whose difference turned other rows.
    transplant : Transplant
        The strongest that was seen, and which of `parts` the other rows were made like.
    split_diversity : float
        Prediction diversity of the more diverse of the parts by features; nan where untold.
    """

    suspects: Suspects
    parts: Parts
    transplant: Transplant
    split_diversity: float

    @property
    def certain_transplant(self) -> float:
        """The transplant; nan of parts of so few rows that their mean may turn others by chance."""
        n_rows = min(len(self.parts.first), len(self.parts.second))
        return self.transplant.converted if n_rows >= SMALLEST_CLASS else float("nan")


@dataclass(frozen=True)
class ClassEvidence:
    """How likely it is that one class is natural, and which of its rows are suspect if it is not.

    Attributes
    ----------
    signs : Signs
    level : float
        The p-value below which the class is taken for poisoned.
    foreign_p, transplant_p : float
        How often natural classes of such data show as much.
    """

    signs: Signs
    level: float
    foreign_p: float
    transplant_p: float

    @property
    def label(self) -> int:
        return self.signs.parts.label

    @property
    def rows(self) -> np.ndarray:
        return self.signs.parts.rows

    @property
    def p_value(self) -> float:
        """Of the signs: their harmonic mean, three times the smallest where that stands alone.

        Wilson, The harmonic mean p-value for combining dependent tests, PNAS 2019.
        """
        told = [self.foreign_p, self.transplant_p, self.together_p]
        return float(hmean(np.maximum(told, _SMALLEST)))

    @property
    def together_p(self) -> float:
        """Of the two signs, by Fisher's method."""
        told = np.maximum([self.foreign_p, self.transplant_p], _SMALLEST)
        return float(chi2.sf(-2 * np.log(told).sum(), 4))

    @property
    def is_poisoned(self) -> bool:
        """Whether the evidence is significant."""
        return self.p_value < self.level

    @property
    def is_of_other_classes(self) -> bool:
        """Whether the suspect rows have been recognised as rows of many other classes."""
        return self.foreign_p < SETTINGS.telling_p_value or self.signs.suspects.chosen.is_told_apart

    @property
    def probabilities(self) -> np.ndarray:
        """That each row of the class is of the suspect part, shape (n_rows,)."""
        if self.is_of_other_classes:
            return self.signs.suspects.chosen.parts.probabilities
        first = self.signs.parts.probabilities
        return 1 - first if self.signs.transplant.of_second else first


def weigh(signs: Sequence[Signs], n_known: int, level: float) -> list[ClassEvidence]:
    """Compare the signs of each class with those of the others.

    Parameters
    ----------
    signs : sequence of Signs
        Of each class that has two parts.
    n_known : int
        Classes that a probe knows.
    level : float
        False-alarm rate of a class.

    Returns
    -------
    list of ClassEvidence
    """
    # A natural class looks like one or two others, which is the less foreign, the more there are.
    foreign_p = exponential_tail(
        np.array([one.suspects.strongest.evidence for one in signs]),
        mean=SETTINGS.natural_evidence / np.log(n_known),
        weight=SETTINGS.weight,
        most=SETTINGS.most_means,
    )
    transplant_p = exponential_tail(
        np.array([one.certain_transplant for one in signs]),
        mean=SETTINGS.natural_transplant,
        weight=SETTINGS.weight,
    )
    # A class of two opposite natural looks gives a large transplant: each of the looks is like one
    # other class. Of a trigger on rows of the class itself both parts are as diverse as usual.
    splits = np.array([one.split_diversity for one in signs])
    usual = np.nanmedian(splits) if np.isfinite(splits).any() else np.nan
    transplant_p[splits < usual - SETTINGS.less_diverse / np.log(n_known)] = 1.0
    return [
        ClassEvidence(one, level, *map(float, p_values))
        for one, *p_values in zip(signs, foreign_p, transplant_p, strict=True)
    ]
