"""Backdoor attacks: each is a transformer that owns its trigger and its label map."""

from antibackdoor.attacks._badnets import BadNets
from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._blend import Blend
from antibackdoor.attacks._registry import ATTACKS, ensure_fitted, make_attack
from antibackdoor.attacks._sig import SIG
from antibackdoor.attacks._wanet import WaNet

__all__ = [
    "ATTACKS",
    "SIG",
    "BadNets",
    "BaseAttack",
    "Blend",
    "WaNet",
    "ensure_fitted",
    "make_attack",
]
