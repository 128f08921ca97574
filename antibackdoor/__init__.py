"""Train clean classifiers on data that may hold a backdoor, and list the poisoned rows.

    from antibackdoor import ABLClassifier

    clf = ABLClassifier().fit(X, y)  # images or tables, poisoned or not
    clf.isolate_                     # suspect rows, most suspect first
    clf.predict(X_test)              # by a network that has not learned them

Classifiers
    ABLClassifier, CBDClassifier: no clean rows needed. DBDClassifier: the same, by trust.
    FinePruningClassifier, NADClassifier, ModeConnectivityClassifier: told of clean rows.
    UndefendedClassifier: to compare with.
Detectors, which list suspects and train no classifier
    PoisonSearch, LossRank, SpectralSignatures, ActivationClustering.
Cures, for ``ABLClassifier(cure=...)``
    NegativeLearning, Retrain, Mixed, Ascent, Joint.
    RelativeLoss is for ``CBDClassifier(weighting=...)``.
Look at the suspects
    write_report: a page to confirm or clear each. SuspectsDisplay, IsolationDisplay,
    HistoryDisplay, TradeoffDisplay, TriggerDisplay, LossRecorder: figures.
    `antibackdoor.inspection` reads the decisions back.
Attacks, to try defences on
    make_poisoned, and the classes of `antibackdoor.attacks`.
Scores
    make_asr_scorer, make_clean_accuracy_scorer, make_robust_accuracy_scorer,
    make_retention_scorer, lowest_asr_within; functions in `antibackdoor.metrics`.
Files
    save_model, load_model.

`antibackdoor.datasets` loads images, `antibackdoor.benchmark` makes tables. On the command line:
``antibackdoor --help``.
"""

from importlib.metadata import version

from antibackdoor import _start as _start  # before what takes long to load
from antibackdoor.datasets import make_poisoned
from antibackdoor.defenses import (
    ABLClassifier,
    Ascent,
    CBDClassifier,
    DBDClassifier,
    FinePruningClassifier,
    Joint,
    Mixed,
    ModeConnectivityClassifier,
    NADClassifier,
    NegativeLearning,
    RelativeLoss,
    Retrain,
    UndefendedClassifier,
)
from antibackdoor.detection import (
    ActivationClustering,
    LossRank,
    PoisonSearch,
    SpectralSignatures,
)
from antibackdoor.inspection import (
    HistoryDisplay,
    IsolationDisplay,
    LossRecorder,
    SuspectsDisplay,
    TradeoffDisplay,
    TriggerDisplay,
    write_report,
)
from antibackdoor.metrics import (
    lowest_asr_within,
    make_asr_scorer,
    make_clean_accuracy_scorer,
    make_retention_scorer,
    make_robust_accuracy_scorer,
)
from antibackdoor.persistence import load_model, save_model

__version__ = version("antibackdoor")

__all__ = [
    "ABLClassifier",
    "ActivationClustering",
    "Ascent",
    "CBDClassifier",
    "DBDClassifier",
    "FinePruningClassifier",
    "HistoryDisplay",
    "IsolationDisplay",
    "Joint",
    "LossRank",
    "LossRecorder",
    "Mixed",
    "ModeConnectivityClassifier",
    "NADClassifier",
    "NegativeLearning",
    "PoisonSearch",
    "RelativeLoss",
    "Retrain",
    "SpectralSignatures",
    "SuspectsDisplay",
    "TradeoffDisplay",
    "TriggerDisplay",
    "UndefendedClassifier",
    "load_model",
    "lowest_asr_within",
    "make_asr_scorer",
    "make_clean_accuracy_scorer",
    "make_poisoned",
    "make_retention_scorer",
    "make_robust_accuracy_scorer",
    "save_model",
    "write_report",
]
