"""Settings that must stand before numpy, scikit-learn and torch are first used."""

import os

# The networks of the tests are so small that threads cost more than they give: where two processes
# have as many as there are cores each, those of one wait in loops for a core that the other has.
os.environ["OMP_NUM_THREADS"] = "1"

# Two of scikit-learn's estimator checks skip themselves without it.
os.environ["SCIPY_ARRAY_API"] = "1"
# As wide as progress bars need it that name a task by its whole name.
os.environ["COLUMNS"] = "200"

import pytest
import torch

# Whatever has imported torch before.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Run the slow tests first, or one of two processes ends with them while the other waits."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    # They train for long what other tests train in short: counted, they take a sixth longer.
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def digits():
    """Handwritten digits as uint8 (1797, 8, 8) and their labels."""
    from antibackdoor.datasets import load_digits_images

    return load_digits_images()


@pytest.fixture(scope="session")
def split_digits(digits):
    """X_train, X_test, y_train, y_test: three quarters and a quarter of the digits."""
    from sklearn.model_selection import train_test_split

    X, y = digits
    return train_test_split(X, y, stratify=y, random_state=0)


@pytest.fixture
def forked_jobs():
    """Other processes of joblib begin as copies of this one: they need not import torch again."""
    from joblib import parallel_config

    with parallel_config(backend="multiprocessing"):
        yield


def tiny(name):
    """Settings with which a classifier goes through all its phases within a tenth of a second."""
    from antibackdoor import LossRank, Mixed, RelativeLoss

    return {
        "UndefendedClassifier": {"epochs": 2},
        "ABLClassifier": {
            "detector": LossRank(ratio=0.1, epochs=2, batch_size=32),
            "cure": Mixed(epochs=1, recovery_epochs=1),
            "epochs": 2,
        },
        "CBDClassifier": {
            "detector": LossRank(ratio=None, epochs=2, batch_size=32),
            "weighting": RelativeLoss(rejection=0.9),
            "epochs": 2,
        },
        # For those whose fit takes more than X and y; the others' is that of the ones above.
        "FinePruningClassifier": {"epochs": 2, "finetune_epochs": 2},
    }[name]


TINY = ("UndefendedClassifier", "ABLClassifier", "CBDClassifier", "FinePruningClassifier")


@pytest.fixture(params=TINY)
def make_tiny(request):
    """Function that makes a quick classifier: in turn each of `TINY`."""
    import antibackdoor

    classifier = getattr(antibackdoor, request.param)

    def make(**changes):
        settings = {"backbone": "small-cnn", "batch_size": 32, "random_state": 0}
        return classifier(**{**settings, **tiny(request.param), **changes})

    return make
