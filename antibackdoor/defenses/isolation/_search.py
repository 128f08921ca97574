"""Which classes bear poison, and which of their rows: isolation that sizes itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import roc_auc_score

from antibackdoor.backbones import Network
from antibackdoor.defenses.isolation._completion import MOST_ROUNDS, find_rest
from antibackdoor.defenses.isolation._examiner import DOUBTFUL, POISON, Examiner
from antibackdoor.defenses.isolation._misfits import Order, has_tenths, order_by_fit
from antibackdoor.defenses.isolation._parts import SMALLEST_CLASS, split_classes
from antibackdoor.defenses.isolation._select import Isolation, flag_nothing
from antibackdoor.defenses.isolation._suspicion import Suspicion
from antibackdoor.defenses.isolation._testimony import assurance, information
from antibackdoor.defenses.isolation._transplant import transplant
from antibackdoor.training import Samples, compute_features, compute_logits

# Epochs of the network that lacks the suspect classes, as a share of those of the one searched.
_EXAMINE = 0.5

# And of the one that orders the rows by how well they fit their class.
_NOVICE = 0.25

#: How often a search has a network trained, or trained further, at most.
MOST_EXAMINATIONS = 1 + max(2, MOST_ROUNDS)

# Classes that are examined where no transplant is strong enough to speak: so many of those split
# most clearly, and so many of those whose transplants are largest. The network that is asked must
# know this many others.
_N_EXAMINED = 2
_FEWEST_KNOWN = 3

#: Of fewer classes that are large enough none is searched: the transplant would decide alone, and
#: it takes two clean classes that are much alike for poison.
FEWEST_CLASSES = 1 + _FEWEST_KNOWN

# And where that convicts none, so many of those whose misfits stand out. Not more: poison from a
# class that the network does not know is not recognised.
_N_ODDEST = 2

#: What to do where nothing can be searched.
INSTEAD = (
    "Flag a share of the rows that you choose (ABLClassifier: isolation_ratio=0.05), or try "
    "another detector (SpectralSignaturesClassifier, ActivationClusteringClassifier)."
)

# From this area under the curve on, assurance tells poison from the rest of a class.
_TELLING = 0.9

# Rows of the known classes that the examining network is not trained on, to compare with: a
# share of them, but enough for the mean over them to be near that over all.
_SHARE_COMPARED = 0.1
_FEWEST_COMPARED = 50

# Of less information, in nats, a network knows no class from another.
_KNOWS_NOTHING = 0.1


@dataclass(frozen=True)
class Finding:
    """What the search has found.

    Attributes
    ----------
    isolation : Isolation
        Scores between 0 and 1, and the rows taken for poison.
    classes : numpy.ndarray of shape (n_suspect,), int
        Classes that were found to bear poison, as encoded labels.
    p_value : float
        Probability that clean data would give as strong a sign, in whichever class; nan where
        nothing was tested.
    trusted : numpy.ndarray of shape (n_samples,), bool
        Rows that are not even doubtful: to be trained on.
    denied : numpy.ndarray of shape (n_samples,), bool
        Rows taken for poison that are not what their label says. Poison that keeps its true
        label is not among them.
    signs : dict of str to numpy.ndarray of shape (n_classes,), float64
        What speaks against each class: ``"transplant"``, ``"diversity"`` and ``"misfits"``; nan
        where it was not measured.
    """

    isolation: Isolation
    classes: np.ndarray
    p_value: float
    trusted: np.ndarray
    denied: np.ndarray
    signs: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Testimony:
    """What a network says of all rows that does not know some of the classes.

    Attributes
    ----------
    logits : numpy.ndarray of shape (n_samples, n_classes)
    known : numpy.ndarray of shape (n_classes,), bool
    most : float
        The information of rows that it has not seen, but whose classes it knows.
    """

    logits: np.ndarray
    known: np.ndarray
    most: float

    @property
    def speaks(self) -> bool:
        """Whether it knows one class from another at all."""
        return self.most > _KNOWS_NOTHING

    def diversity(self, rows: np.ndarray) -> float:
        """Information of these rows, as a share of that of rows whose classes it knows."""
        return information(self.logits[rows], self.known) / self.most


def not_searched(isolation: Isolation) -> Finding:
    """Return the finding where rows were isolated by another rule and nothing was tested."""
    return Finding(
        isolation=isolation,
        classes=np.array([], dtype=np.int64),
        p_value=np.nan,
        trusted=~isolation.mask,
        denied=isolation.mask,
        signs={},
    )


def count_large(labels: np.ndarray) -> int:
    """Return how many classes have rows enough to be searched, and to be known by a network."""
    return int((np.bincount(labels) >= SMALLEST_CLASS).sum())


def find_poison(
    network: Network,
    samples: Samples,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    examiner: Examiner,
    false_alarm_rate: float,
    seed: int,
) -> Finding:
    """Find the poisoned rows of training data, if there are any.

    Each class is split in two by what a backdoored network sees in its rows. Two signs
    speak for poison in one of the parts: the difference of the two, put on rows of other
    classes, turns them into this class (`transplant`); or a new network that does not know
    this class recognises the rows of the part as rows of many others (`information`). Both
    are compared with what natural parts of clean data give. A trigger that the backdoored
    network has not learned splits nothing: so where neither convicts a class, a novice orders
    the rows by how well they fit their class, and those that fit least are asked about.

    Where fewer than `FEWEST_CLASSES` are large enough, nothing is asked, trained or flagged.

    Parameters
    ----------
    network : Network
        That has seen all rows, and taken the backdoor in if there is one.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
        Encoded as 0 to n_classes - 1.
    scores : numpy.ndarray of shape (n_samples,)
        Suspicion from the losses of `network`: higher where they are lower.
    examiner : Examiner
        Called `MOST_EXAMINATIONS` times at most.
    false_alarm_rate : float
        Of the whole search, on clean data.
    seed : int

    Returns
    -------
    Finding
    """
    n_struck = count_large(labels) - _FEWEST_KNOWN
    if n_struck < 1:
        return not_searched(flag_nothing(len(labels)))
    features = compute_features(network, samples).cpu().numpy()
    n_classes = int(labels.max()) + 1
    level = false_alarm_rate / n_classes
    suspicions = [
        Suspicion(
            parts, transplant(network, samples, labels, parts.first, parts.second, seed), level
        )
        for parts in split_classes(features, scores, labels, seed)
    ]
    if not suspicions:
        return not_searched(flag_nothing(len(labels)))
    struck = _to_examine(suspicions)[:n_struck]
    _examine_parts(struck, _ask(struck, samples, labels, examiner, seed))
    convicted = any(suspicion.is_convicted for suspicion in suspicions)
    large = [suspicion for suspicion in suspicions if has_tenths(suspicion.parts.rows)]
    if large and not convicted:
        orders = order_by_fit(examiner(np.ones(len(labels), bool), _NOVICE), samples, labels)
        struck = _oddest(large, orders)[:n_struck]
        _examine_misfits(struck, _ask(struck, samples, labels, examiner, seed))
    finding = _conclude(suspicions, labels)
    # Of misfits, which are not all poison, a network would learn the class.
    if convicted:
        finding = _complete(finding, samples, labels, examiner)
    foreign = [suspicion.label for suspicion in suspicions if suspicion.is_foreign]
    # Of all that is flagged in these classes, what was completed included.
    return replace(finding, denied=finding.isolation.mask & np.isin(labels, foreign))


def _to_examine(suspicions: list[Suspicion]) -> list[Suspicion]:
    """Pick the classes that a transplant speaks against or, if none, the likeliest."""
    clearest = sorted(suspicions, key=lambda suspicion: suspicion.parts.overlap)
    strongest = sorted(suspicions, key=lambda suspicion: -suspicion.transplant)
    chosen = [suspicion for suspicion in strongest if suspicion.transplant_p < suspicion.level]
    if not chosen:
        likeliest = zip(clearest[:_N_EXAMINED], strongest[:_N_EXAMINED], strict=True)
        by_label = {suspicion.label: suspicion for pair in likeliest for suspicion in pair}
        chosen = list(by_label.values())
    return chosen


def _oddest(suspicions: list[Suspicion], orders: dict[int, Order]) -> list[Suspicion]:
    """Pick the classes whose misfits stand out most, and give them the order of their rows."""
    for suspicion in suspicions:
        suspicion.order = orders[suspicion.label]
    return sorted(suspicions, key=lambda suspicion: -orders[suspicion.label].oddity)[:_N_ODDEST]


def _examine_parts(suspicions: list[Suspicion], testimony: _Testimony) -> None:
    """Note what a network that knows none of these classes says about their parts."""
    for suspicion in suspicions:
        parts = suspicion.parts
        suspicion.assurances = assurance(testimony.logits[parts.rows], testimony.known)
        if testimony.speaks:
            first, second = map(testimony.diversity, (parts.first, parts.second))
            suspicion.diversities = first, second


def _examine_misfits(suspicions: list[Suspicion], testimony: _Testimony) -> None:
    """Note what a network that knows none of these classes says about the rows that fit least."""
    if not testimony.speaks:
        return
    for suspicion in suspicions:
        assert suspicion.order is not None
        usual = testimony.diversity(suspicion.order.better_half)
        suspicion.excesses = tuple(
            testimony.diversity(rows) - usual for rows in suspicion.order.tenths
        )


def _ask(
    suspicions: list[Suspicion],
    samples: Samples,
    labels: np.ndarray,
    examiner: Examiner,
    seed: int,
) -> _Testimony:
    """Ask a new network that is shown no row of these classes about all rows."""
    known = np.ones(int(labels.max()) + 1, dtype=bool)
    known[[suspicion.label for suspicion in suspicions]] = False
    trained_on = known[labels]
    compared = _draw_compared(np.flatnonzero(trained_on), seed)
    trained_on[compared] = False
    logits = compute_logits(examiner(trained_on, _EXAMINE), samples).double().cpu().numpy()
    return _Testimony(logits, known, information(logits[compared], known))


def _draw_compared(of_known: np.ndarray, seed: int) -> np.ndarray:
    """Draw the rows of the known classes that the examining network is not trained on."""
    wanted = max(_SHARE_COMPARED * len(of_known), _FEWEST_COMPARED)
    n_compared = int(min(wanted, len(of_known) / 2))
    return np.random.RandomState(seed).permutation(of_known)[:n_compared]


def _conclude(suspicions: list[Suspicion], labels: np.ndarray) -> Finding:
    scores = np.zeros(len(labels))
    trusted = np.ones(len(labels), dtype=bool)
    convicted = []
    for suspicion in suspicions:
        rows, probabilities = suspicion.parts.rows, suspicion.probabilities
        if suspicion.is_convicted:
            convicted.append(suspicion.label)
            scores[rows] = probabilities
            trusted[rows] = ~_doubtful(suspicion)
        else:
            # Below the threshold, and the higher the nearer its class came to a verdict.
            scores[rows] = POISON * probabilities * suspicion.level / suspicion.p_value
    n_classes = int(labels.max()) + 1
    names = ("transplant", "diversity", "misfits")
    signs = {name: np.full(n_classes, np.nan) for name in names}
    for suspicion in suspicions:
        signs["transplant"][suspicion.label] = suspicion.transplant
        if suspicion.diversities is not None:
            signs["diversity"][suspicion.label] = max(suspicion.diversities)
        if suspicion.excesses is not None:
            signs["misfits"][suspicion.label] = suspicion.excesses[0]
    smallest = min(suspicion.p_value for suspicion in suspicions)
    return Finding(
        isolation=Isolation(scores, POISON),
        classes=np.array(convicted, dtype=np.int64),
        p_value=min(1.0, n_classes * smallest),
        trusted=trusted,
        denied=np.zeros(len(labels), dtype=bool),
        signs=signs,
    )


def _complete(
    finding: Finding,
    samples: Samples,
    labels: np.ndarray,
    examiner: Examiner,
) -> Finding:
    """Flag the rest of the poison of the convicted classes."""
    flagged = finding.isolation.mask
    triggered = find_rest(flagged, finding.classes, samples, labels, examiner)
    scores = np.maximum(finding.isolation.scores, triggered)
    trusted = finding.trusted & (triggered <= DOUBTFUL)
    return replace(finding, isolation=Isolation(scores, POISON), trusted=trusted)


def _doubtful(suspicion: Suspicion) -> np.ndarray:
    """Tell which rows of a convicted class must not be trained on, shape (n_rows,), bool.

    Poison that the network has not learned yet stands with the natural rows in its
    features. A network that knows the other classes well tells it by being sure of one.
    """
    doubtful = suspicion.probabilities > DOUBTFUL
    suspect = suspicion.probabilities > POISON
    sure = suspicion.assurances
    if sure is None or roc_auc_score(suspect, sure) < _TELLING:
        return doubtful
    as_sure_as_poison = np.quantile(sure[suspect], 0.1)
    # Never the greater half: the class has to be learned from what is left.
    return doubtful | (sure > max(as_sure_as_poison, np.median(sure[~suspect])))
