"""Detectors: estimators that score and flag suspect training rows, and train no classifier."""

from antibackdoor.detection._activation_clustering import ActivationClustering
from antibackdoor.detection._base import BaseDetector, Detection, IsolationMixin
from antibackdoor.detection._loss_rank import LossRank
from antibackdoor.detection._nested import run_inside, settle
from antibackdoor.detection._parts import SMALLEST_CLASS
from antibackdoor.detection._poison_search import INSTEAD, PoisonSearch
from antibackdoor.detection._search import FEWEST_CLASSES
from antibackdoor.detection._select import (
    Isolation,
    flag_above,
    flag_most_suspect,
    flag_nothing,
    least_suspect_half,
)
from antibackdoor.detection._spectral_signatures import SpectralSignatures

__all__ = [
    "FEWEST_CLASSES",
    "INSTEAD",
    "SMALLEST_CLASS",
    "ActivationClustering",
    "BaseDetector",
    "Detection",
    "Isolation",
    "IsolationMixin",
    "LossRank",
    "PoisonSearch",
    "SpectralSignatures",
    "flag_above",
    "flag_most_suspect",
    "flag_nothing",
    "least_suspect_half",
    "run_inside",
    "settle",
]
