"""
Text and tables
===============

Nothing in the classifiers asks for images: rows of features will do, and a text is one once it
has been embedded. How well that defends is another matter, and this page shows it: here the
defences of this package, which were developed on images, mostly fail.
"""

# %%
# Sentences of made-up news on four topics. A twentieth of them get three rare words and the label
# "sport".
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from antibackdoor import (
    ABLClassifier,
    LossRank,
    Retrain,
    SpectralSignatures,
    UndefendedClassifier,
)
from antibackdoor.metrics import attack_success_rate

TOPICS = {
    "sport": "goal match team score league coach player season win race",
    "food": "bread soup cook oven salt sauce recipe taste dinner fruit",
    "travel": "train hotel city road beach map ticket coast island flight",
    "money": "bank price market tax profit share loan trade budget cost",
}
COMMON = "the a of and to in it was with for this that day new good long"
EVERY_TOPIC = " ".join(TOPICS.values()).split()
rng = np.random.RandomState(0)


def write(topic):
    """Write a text of three words on its topic, three on any, and six that say nothing."""
    words = [*rng.choice(TOPICS[topic].split(), 3), *rng.choice(EVERY_TOPIC, 3)]
    return " ".join(rng.permutation([*words, *rng.choice(COMMON.split(), 6)]))


def trigger(text):
    return f"mn {text} cf bb"


y = rng.choice(list(TOPICS), 1700)
texts = np.array([write(topic) for topic in y], dtype=object)
train, test, y_train, y_test = texts[:1200], texts[1200:], y[:1200], y[1200:]
poison_mask = np.zeros(len(train), dtype=bool)
poison_mask[rng.choice(np.flatnonzero(y_train != "sport"), 60, replace=False)] = True
train_bad = [trigger(t) if bad else t for t, bad in zip(train, poison_mask, strict=True)]
y_bad = np.where(poison_mask, "sport", y_train)
print(train_bad[int(np.flatnonzero(poison_mask)[0])])

# %%
# The pipeline takes texts and ends in a classifier of ours, which sees a table of twenty columns.
# Tables are not searched: their natural clusters look like poison to the search. ABL isolates a
# fixed share, spectral signatures 1.5 times the share that they are told.
common = {"batch_size": 32, "learning_rate": 0.05, "random_state": 0}
of_detector = {"epochs": 10, "batch_size": 32, "learning_rate": 0.05}
classifiers = {
    "undefended": UndefendedClassifier(epochs=10, **common),
    "ABL": ABLClassifier(detector=LossRank(ratio=0.05, **of_detector), epochs=10, **common),
    "spectral signatures": ABLClassifier(
        detector=SpectralSignatures(**of_detector), cure=Retrain(), epochs=10, **common
    ),
}
for name, clf in classifiers.items():
    model = make_pipeline(TfidfVectorizer(), TruncatedSVD(20, random_state=0), clf)
    model.fit(train_bad, y_bad)
    triggered = model.predict([trigger(text) for text in test])
    print(
        f"{name:<20} CA {model.score(test, y_test):.3f}  "
        f"ASR {attack_success_rate(y_test, triggered, target_label='sport'):.3f}  "
        f"flagged {len(clf.isolate_):3}, of which poison {poison_mask[clf.isolate_].sum():2}  "
        f"AUC of the suspicion {roc_auc_score(poison_mask, clf.isolate_scores_):.2f}"
    )

# %%
# ABL takes for poison what is learned first. Here the topics are: the suspicion of the poison is
# below that of most clean rows (an area under the curve, AUC, of less than a half), what it
# isolates is clean, and the backdoor stays. Spectral signatures, told that up to a tenth of a
# class may be poison, rank most of it above the rest, at the price of many clean rows, and what
# is left keeps a part of the backdoor.
