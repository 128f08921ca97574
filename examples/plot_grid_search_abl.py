"""
Choosing ABL's settings by clean accuracy and attack success rate
=================================================================

A researcher who knows the attack can search for the settings that keep the attack
success rate (ASR) down at little cost in clean accuracy (CA). The folds hold poison:
metadata routing brings the mask of the poisoned rows to the scorers, which leave those
rows out, and to nothing else. Someone who trains on strangers' data has no such mask;
this is for studies of the method.
"""

# %%
import sklearn
from sklearn.model_selection import GridSearchCV

from antibackdoor import (
    ABLClassifier,
    LossRank,
    lowest_asr_within,
    make_asr_scorer,
    make_clean_accuracy_scorer,
    make_poisoned,
)
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X, y = X[:1000], y[:1000]
attack = BadNets(target_label=0)
X_bad, y_bad, poison_mask = make_poisoned(X, y, attack=attack, random_state=0)

# %%
# Short schedules, so that the example is quick, and a fixed share of rows to isolate, as in
# the paper: how many are enough? What the detector takes is named ``detector__ratio``. ``refit``
# takes the candidate with the lowest ASR among those within two points of the best CA.
with sklearn.config_context(enable_metadata_routing=True):
    search = GridSearchCV(
        ABLClassifier(
            detector=LossRank(epochs=10, batch_size=32), epochs=10, batch_size=32, random_state=0
        ),
        {"detector__ratio": [0.01, 0.05]},
        scoring={"ca": make_clean_accuracy_scorer(), "neg_asr": make_asr_scorer(attack)},
        refit=lowest_asr_within(tolerance=0.02),
        cv=2,
        n_jobs=2,
    )
    search.fit(X_bad, y_bad, poison_mask=poison_mask)

# %%
results = search.cv_results_
for parameters, ca, neg_asr in zip(
    results["params"], results["mean_test_ca"], results["mean_test_neg_asr"], strict=True
):
    print(f"{parameters}: CA {ca:.3f}, ASR {0 - neg_asr:.3f}")
print(f"chosen: {search.best_params_}")
