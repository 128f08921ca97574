"""What is known of each class: its signs of poison, and which of its rows they point to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, hmean

from antibackdoor.detection._null import exponential_tail, normal_tail
from antibackdoor.detection._parts import Parts
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.detection._suspects import surely
from antibackdoor.detection._transplant import Transplant

# A p-value that is smaller than any float is not 0.
_SMALLEST = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Signs:
    """What was measured of one class.

    Attributes
    ----------
    parts : Parts
        Whose difference turned other rows.
    foreign : Parts
        The suspect part first.
    transplant : Transplant
        The strongest that was seen, and which of `parts` the other rows were made like.
    split_diversity : float
        Prediction diversity of the more diverse of `parts`.
    diversity, rest_diversity : float
        Of the suspect part, and of the rest of the class; nan where nothing could be told, all
        three.
    n_suspect : int
        Recognised rows of the suspect part.
    """

    parts: Parts
    foreign: Parts
    transplant: Transplant
    split_diversity: float
    diversity: float
    rest_diversity: float
    n_suspect: int

    @property
    def contrast(self) -> float:
        """Diversity less that of the rest: 0 where the part is the whole class, nan if untold."""
        is_whole = np.isnan(self.rest_diversity) and not np.isnan(self.diversity)
        return 0.0 if is_whole else self.diversity - self.rest_diversity


@dataclass(frozen=True)
class ClassEvidence:
    """How likely it is that one class is natural, and which of its rows are suspect if it is not.

    Attributes
    ----------
    signs : Signs
    level : float
        The p-value below which the class is taken for poisoned.
    diversity_p, contrast_p, transplant_p : float
        How often natural classes of such data show as much.
    """

    signs: Signs
    level: float
    diversity_p: float
    contrast_p: float
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
    def foreign_p(self) -> float:
        """Of the diversity of the suspect part, and what it is above that of the rest."""
        return float(hmean(np.maximum([self.diversity_p, self.contrast_p], _SMALLEST)))

    @property
    def together_p(self) -> float:
        """Of these and the transplant, by Fisher's method."""
        told = np.maximum([self.foreign_p, self.transplant_p], _SMALLEST)
        return float(chi2.sf(-2 * np.log(told).sum(), 4))

    @property
    def is_poisoned(self) -> bool:
        """Whether the evidence is significant."""
        return self.p_value < self.level

    @property
    def is_of_other_classes(self) -> bool:
        """Whether the suspect rows have been recognised as rows of many other classes."""
        return self.foreign_p < SETTINGS.telling_p_value

    @property
    def probabilities(self) -> np.ndarray:
        """That each row of the class is of the suspect part, shape (n_rows,)."""
        if self.is_of_other_classes:
            return self.signs.foreign.probabilities
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
    diversities = np.array([one.diversity for one in signs])
    rests = np.array([one.rest_diversity for one in signs])
    contrasts = np.array([one.contrast for one in signs])
    splits = np.array([one.split_diversity for one in signs])
    n_suspect = np.array([one.n_suspect for one in signs])
    converted = np.array([one.transplant.converted for one in signs])
    spread = SETTINGS.natural_diversity / np.log(n_known)
    certain = surely(diversities, n_suspect)
    diversity_p = normal_tail(certain, spread=spread, weight=SETTINGS.weight)
    # A part is foreign to a rest. Where it is the whole class, the class is diverse as it is.
    diversity_p[~(rests < diversities)] = 1.0
    contrast_p = normal_tail(
        np.maximum(certain, 0.0) * surely(contrasts, n_suspect),
        spread=SETTINGS.natural_contrast / np.log(n_known),
        weight=SETTINGS.weight,
    )
    transplant_p = exponential_tail(
        converted, mean=SETTINGS.natural_transplant, weight=SETTINGS.weight
    )
    # A class of two opposite natural looks gives a large transplant: each of the looks is like one
    # other class. Of a trigger on rows of the class itself both parts are as diverse as usual.
    usual = np.nanmedian(splits) if np.isfinite(splits).any() else np.nan
    transplant_p[splits < usual - spread] = 1.0
    return [
        ClassEvidence(one, level, *map(float, p_values))
        for one, *p_values in zip(signs, diversity_p, contrast_p, transplant_p, strict=True)
    ]
