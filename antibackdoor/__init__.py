"""Train clean classifiers on data that may hold a backdoor, and list the poisoned rows.

    from antibackdoor import ABLClassifier

    clf = ABLClassifier().fit(X, y)  # images or tables, poisoned or not
    clf.isolate_                     # suspect rows, most suspect first
    clf.predict(X_test)              # by a network that has not learned them

Classifiers that need no clean rows
    ABLClassifier                 Anti-Backdoor Learning: detect poison, then train without it
    CBDClassifier                 train a network to differ from a backdoored one
    DBDClassifier                 learn features without labels, then drop bad labels; flags none
    UndefendedClassifier          plain training, as a baseline
Classifiers that need some clean rows, ``fit(X, y, clean_mask=...)``
    FinePruningClassifier         prune channels that clean rows do not activate
    NADClassifier                 distil the attention of a fine-tuned teacher
    ModeConnectivityClassifier    take a network between a backdoored and a fine-tuned one
Detectors, which list suspects and train no classifier
    PoisonSearch                  test whether there is poison, and list it
    LossRank                      flag a share of the rows, those of lowest loss
    SpectralSignatures            flag outliers of the features of each class
    ActivationClustering          flag small clusters of the features of each class
Cures, for ``ABLClassifier(cure=...)``
    NegativeLearning              new network, taught that the suspect labels are wrong
    Retrain                       new network, without the suspect rows
    Mixed                         unlearn a part of the poison, flag what reacts
    Ascent                        fine-tune, then unlearn by gradient ascent
    Joint                         fine-tune and unlearn at the same time
Sample weights, for ``CBDClassifier(weighting=...)``
    RelativeLoss                  compare the losses of the two networks
Inspection of suspects
    write_report                  page to confirm or clear each suspect row
    SuspectsDisplay               contact sheet of the suspect images
    IsolationDisplay              histogram of the suspicion scores
    HistoryDisplay                accuracy and losses by epoch
    LossRecorder                  callback: losses of all rows by epoch
    TradeoffDisplay               clean accuracy against attack success rate
    TriggerDisplay                images without and with a trigger
Progress of a fit, ``set_callbacks(FitProgress())``
    FitProgress                   callback: estimated time, and one bar for the whole fit
Poisoned data, to try defences on
    make_poisoned                 poison arrays by an attack of `antibackdoor.attacks`
Scorers
    make_asr_scorer               attack success rate
    make_clean_accuracy_scorer    accuracy on rows that are not poisoned
    make_robust_accuracy_scorer   triggered rows predicted as their true class
    make_retention_scorer         for tuning without knowing the trigger
    lowest_asr_within             `refit` of a grid search: lowest ASR at high accuracy
Model files
    save_model, load_model        files that run no code when they are loaded

Subpackages: `attacks`, `datasets`, `metrics`, `inspection` (also reads the decisions of a review)
and `benchmark` (tables). Command line: ``antibackdoor --help``.
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
    FitProgress,
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
    "FitProgress",
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
