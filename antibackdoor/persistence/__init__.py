"""Files of fitted classifiers, detectors and attacks that run no code when they are loaded."""

from antibackdoor.persistence._load import load_model
from antibackdoor.persistence._save import save_model

__all__ = ["load_model", "save_model"]
