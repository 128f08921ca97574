"""Torch networks by name, with the features that lead to their logits."""

from antibackdoor.backbones._network import Network
from antibackdoor.backbones._registry import BACKBONES, Backbone, build_network, choose_backbone

__all__ = ["BACKBONES", "Backbone", "Network", "build_network", "choose_backbone"]
