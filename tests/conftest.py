"""Settings that must stand before scikit-learn and torch are first used."""

import os

# Two of scikit-learn's estimator checks skip themselves without it.
os.environ["SCIPY_ARRAY_API"] = "1"

import pytest
import torch

# The networks of the tests are so small that threads cost more than they give.
torch.set_num_threads(1)


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
