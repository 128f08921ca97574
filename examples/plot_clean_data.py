"""
What happens on clean data
==========================

Most data is clean, and a defence that always finds something is of little use on it. ABL as it was
published isolates one per cent of any data: the detector ``LossRank``. ``PoisonSearch``, the
default, flags rows only where a class shows significant signs of poison.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone

from antibackdoor import (
    ABLClassifier,
    IsolationDisplay,
    LossRank,
    PoisonSearch,
    make_poisoned,
)
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X_train, y_train, X_test, y_test = X[:600], y[:600], X[1200:], y[1200:]

# %%
# A fixed share is flagged whatever the data is like. A detector by itself gives the list and trains
# no classifier:
fixed = LossRank(ratio=0.01, epochs=5, batch_size=32, random_state=0).fit(X_train, y_train)
print(f"fixed share: {len(fixed.isolate_)} clean rows flagged")

# %%
# The search tests. Its p-value is the probability that clean data shows as strong a sign in any
# class, as far as clean data behaves as it did where the test was calibrated.
clf = ABLClassifier(detector=PoisonSearch(epochs=5), epochs=8, batch_size=32, random_state=0)
clean = clone(clf).fit(X_train, y_train)
print(f"search: {len(clean.isolate_)} rows flagged, p = {clean.isolate_pvalue_:.2g}")
print(f"accuracy on clean digits: {clean.score(X_test, y_test):.3f}")

# %%
# The same settings on poisoned data, to compare. The sign that tells is the transplant. The
# difference between the two parts of a class is added to rows of other classes: by how much does
# the share rise of those that are taken for the class?
X_bad, y_bad, poison_mask = make_poisoned(X_train, y_train, attack="badnets", random_state=0)
poisoned = clone(clf).fit(X_bad, y_bad)
print(f"search: {len(poisoned.isolate_)} rows flagged, p = {poisoned.isolate_pvalue_:.2g}")
fitted = {"clean": clean, "poisoned": poisoned}
for name, classifier in fitted.items():
    transplants = classifier.isolate_signs_["transplant"]
    print(f"transplant by class, {name} data: {np.round(transplants, 2)}")

# %%
# No flags does not mean no poison: it means that no class showed a significant sign.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharex=True)
for ax, (name, classifier) in zip(axes, fitted.items(), strict=True):
    IsolationDisplay.from_estimator(classifier, ax=ax)
    ax.set_title(f"{name} data")
plt.show()
