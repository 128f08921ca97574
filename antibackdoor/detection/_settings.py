"""Every calibrated number of the search, with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchSettings:
    """What the search expects of clean data, and how long its networks train.

    Those called natural are what clean data of several kinds gave. The classes of the data at hand
    correct them (`_null.py`). The others were chosen on Fashion-MNIST, CIFAR-10 and drawn letters
    by the TPR and FPR of `benchmarks/search_trials.py`.

    Attributes
    ----------
    poison : float
        Probability from which on a row is flagged.
    doubtful : float
        Probability from which on a row is not trained on.
    natural_evidence : float
        Mean of an exponential distribution, of the evidence of the suspect parts of natural
        classes, times the logarithm of the number of known classes.
    standard_errors : float
        What a part shows counts less so many standard errors, the reciprocal root of its rows.
    natural_transplant : float
        Mean of an exponential distribution, of the transplants of natural classes.
    weight : float
        Number of classes that either of the two counts for.
    most_means : float
        The evidence of another class tells of the mean of natural ones no more than so many times
        the one that is expected.
    less_diverse : float
        A class whose parts are less diverse than those of most by this, divided by the same
        logarithm, is not told by its transplant.
    foreign_head : float
        The most foreign rows of each class, as a share of it, that the search for what they share
        begins from.
    natural_relabelling : tuple of float
        Mean and standard deviation of a normal distribution that lies above what the foreign rows
        of clean data relabel, 0.01 to 0.19.
    telling_p_value : float
        Below it, the p-value of the foreignness tells that the rows of the suspect part are of
        other classes.
    held_loss : float
        Of the first network, in nats, as ABL holds it: nothing is learned by heart above it.
    first_epochs : float
        Share of the epochs that the first network has, before it goes on as two.
    about_as_much : float
        Where the suspect part gives this share of the transplant of the parts by features,
        or more, it bears the trigger.
    n_groups : int
        Groups that the classes are shared out among.
    n_probes : int
        Probes that each lack one of them.
    probe_epochs : float
        Epochs of such a probe, as a share of those of the cross-fitted networks.
    check_epochs : float
        Further epochs of each cross-fitted network on half of the rows, to check the poison that is
        known, as a share of those of the search.
    most_checks : int
        The check is made again where it has dropped rows, so often at most.
    most_mistaken : float
        Share of the known poison of a class that the checks may drop.
    less_sure, surest : float
        A row is found if its probability is that of most known rows in the last check: of all but
        this share of them. It is 0.5 at least, and this at most.
    completion_epochs : float
        Further epochs of each cross-fitted network on all rows, in its first turn of finding the
        rest of the poison, as a share of those of the search.
    completion_further : float
        Epochs of each later turn, as a share of those of the search.
    completion_turns : int
        Turns of each network, at most.
    completion_growth : float
        After a later turn that makes the poison that is found grow by less than this share, a
        network has no further one.
    shown_natural : tuple of float
        Of the rows that are not called poison so many are shown as natural, in the first turn and
        the last: as poison is found, fewer of them are in doubt.
    fewest_known : int
        Classes that a probe has to know. Of data with fewer others none can be tested.
    compared_share : float
        Rows that no probe is trained on, to compare with.
    fewest_recognised : int
        Of fewer recognised rows no diversity is taken.
    most_of_a_class : float
        A larger share of a class is not suspect.
    knows_nothing : float
        A probe with less diversity than this of the rows to compare with, in nats, knows no class
        from another.
    """

    poison: float = 0.5
    doubtful: float = 0.1
    natural_evidence: float = 0.025
    standard_errors: float = 2.5
    natural_transplant: float = 0.08
    weight: float = 6
    most_means: float = 3
    less_diverse: float = 0.2
    foreign_head: float = 0.05
    natural_relabelling: tuple[float, float] = (0.2, 0.12)
    telling_p_value: float = 0.02
    held_loss: float = 0.5
    first_epochs: float = 0.5
    about_as_much: float = 0.5
    n_groups: int = 4
    n_probes: int = 2
    probe_epochs: float = 0.2
    check_epochs: float = 0.15
    most_checks: int = 3
    most_mistaken: float = 0.2
    less_sure: float = 0.1
    surest: float = 0.9
    completion_epochs: float = 0.25
    completion_further: float = 0.1
    completion_turns: int = 4
    completion_growth: float = 0.03
    shown_natural: tuple[float, float] = (0.5, 0.9)
    fewest_known: int = 3
    compared_share: float = 0.1
    fewest_recognised: int = 8
    most_of_a_class: float = 0.75
    knows_nothing: float = 0.1


SETTINGS = SearchSettings()
