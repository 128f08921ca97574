"""
Comparing defences
==================

Five ways to train on the same poisoned digits, side by side: what is left of the
accuracy, and what is left of the backdoor. Fine-pruning is told of some clean rows,
spectral signatures at most how much poison a class holds; the others are told nothing.
Schedules are short here, so that the page is made in seconds: for figures to quote,
``antibackdoor bench`` makes tables (see the page on tables).
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from antibackdoor import (
    ABLClassifier,
    ActivationClustering,
    FinePruningClassifier,
    PoisonSearch,
    Retrain,
    SpectralSignatures,
    TradeoffDisplay,
    UndefendedClassifier,
    make_poisoned,
)
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X_train, y_train, X_test, y_test = X[:500], y[:500], X[1200:], y[1200:]
attack = BadNets(target_label=0).fit(X_train, y_train)
X_bad, y_bad, poison_mask = make_poisoned(X_train, y_train, attack=attack, random_state=0)

# %%
# ABL, activation clustering and spectral signatures are one classifier with another detector: any
# detector meets any cure.
#
# A cleansing defence needs rows that somebody has checked. Every twelfth row, if it is clean,
# stands for them.
checked = ~poison_mask & (np.arange(len(X_bad)) % 12 == 0)
print(f"{poison_mask.sum()} of {len(X_bad)} rows are poison; {checked.sum()} are known to be clean")

# %%
common = {"batch_size": 32, "random_state": 0}
classifiers = {
    "undefended": UndefendedClassifier(epochs=8, **common),
    "ABL": ABLClassifier(detector=PoisonSearch(epochs=6), epochs=8, **common),
    "fine-pruning": FinePruningClassifier(epochs=8, finetune_epochs=8, **common),
    "activation clustering": ABLClassifier(
        detector=ActivationClustering(epochs=8, batch_size=32), cure=Retrain(), epochs=8, **common
    ),
    "spectral signatures": ABLClassifier(
        detector=SpectralSignatures(epochs=8, batch_size=32), cure=Retrain(), epochs=8, **common
    ),
}
for name, clf in classifiers.items():
    known = {"clean_mask": checked} if name == "fine-pruning" else {}
    clf.fit(X_bad, y_bad, **known)

# %%
# Lower right is where one wants to be: accurate, and not to be steered by the trigger.
display = TradeoffDisplay.from_estimator(classifiers, X_test, y_test, attack=attack)
for name, clf, ca, asr in zip(
    classifiers, classifiers.values(), display.ca, display.asr, strict=True
):
    found = poison_mask[clf.isolate_].sum()
    print(f"{name:<22} CA {ca:.3f}  ASR {asr:.3f}  flagged {len(clf.isolate_):3} (poison: {found})")
plt.show()
