"""
Tuning without the trigger, in a Pipeline
=========================================

Who trains on strangers' data has no triggered test images, so the attack success rate cannot be
what a search goes by. Accuracy alone cannot either: a backdoored model is accurate. What
can be asked is how many suspects keep the attacker's label. This search does so, with the
classifier at the end of a Pipeline.
"""

# %%
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from antibackdoor import (
    ABLClassifier,
    LossRank,
    PoisonSearch,
    Retrain,
    make_asr_scorer,
    make_poisoned,
    make_retention_scorer,
)
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X = X.reshape(len(X), -1).astype("float32")  # rows of features, as StandardScaler takes them
attack = BadNets(target_label=0, image_shape=(8, 8), value_range=(0, 255))
X_bad, y_bad, poison_mask = make_poisoned(X, y, attack=attack, random_state=0)

pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        (
            "abl",
            ABLClassifier(
                detector=PoisonSearch(epochs=5),
                cure=Retrain(),
                epochs=6,
                batch_size=32,
                image_shape=(8, 8),
                random_state=0,
            ),
        ),
    ]
)

# %%
# The suspects come from one fit. Look at some of them before you go by them: the score is as
# good as they are. (The cure of this pipeline leaves the rows that it isolates out. Under one that
# trains on them, keep the suspects out of the search.)
suspects = pipeline.fit(X_bad, y_bad)["abl"].isolate_
print(f"suspects: {len(suspects)}, of which poison: {poison_mask[suspects].sum()}")

# %%
# Isolate one row in five hundred, or search for as many as there are? The detector is a parameter
# like any other. The scorer is given raw rows and puts them through the whole pipeline.
scoring = {
    "accuracy": "accuracy",
    "criterion": make_retention_scorer(X_bad[suspects], y_bad[suspects]),
    # Known here because we are the attacker; the search does not go by it.
    "neg_asr": make_asr_scorer(attack),
}
search = GridSearchCV(
    pipeline,
    {
        "abl__detector": [
            LossRank(ratio=0.002, epochs=5, batch_size=32),
            PoisonSearch(epochs=5),
        ]
    },
    scoring=scoring,
    refit=False,
    cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=0),  # one split: to be quick
)
search.fit(X_bad, y_bad)
results = search.cv_results_
for n, parameters in enumerate(results["params"]):
    accuracy, criterion, asr = (
        results["mean_test_accuracy"][n],
        results["mean_test_criterion"][n],
        0 - results["mean_test_neg_asr"][n],
    )
    print(f"{parameters}: accuracy {accuracy:.3f}, criterion {criterion:.3f}, ASR {asr:.3f}")

# %%
# By accuracy the backdoored setting wins, since it is right about the poison in the validation
# folds too. By the criterion the other one does.
for name in ("accuracy", "criterion"):
    best = results["params"][results[f"mean_test_{name}"].argmax()]
    print(f"best by {name}: {best}")
