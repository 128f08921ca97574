"""
CBD at the end of a Pipeline
============================

scikit-learn's transformers work on rows of features, so the images are flattened;
``image_shape`` tells the classifier how to fold them again. The trigger is put on the
raw pixels, before any scaling, as an attacker would put it.
"""

# %%
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from antibackdoor import CBDClassifier, PoisonSearch, make_asr_scorer, make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X = X.reshape(len(X), -1).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

attack = BadNets(target_label=0, image_shape=(8, 8), value_range=(0, 255))
X_bad, y_bad, poison_mask = make_poisoned(X_train, y_train, attack=attack, random_state=0)

# %%
pipeline = make_pipeline(
    StandardScaler(),
    CBDClassifier(detector=PoisonSearch(epochs=10), image_shape=(8, 8), epochs=30, random_state=0),
)
pipeline.fit(X_bad, y_bad)

cbd = pipeline[-1]
print(f"accuracy on clean images: {pipeline.score(X_test, y_test):.3f}")
print(f"attack success rate: {-make_asr_scorer(attack)(pipeline, X_test, y_test):.3f}")
print(f"flagged: {len(cbd.isolate_)}, of which poison: {poison_mask[cbd.isolate_].sum()}")
print(f"poisoned rows: {poison_mask.sum()}")
