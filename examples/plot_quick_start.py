"""
Quick start: a clean model from poisoned digits
===============================================

A tenth of scikit-learn's handwritten digits get a 3x3 patch in the corner and the
label 0. Plain training learns the patch; ABL and CBD do not, and name the rows that
bear it. Nothing but the poisoned arrays is handed to them.

``make demo`` runs this file, which writes its figure and table to ``demo/``, or to
the folder that is named on the command line.
"""

# %%
# Poisoned data
# -------------
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from antibackdoor import ABLClassifier, CBDClassifier, UndefendedClassifier, make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_precision,
    isolation_recall,
    robust_accuracy,
    target_recall,
)

TARGET = 0
out = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
out.mkdir(parents=True, exist_ok=True)

X, y = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_bad, y_bad, poison_mask = make_poisoned(
    X_train, y_train, attack="badnets", poison_rate=0.1, target_label=TARGET, random_state=0
)
X_triggered = BadNets(target_label=TARGET).fit(X_train, y_train).transform(X_test)

# %%
# Three ways to train on it
# -------------------------
classifiers = {
    "undefended": UndefendedClassifier(random_state=0),
    "ABL": ABLClassifier(random_state=0),
    "CBD": CBDClassifier(random_state=0),
}
for name, clf in classifiers.items():
    started = time.perf_counter()
    clf.fit(X_bad, y_bad)
    print(f"{name}: trained in {time.perf_counter() - started:.0f} s", flush=True)

# %%
# What each has learned, in per cent. CA: accuracy on clean test images. ASR: triggered
# test images that are taken for a 0. R-Acc: triggered test images that are taken for
# what they are. Target recall: clean zeros that are taken for a 0. The last two columns
# say how many of the flagged rows are poison, and how much of the poison is flagged.
lines = ["              CA    ASR  R-Acc  target  flagged  precision  recall"]
for name, clf in classifiers.items():
    clean, triggered = clf.predict(X_test), clf.predict(X_triggered)
    shares = [
        clean_accuracy(y_test, clean),
        attack_success_rate(y_test, triggered, target_label=TARGET),
        robust_accuracy(y_test, triggered, target_label=TARGET),
        target_recall(y_test, clean, target_label=TARGET),
        isolation_precision(poison_mask, clf.isolate_mask_),
        isolation_recall(poison_mask, clf.isolate_mask_),
    ]
    ca, asr, r_acc, recall, precision, found = (100 * share for share in shares)
    lines.append(
        f"{name:<11}{ca:6.1f} {asr:6.1f} {r_acc:6.1f}  {recall:6.1f}  {len(clf.isolate_):7d}"
        + (f"  {precision:9.1f}  {found:6.1f}" if len(clf.isolate_) else "          -       -")
    )
table = "\n".join(lines)
print(f"\n{table}\n\n{poison_mask.sum()} of the {len(X_bad)} training rows are poison.")
(out / "quick_start.txt").write_text(table + "\n")

# %%
# What a person wants to look at
# ------------------------------
# The trigger, the rows that ABL flags most, and how the clean network of ABL takes the
# labels of the training rows: it contradicts the poisoned ones.
abl = classifiers["ABL"]
n_shown = 12
figure = plt.figure(figsize=(9, 6.5), layout="constrained")
rows = figure.subfigures(3, 1, height_ratios=[1, 1, 1.8])


def show(images, where, title, labels):
    where.suptitle(title, fontsize="medium")
    axes = where.subplots(1, n_shown)
    for ax in axes:
        ax.set_axis_off()  # a classifier may flag fewer rows than there are places
    for ax, image, label in zip(axes, images, labels, strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
        ax.set_title(label, fontsize="small")


sample = np.flatnonzero(y_test != TARGET)[: n_shown // 2]
pairs = np.stack([X_test[sample], X_triggered[sample]], axis=1).reshape(n_shown, *X.shape[1:])
show(
    pairs,
    rows[0],
    "Test digits without and with the trigger, and what the undefended network sees",
    classifiers["undefended"].predict(pairs),
)
most_suspect = abl.isolate_[:n_shown]
show(
    X_bad[most_suspect],
    rows[1],
    f"The {n_shown} most suspect of {len(abl.isolate_)} rows flagged by ABL, and their labels",
    y_bad[most_suspect],
)

ax = rows[2].subplots()
loss = -np.log(abl.predict_proba(X_bad)[np.arange(len(X_bad)), y_bad] + 1e-9)
flagged, others = loss[abl.isolate_mask_], loss[~abl.isolate_mask_]
bins = np.geomspace(1e-6, 30, 60)
ax.hist(
    [np.clip(others, bins[0], None), np.clip(flagged, bins[0], None)],
    bins=bins,
    stacked=True,
    color=["#4c72b0", "#c44e52"],
    label=[f"other rows ({len(others)})", f"flagged rows ({len(flagged)})"],
)
ax.set(
    xscale="log",
    yscale="log",
    xlabel="loss of a training row's label under ABL's clean network (nats)",
    ylabel="rows",
)
ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
figure.savefig(out / "quick_start.png", dpi=150)
print(f"Written to {out}/: quick_start.png, quick_start.txt")
