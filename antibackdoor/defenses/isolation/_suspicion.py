"""What is known of one class, and how much of it speaks for poison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import expon, norm

from antibackdoor.defenses.isolation._examiner import DOUBTFUL, POISON
from antibackdoor.defenses.isolation._misfits import Order
from antibackdoor.defenses.isolation._parts import Parts

# What clean data is taken to give (benchmarks/calibration.py, benchmarks/RESULTS.md). Transplants:
# an exponential distribution of this mean. Diversities: a normal one of this mean and deviation;
# those of CIFAR-10's natural classes were 0.30 to 0.81, digits' far less. Excess of the misfits:
# another normal one; it was -0.08 to 0.41. Classes of two opposite looks give larger transplants;
# there the diversity must speak for them.
_NATURAL_TRANSPLANT = 0.06
_NATURAL_DIVERSITY = (0.5, 0.12)
_NATURAL_EXCESS = (0.2, 0.1)

# Of the false alarms, this share is left to the misfits.
_SHARE_OF_MISFITS = 0.2

# A class of which neither part is more diverse than this has two natural parts, as light and
# dark images of one thing, however many rows their difference turns into it. Below what most
# natural parts of CIFAR-10 have, for triggers on rows of the class itself are on natural parts.
_NATURAL_LOOK = 0.4

# Below this the diversities alone say which part is the suspect one, and that it is foreign.
_SPEAKING = 0.05

# A part that holds less than this share of its class is the more suspect of the two.
_MINORITY = 1 / 4


@dataclass
class Suspicion:
    """What is known of one class.

    Attributes
    ----------
    parts : Parts
    transplant : float
    level : float
        The p-value from which on the class is found to bear poison.
    order : Order or None
        Where a novice was asked and the class has rows enough.
    diversities : tuple of two floats or None
        Of the first and the second part, where the class has been examined.
    excesses : tuple of floats or None
        Diversities of the tenths of the order less that of the better half, likewise.
    assurances : numpy.ndarray of shape (n_rows,) or None
        Of the rows of the class, likewise.
    """

    parts: Parts
    transplant: float
    level: float
    order: Order | None = None
    diversities: tuple[float, float] | None = None
    excesses: tuple[float, ...] | None = None
    assurances: np.ndarray | None = None

    @property
    def label(self) -> int:
        return self.parts.label

    @property
    def transplant_p(self) -> float:
        return float(expon.sf(max(self.transplant, 0.0), scale=_NATURAL_TRANSPLANT))

    @property
    def diversity_p(self) -> float:
        """Of the more diverse part."""
        if self.diversities is None:
            return 1.0
        return float(min(1.0, 2 * norm.sf(max(self.diversities), *_NATURAL_DIVERSITY)))

    @property
    def parts_p(self) -> float:
        """Of the two signs of the parts, by Bonferroni's inequality, at their share of the alarms.

        A transplant may be contradicted.
        """
        contradicted = self.diversities is not None and max(self.diversities) < _NATURAL_LOOK
        transplant_p = 1.0 if contradicted else self.transplant_p
        return min(1.0, 2 * min(transplant_p, self.diversity_p) / (1 - _SHARE_OF_MISFITS))

    @property
    def misfits_p(self) -> float:
        """Of those that fit least, at theirs."""
        if self.excesses is None:
            return 1.0
        return float(min(1.0, norm.sf(self.excesses[0], *_NATURAL_EXCESS) / _SHARE_OF_MISFITS))

    @property
    def p_value(self) -> float:
        return min(self.parts_p, self.misfits_p)

    @property
    def is_convicted(self) -> bool:
        return self.p_value < self.level

    @property
    def is_of_misfits(self) -> bool:
        """Whether misfits convict the class, and no part, which are told more sharply."""
        return self.misfits_p < self.level <= self.parts_p

    @property
    def is_foreign(self) -> bool:
        """Whether the suspect rows have been recognised as rows of many other classes."""
        return self.is_of_misfits or self.diversity_p < _SPEAKING

    @property
    def side(self) -> int:
        """Which part is the suspect one: 0 for the first, 1 for the second."""
        sizes = len(self.parts.first), len(self.parts.second)
        if self.diversities is not None and self.diversity_p < _SPEAKING:
            return int(np.argmax(self.diversities))
        # Poison from one class alone does not look like all others.
        if min(sizes) < _MINORITY * sum(sizes):
            return int(np.argmin(sizes))
        return 0 if self.diversities is None else int(np.argmax(self.diversities))

    @property
    def probabilities(self) -> np.ndarray:
        """That each row of the class is of the suspect part, or a misfit."""
        if self.is_of_misfits:
            return self._misfit_probabilities()
        first = self.parts.probabilities
        return 1 - first if self.side else first

    def _misfit_probabilities(self) -> np.ndarray:
        """By their place in the order: a half where the tenths end that are mostly poison.

        Doubtful is one more tenth, so that the class can be learned from the rest.
        """
        assert self.order is not None and self.excesses is not None
        # Between what natural misfits give and what the first tenth has.
        half_poison = (_NATURAL_EXCESS[0] + self.excesses[0]) / 2
        natural = [excess < half_poison for excess in self.excesses]
        n_tenths = natural.index(True) if any(natural) else len(natural)
        length = len(self.order.tenths[0])
        place = np.empty(len(self.order.rows))
        place[np.searchsorted(self.parts.rows, self.order.rows)] = np.arange(len(place)) + 0.5
        ends = np.array([0, n_tenths, n_tenths + 1, n_tenths + 2]) * length
        return np.interp(place, ends, [1, POISON, DOUBTFUL, 0])
