"""Backdoor attacks: each is a transformer that owns its trigger and its label map."""

from antibackdoor.attacks._badnets import BadNets
from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._blend import Blend
from antibackdoor.attacks._label_maps import OneToMany, OneToOne
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._registry import ATTACKS, ensure_fitted, make_attack
from antibackdoor.attacks._sig import SIG
from antibackdoor.attacks._trojan import Trojan
from antibackdoor.attacks._wanet import WaNet

__all__ = [
    "ATTACKS",
    "SIG",
    "BadNets",
    "BaseAttack",
    "Blend",
    "LearnedAttack",
    "OneToMany",
    "OneToOne",
    "Trojan",
    "WaNet",
    "ensure_fitted",
    "make_attack",
]
