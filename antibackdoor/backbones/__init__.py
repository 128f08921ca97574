"""Backbones: torch networks by name, split into features and a linear head."""

from antibackdoor.backbones._digest import digest_network
from antibackdoor.backbones._network import Network
from antibackdoor.backbones._pretrained import Pretrained
from antibackdoor.backbones._registry import BACKBONES, Backbone, build_network, choose_backbone

__all__ = [
    "BACKBONES",
    "Backbone",
    "Network",
    "Pretrained",
    "build_network",
    "choose_backbone",
    "digest_network",
]
