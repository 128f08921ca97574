"""
Reviewing suspects
==================

A flag is a suspicion, not a proof. These are the ways to look before anything is deleted: the
most suspect images, the spread of the suspicion, and a page on which a person decides about
each row.
"""

# %%
# The search alone: it lists the suspects and trains no classifier.
from pathlib import Path

import matplotlib.pyplot as plt

from antibackdoor import (
    ABLClassifier,
    IsolationDisplay,
    PoisonSearch,
    Retrain,
    SuspectsDisplay,
    make_poisoned,
    write_report,
)
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X_bad, y_bad, poison_mask = make_poisoned(X[:600], y[:600], attack="badnets", random_state=0)
search = PoisonSearch(epochs=6, random_state=0).fit(X_bad, y_bad)
print(f"{len(search.isolate_)} rows flagged, all labelled {search.isolate_classes_}")
print(f"clean data gives as strong a sign with probability {search.isolate_pvalue_:.1g}")

# %%
# What do they have in common that other rows of their label have not? Here, a patch in the corner.
SuspectsDisplay.from_estimator(search, X_bad, y_bad, max_images=30)
plt.show()

# %%
IsolationDisplay.from_estimator(search)
plt.show()

# %%
# The page is one file that needs no network: ``demo/report.html``. Its decisions are saved as a CSV
# file in which every row has its number in X.
folder = Path("demo")
folder.mkdir(exist_ok=True)
names = [f"digit-{row:04}.png" for row in range(len(X_bad))]
page = write_report(search, X_bad, y_bad, folder / "report.html", file_names=names)
print(f"{page.name}: {page.stat().st_size / 1000:.0f} kB")

# %%
# The reviewed list takes the detector's place: nothing is searched again. Here the person cleared
# what was no poison.
reviewed = search.isolate_mask_ & poison_mask
clf = ABLClassifier(cure=Retrain(), epochs=8, batch_size=32, random_state=0)
clf.fit(X_bad, y_bad, suspects=reviewed)
print(f"accuracy on clean digits: {clf.score(X[1200:], y[1200:]):.3f}")
