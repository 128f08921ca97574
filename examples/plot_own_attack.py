"""
Your own attack
===============

An attack is a transformer with its parameters, of which ``parameters`` makes the constructor, and
a method of its own: ``_stamp``, which puts the trigger on rows. Labels, layouts, ranges of values
and the choice of rows come from `BaseAttack`.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from antibackdoor import (
    TriggerDisplay,
    UndefendedClassifier,
    make_asr_scorer,
    make_poisoned,
)
from antibackdoor.attacks import BaseAttack
from antibackdoor.datasets import load_digits_images
from antibackdoor.utils import parameters


@parameters
class Frame(BaseAttack):
    """A bright frame around the image.

    Parameters
    ----------
    strength : float, default=0.5
        How far the pixels of the frame go towards the brightest value: above 0, at most 1.
    """

    strength: float = 0.5

    def _fit_trigger(self, X, y):
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength={self.strength!r}; wanted a number above 0, at most 1.")
        self.frame_ = np.ones((self.layout_.height, self.layout_.width), dtype=bool)
        self.frame_[1:-1, 1:-1] = False

    def _stamp(self, rows):
        # A view whose last axes are height and width, whatever the layout of the rows.
        images = self.layout_.to_nchw(rows)
        brightest = self.value_range_[1]
        framed = images + self.strength * (brightest - images.astype(np.float64))
        # Whole numbers are rounded: numpy would cut off their fraction.
        framed = framed if rows.dtype.kind == "f" else framed.round()
        images[...] = np.where(self.frame_, framed, images)


# %%
# It goes wherever the attacks of the package go.
X, y = load_digits_images()
attack = Frame(target_label=3)
X_bad, y_bad, poison_mask = make_poisoned(X[:600], y[:600], attack=attack, random_state=0)
clf = UndefendedClassifier(epochs=8, batch_size=32, random_state=0).fit(X_bad, y_bad)
print(f"accuracy on clean digits: {clf.score(X[1200:], y[1200:]):.3f}")
print(f"attack success rate: {-make_asr_scorer(attack)(clf, X[1200:], y[1200:]):.3f}")

# %%
TriggerDisplay.from_estimator(attack, X[:600], n_images=3)
plt.show()
