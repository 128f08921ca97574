"""
Your own backbone
=================

A backbone is a name, a `torch.nn.Module`, or a function of the shape of a sample and
the number of classes. It must end in a `torch.nn.Linear` that gives the logits: the
input of that layer serves as features.
"""

# %%
from torch import nn

from antibackdoor import CBDClassifier, PoisonSearch, make_poisoned
from antibackdoor.datasets import load_digits_images


def two_convolutions(input_shape, n_classes):
    channels, _, _ = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(n_classes),
    )


X, y = load_digits_images()
X, y = X[:1000], y[:1000]
X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)

# The detector's networks have the classifier's backbone, as long as it names none of its own.
clf = CBDClassifier(
    detector=PoisonSearch(epochs=10), backbone=two_convolutions, epochs=15, random_state=0
)
clf.fit(X_bad, y_bad)
print(clf.module_)
print(f"flagged: {len(clf.isolate_)}, of which poison: {poison_mask[clf.isolate_].sum()}")
