"""The signs of poison in one class, and which of its rows are the suspect ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import expon, norm
from sklearn.metrics import roc_auc_score

from antibackdoor.detection._low_margin import MarginOrder
from antibackdoor.detection._parts import Parts
from antibackdoor.detection._settings import SETTINGS


@dataclass(frozen=True)
class ClassEvidence:
    """What is known of one class.

    Attributes
    ----------
    parts : Parts
    transplant : float
    level : float
        The p-value below which the class is taken for poisoned.
    order : MarginOrder or None
        Where an early network was asked and the class has rows enough.
    diversities : tuple of two floats or None
        Of the first and the second part, where the class was held out.
    excesses : tuple of floats or None
        Diversities of the tenths of the order less that of the better half, likewise.
    margins : numpy.ndarray of shape (n_rows,) or None
        Confidence margins of the rows of the class, likewise.
    """

    parts: Parts
    transplant: float
    level: float
    order: MarginOrder | None = None
    diversities: tuple[float, float] | None = None
    excesses: tuple[float, ...] | None = None
    margins: np.ndarray | None = None

    @property
    def label(self) -> int:
        return self.parts.label

    @property
    def transplant_p(self) -> float:
        return float(expon.sf(max(self.transplant, 0.0), scale=SETTINGS.natural_transplant))

    @property
    def diversity_p(self) -> float:
        """Of the more diverse part."""
        if self.diversities is None:
            return 1.0
        return float(min(1.0, 2 * norm.sf(max(self.diversities), *SETTINGS.natural_diversity)))

    @property
    def parts_p(self) -> float:
        """Of the two signs of the parts, by Bonferroni's inequality, at their share of the alarms.

        A transplant may be contradicted.
        """
        contradicted = (
            self.diversities is not None and max(self.diversities) < SETTINGS.natural_look
        )
        transplant_p = 1.0 if contradicted else self.transplant_p
        smallest = min(transplant_p, self.diversity_p)
        return min(1.0, 2 * smallest / (1 - SETTINGS.share_of_low_margin))

    @property
    def low_margin_p(self) -> float:
        """Of the rows of lowest margin, at theirs."""
        if self.excesses is None:
            return 1.0
        tail = norm.sf(self.excesses[0], *SETTINGS.natural_excess)
        return float(min(1.0, tail / SETTINGS.share_of_low_margin))

    @property
    def p_value(self) -> float:
        return min(self.parts_p, self.low_margin_p)

    @property
    def is_poisoned(self) -> bool:
        """Whether the evidence is significant."""
        return self.p_value < self.level

    @property
    def is_of_low_margin(self) -> bool:
        """Whether it is of the low-margin rows, and not of a part, which is told more sharply."""
        return self.low_margin_p < self.level <= self.parts_p

    @property
    def is_of_other_classes(self) -> bool:
        """Whether the suspect rows have been recognised as rows of many other classes."""
        return self.is_of_low_margin or self.diversity_p < SETTINGS.telling_p_value

    @property
    def side(self) -> int:
        """Which part is the suspect one: 0 for the first, 1 for the second."""
        sizes = len(self.parts.first), len(self.parts.second)
        if self.diversities is not None and self.diversity_p < SETTINGS.telling_p_value:
            return int(np.argmax(self.diversities))
        # Poison from one class alone does not look like all others.
        if min(sizes) < SETTINGS.minority * sum(sizes):
            return int(np.argmin(sizes))
        return 0 if self.diversities is None else int(np.argmax(self.diversities))

    @property
    def probabilities(self) -> np.ndarray:
        """That each row of the class is of the suspect part, or of low margin."""
        if self.is_of_low_margin:
            return self._low_margin_probabilities()
        first = self.parts.probabilities
        return 1 - first if self.side else first

    @property
    def doubtful(self) -> np.ndarray:
        """Which rows of a poisoned class must not be trained on, shape (n_rows,), bool.

        Poison that the network has not learned yet stands with the natural rows in its
        features. A probe that knows the other classes well tells it by being sure of one.
        """
        probabilities = self.probabilities
        doubtful = probabilities > SETTINGS.doubtful
        suspect = probabilities > SETTINGS.poison
        margins = self.margins
        if margins is None or roc_auc_score(suspect, margins) < SETTINGS.telling_auc:
            return doubtful
        as_sure_as_poison = np.quantile(margins[suspect], 0.1)
        # Never the greater half: the class has to be learned from what is left.
        return doubtful | (margins > max(as_sure_as_poison, np.median(margins[~suspect])))

    def _low_margin_probabilities(self) -> np.ndarray:
        """By their place in the order: a half where the tenths end that are mostly poison.

        Doubtful is one more tenth, so that the class can be learned from the rest.
        """
        assert self.order is not None and self.excesses is not None
        # Between what natural low-margin rows give and what the first tenth has.
        half_poison = (SETTINGS.natural_excess[0] + self.excesses[0]) / 2
        natural = [excess < half_poison for excess in self.excesses]
        n_tenths = natural.index(True) if any(natural) else len(natural)
        length = len(self.order.tenths[0])
        place = np.empty(len(self.order.rows))
        place[np.searchsorted(self.parts.rows, self.order.rows)] = np.arange(len(place)) + 0.5
        ends = np.array([0, n_tenths, n_tenths + 1, n_tenths + 2]) * length
        return np.interp(place, ends, [1, SETTINGS.poison, SETTINGS.doubtful, 0])
