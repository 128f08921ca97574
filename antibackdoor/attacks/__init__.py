"""Backdoor attacks: transformers that put a trigger on rows and map their labels."""

from antibackdoor.attacks._adaptive_blend import AdaptiveBlend
from antibackdoor.attacks._adaptive_poison import AdaptivePoison
from antibackdoor.attacks._badnets import BadNets
from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._blend import Blend
from antibackdoor.attacks._composite import Composite
from antibackdoor.attacks._dfst import DFST
from antibackdoor.attacks._dynamic import Dynamic
from antibackdoor.attacks._feature_collision import FeatureCollision
from antibackdoor.attacks._label_consistent import LabelConsistent
from antibackdoor.attacks._label_maps import OneToMany, OneToOne
from antibackdoor.attacks._latent import LatentBackdoor
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._low_frequency import LowFrequency
from antibackdoor.attacks._registry import ATTACKS, ensure_fitted, make_attack
from antibackdoor.attacks._sample_specific import SampleSpecific
from antibackdoor.attacks._sig import SIG
from antibackdoor.attacks._trojan import Trojan
from antibackdoor.attacks._wanet import WaNet

__all__ = [
    "ATTACKS",
    "DFST",
    "SIG",
    "AdaptiveBlend",
    "AdaptivePoison",
    "BadNets",
    "BaseAttack",
    "Blend",
    "Composite",
    "Dynamic",
    "FeatureCollision",
    "LabelConsistent",
    "LatentBackdoor",
    "LearnedAttack",
    "LowFrequency",
    "OneToMany",
    "OneToOne",
    "SampleSpecific",
    "Trojan",
    "WaNet",
    "ensure_fitted",
    "make_attack",
]
