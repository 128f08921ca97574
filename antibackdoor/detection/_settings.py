"""Every calibrated number of the search, with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchSettings:
    """What the search takes for natural, and how long its networks train.

    Those called natural are what clean data gave (`benchmarks/calibration.py`; figures in
    `benchmarks/RESULTS.md`). The others were chosen on digits and CIFAR-10 by the TPR and FPR of
    `benchmarks/isolation.py`.

    Attributes
    ----------
    poison : float
        Probability from which on a row is flagged.
    doubtful : float
        Probability from which on a row is not trained on.
    natural_transplant : float
        Mean of an exponential distribution, of the transplants of clean classes. Classes of two
        opposite looks give larger ones; there the diversity has to speak for them.
    natural_diversity : tuple of float
        Mean and standard deviation of a normal distribution, of the diversities of parts of clean
        classes, as a share of those of rows of known classes. CIFAR-10 gave 0.30 to 0.81,
        digits far less.
    natural_excess : tuple of float
        The same of the excess of the low-margin rows: -0.08 to 0.41.
    natural_look : float
        A class of which neither part is more diverse has two natural parts, such as light and
        dark images of one thing, whatever its transplant. It lies below what most natural parts
        of CIFAR-10 have: of a trigger on rows of the class itself both parts are natural.
    share_of_low_margin : float
        Share of the false alarms that is left to the low-margin rows.
    telling_p_value : float
        Diversities below it tell which part is the suspect one, and that its rows are of other
        classes.
    minority : float
        A part with less than this share of its class is the more suspect one.
    probe_epochs : float
        Epochs of a probe, as a share of those of the first network.
    early_epochs : float
        Those of the early network, which orders rows by their margin.
    completion_epochs : tuple of float
        Those of each round of the completion.
    n_held_out : int
        So many classes are held out of those split most clearly, and of those of the largest
        transplants, where no transplant is significant.
    n_low_margin : int
        So many of those whose low-margin rows stand out. Not more: poison from a class that the
        probe does not know is not recognised.
    fewest_known : int
        Classes that a probe has to know. Of data with fewer others none can be tested: the
        transplant would decide alone, and takes two clean classes that are much alike for poison.
    compared_share : float
        Rows of the known classes that a probe is not trained on, to compare with.
    fewest_compared : int
        And this many at least, for the mean over them to be near that over all.
    knows_nothing : float
        A probe with less information than this of the rows to compare with, in nats, knows no
        class from another.
    telling_auc : float
        From this area under the curve on, confidence margins tell poison from its class.
    """

    poison: float = 0.5
    doubtful: float = 0.1
    natural_transplant: float = 0.06
    natural_diversity: tuple[float, float] = (0.5, 0.12)
    natural_excess: tuple[float, float] = (0.2, 0.1)
    natural_look: float = 0.4
    share_of_low_margin: float = 0.2
    telling_p_value: float = 0.05
    minority: float = 0.25
    probe_epochs: float = 0.5
    early_epochs: float = 0.25
    completion_epochs: tuple[float, ...] = (0.3, 0.1, 0.1, 0.1, 0.1)
    n_held_out: int = 2
    n_low_margin: int = 2
    fewest_known: int = 3
    compared_share: float = 0.1
    fewest_compared: int = 50
    knows_nothing: float = 0.1
    telling_auc: float = 0.9


SETTINGS = SearchSettings()
