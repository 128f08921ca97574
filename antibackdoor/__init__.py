"""Train clean classifiers on data that may hold a backdoor, and list the poisoned rows."""

from importlib.metadata import version

from antibackdoor import _start as _start  # before what takes long to load
from antibackdoor.datasets import make_poisoned
from antibackdoor.defenses import (
    ABLClassifier,
    ActivationClusteringClassifier,
    CBDClassifier,
    DBDClassifier,
    FinePruningClassifier,
    ModeConnectivityClassifier,
    NADClassifier,
    SpectralSignaturesClassifier,
    UndefendedClassifier,
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
    "ActivationClusteringClassifier",
    "CBDClassifier",
    "DBDClassifier",
    "FinePruningClassifier",
    "HistoryDisplay",
    "IsolationDisplay",
    "LossRecorder",
    "ModeConnectivityClassifier",
    "NADClassifier",
    "SpectralSignaturesClassifier",
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
