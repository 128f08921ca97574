"""Classifiers that train a clean network on data that may hold a backdoor, and their cures."""

from antibackdoor.defenses._abl import ABLClassifier
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._cbd import CBDClassifier
from antibackdoor.defenses._cures import Cure, Cured, NegativeLearning, Retrain
from antibackdoor.defenses._dbd import DBDClassifier
from antibackdoor.defenses._fine_pruning import FinePruningClassifier
from antibackdoor.defenses._mode_connectivity import ModeConnectivityClassifier
from antibackdoor.defenses._nad import NADClassifier
from antibackdoor.defenses._relative_loss import RelativeLoss
from antibackdoor.defenses._undefended import UndefendedClassifier
from antibackdoor.defenses._unlearning import Ascent, Joint, Mixed

__all__ = [
    "ABLClassifier",
    "Ascent",
    "BaseDefense",
    "CBDClassifier",
    "Cure",
    "Cured",
    "DBDClassifier",
    "FinePruningClassifier",
    "Joint",
    "Mixed",
    "ModeConnectivityClassifier",
    "NADClassifier",
    "NegativeLearning",
    "RelativeLoss",
    "Retrain",
    "UndefendedClassifier",
]
