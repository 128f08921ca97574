"""Classifiers that train a clean network on data that may hold a backdoor."""

from antibackdoor.defenses._abl import ABLClassifier
from antibackdoor.defenses._activation_clustering import ActivationClusteringClassifier
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._cbd import CBDClassifier
from antibackdoor.defenses._dbd import DBDClassifier
from antibackdoor.defenses._fine_pruning import FinePruningClassifier
from antibackdoor.defenses._mode_connectivity import ModeConnectivityClassifier
from antibackdoor.defenses._nad import NADClassifier
from antibackdoor.defenses._spectral_signatures import SpectralSignaturesClassifier
from antibackdoor.defenses._undefended import UndefendedClassifier

__all__ = [
    "ABLClassifier",
    "ActivationClusteringClassifier",
    "BaseDefense",
    "CBDClassifier",
    "DBDClassifier",
    "FinePruningClassifier",
    "ModeConnectivityClassifier",
    "NADClassifier",
    "SpectralSignaturesClassifier",
    "UndefendedClassifier",
]
