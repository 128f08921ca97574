"""
What happens on clean data
==========================

Most data is clean, and a defence that always finds something is of little use on it. ABL as it was
published isolates one per cent of any data. With ``isolation_ratio="auto"``, the default, rows
are flagged only where something speaks against a class.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from antibackdoor import ABLClassifier, IsolationDisplay, make_poisoned
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X_train, y_train, X_test, y_test = X[:600], y[:600], X[1200:], y[1200:]
common = {"isolation_epochs": 5, "finetune_epochs": 8, "batch_size": 32, "random_state": 0}

# %%
# A fixed share is flagged whatever the data is like:
fixed = ABLClassifier(isolation_ratio=0.01, unlearning="retrain", **common).fit(X_train, y_train)
print(f"fixed share: {len(fixed.isolate_)} clean rows flagged")

# %%
# The search tests. Its p-value is the probability that clean data shows as strong a sign in any
# class, as far as clean data behaves as it did where the test was calibrated.
clean = ABLClassifier(**common).fit(X_train, y_train)
print(f"search: {len(clean.isolate_)} rows flagged, p = {clean.isolate_pvalue_:.2g}")
print(f"accuracy on clean digits: {clean.score(X_test, y_test):.3f}")

# %%
# The same settings on poisoned data, to compare. The sign by which a class is accused is the
# transplant: the share of rows of other classes that are taken for the class when the difference
# between its two parts is added to them.
X_bad, y_bad, poison_mask = make_poisoned(X_train, y_train, attack="badnets", random_state=0)
poisoned = ABLClassifier(**common).fit(X_bad, y_bad)
print(f"search: {len(poisoned.isolate_)} rows flagged, p = {poisoned.isolate_pvalue_:.2g}")
for name, clf in {"clean": clean, "poisoned": poisoned}.items():
    transplants = clf.isolate_signs_["transplant"]
    print(f"transplant by class, {name} data: {np.round(transplants, 2)}")

# %%
# No flags does not mean no poison: it means that nothing spoke against any class.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharex=True)
for ax, (name, clf) in zip(axes, {"clean": clean, "poisoned": poisoned}.items(), strict=True):
    IsolationDisplay.from_estimator(clf, ax=ax)
    ax.set_title(f"{name} data")
plt.show()
