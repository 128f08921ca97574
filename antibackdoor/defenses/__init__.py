"""Classifiers that train a clean network on data that may hold a backdoor."""

from antibackdoor.defenses._abl import ABLClassifier
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._cbd import CBDClassifier
from antibackdoor.defenses._undefended import UndefendedClassifier

__all__ = ["ABLClassifier", "BaseDefense", "CBDClassifier", "UndefendedClassifier"]
