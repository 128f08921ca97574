"""Activation Clustering and Spectral Signatures: their equations by hand, and what they reach.

Their quality is that of the classifier that is trained on what they leave.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from antibackdoor import (
    ABLClassifier,
    ActivationClustering,
    Retrain,
    SpectralSignatures,
    UndefendedClassifier,
    make_poisoned,
)
from antibackdoor.attacks import BadNets
from antibackdoor.detection._activation_clustering import reduce, split_in_two
from antibackdoor.detection._spectral_signatures import n_removed, over_cut, squared_projections
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_precision,
    isolation_recall,
)

BOTH = pytest.mark.parametrize("detector", [ActivationClustering, SpectralSignatures])

# --------------------------------------------------------------------- the clusters


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("max_iter", [200, 2])
def test_whitening_is_ica_to_everything_that_sees_distances(max_iter):
    rng = np.random.default_rng(0)
    features = rng.laplace(size=(120, 8)) @ rng.normal(size=(8, 30))
    ica = FastICA(4, max_iter=max_iter, random_state=0).fit(features)
    independent, ours = ica.transform(features), reduce(features, 4, whiten=True)
    np.testing.assert_allclose(distances(ours), distances(independent), atol=1e-8)
    # It is no other form of the same numbers: the axes are turned.
    assert not np.allclose(np.abs(ours), np.abs(independent), atol=0.1)


def test_ica_that_does_not_converge_is_among_those_compared():
    rng = np.random.default_rng(0)
    features = rng.laplace(size=(120, 8)) @ rng.normal(size=(8, 30))
    with pytest.warns(ConvergenceWarning):
        FastICA(4, max_iter=2, random_state=0).fit(features)


def test_components_by_hand():
    # Mean (1, 2); four times as far along the first axis as along the second.
    features = np.array([[5.0, 2.0], [-3.0, 2.0], [1.0, 3.0], [1.0, 1.0]])
    principal = reduce(features, 2, whiten=False)
    np.testing.assert_allclose(np.abs(principal), [[4, 0], [4, 0], [0, 1], [0, 1]], atol=1e-12)
    # Variances are 8 and 1/2.
    white = reduce(features, 2, whiten=True)
    np.testing.assert_allclose(np.abs(white), np.sqrt(2) * np.repeat(np.eye(2), 2, 0), atol=1e-12)
    np.testing.assert_array_equal(reduce(features, 1, whiten=True), white[:, :1])


def test_directions_of_rounding_are_no_components():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 20)) + 3
    rounded = flat.astype(np.float32)
    assert np.linalg.matrix_rank(rounded - rounded.mean(0, dtype=np.float64)) > 2
    assert reduce(rounded, 10, whiten=True).shape == (50, 2)
    assert reduce(np.full((30, 4), 0.7), 10, whiten=True).shape == (30, 0)
    assert reduce(np.zeros((30, 4)), 10, whiten=False).shape == (30, 0)


def test_clusters_by_hand():
    # Centres 1 and 10: three rows and two.
    points = np.array([[0.0], [9.0], [1.0], [2.0], [11.0]])
    clusters = split_in_two(points, seed=0)
    np.testing.assert_allclose(clusters.nearness, [1 / 11, 8 / 9, 0, 1 / 9, 10 / 11])
    assert clusters.share == pytest.approx(2 / 5)
    # (b - a) / max(a, b), a to the own cluster and b to the other.
    silhouettes = [(10 - 1.5) / 10, (8 - 2) / 8, (9 - 1) / 9, (8 - 1.5) / 8, (10 - 2) / 10]
    assert clusters.silhouette == pytest.approx(np.mean(silhouettes))


@pytest.mark.parametrize("seed", range(4))
def test_of_equal_halves_one_is_the_smaller(seed):
    clusters = split_in_two(np.array([[0.0], [1.0], [10.0], [11.0]]), seed)
    assert clusters.share == 0.5
    assert sorted(clusters.nearness > 0.5) == [False, False, True, True]


class Memo(nn.Module):
    """A network that cannot learn, whose features are the rows themselves."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return self.head(x)


def memo(detector, **changes):
    settings = {"backbone": lambda shape, n: Memo(shape[0], n), "random_state": 0}
    return detector(**{**settings, "epochs": 1, **changes})


@pytest.fixture(scope="module")
def clouds():
    """A table of three classes, and the rows of a cloud aside in the first.

    The second is two halves, the third one cloud of fewer rows than are split.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(215, 6))
    y = np.repeat([0, 1, 2], [100, 100, 15])
    aside = np.arange(215) < 25
    X[aside, 0] += 12
    X[100:150, 1] += 12
    # As the network will do it, so that its features are these numbers.
    return (X - X.mean(axis=0)) / X.std(axis=0), y, aside


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [0]),
        ({"size_threshold": 0.2}, []),
        ({"size_threshold": 0.5, "n_components": 1, "reduction": "pca"}, [0]),
        ({"exclusion": "silhouette", "reduction": "pca", "silhouette_threshold": 0.2}, [0, 1]),
        ({"exclusion": "silhouette", "silhouette_threshold": 0.9}, []),
    ],
)
def test_which_classes_lose_a_cluster(clouds, settings, wanted):
    X, y, aside = clouds
    found = memo(ActivationClustering, **settings).fit(X, y)
    assert found.isolate_classes_.tolist() == wanted
    if 0 in wanted:
        np.testing.assert_array_equal(found.isolate_mask_[y == 0], aside[y == 0])
    if 1 in wanted:
        assert np.count_nonzero(found.isolate_mask_[y == 1]) == 50
    assert found.isolate_threshold_ == 0.5
    size, silhouette = found.isolate_signs_["size"], found.isolate_signs_["silhouette"]
    np.testing.assert_allclose(size[:2], [0.25, 0.5])
    assert (silhouette[:2] > 0.1).all()
    # Of 15 rows no class is split.
    assert np.isnan(size[2]) and np.isnan(silhouette[2])
    assert (found.isolate_scores_[y == 2] == 0).all()


def test_rows_of_a_suspect_cluster_come_first_also_where_nothing_is_flagged(clouds):
    X, y, aside = clouds
    scores = memo(ActivationClustering, size_threshold=0.2).fit(X, y).isolate_scores_
    assert scores[y == 0][aside[y == 0]].min() > scores[y == 0][~aside[y == 0]].max()
    assert scores.max() <= 0.5


# --------------------------------------------------------------------- the main direction


def test_projections_by_hand():
    # Mean (2, 1). Centred, the rows are (3, 4), (-3, -4), (0.8, -0.6) and (-0.8, 0.6): they
    # lie on two lines at right angles, of which (3, 4) / 5 is the longer.
    features = np.array([[5.0, 5.0], [-1.0, -3.0], [2.8, 0.4], [1.2, 1.6]])
    np.testing.assert_allclose(squared_projections(features), [25, 25, 0, 0], atol=1e-12)
    np.testing.assert_allclose(squared_projections(-features + 7), [25, 25, 0, 0], atol=1e-12)


def test_outliers_lie_along_the_main_direction():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 10))
    features[:20] += 4
    most = np.argsort(-squared_projections(features))[:20]
    assert np.count_nonzero(most < 20) >= 19


@pytest.mark.parametrize(
    ("n_rows", "rate", "wanted"),
    [
        (100, 0.1, 15),
        (20, 0.3, 9),
        (10, 0.1, 1),
        (6, 0.1, 0),
        (1, 0.5, 0),
        (2, 0.5, 1),
        (4, 0.5, 3),
    ],
)
def test_how_many_of_a_class_are_removed(n_rows, rate, wanted):
    assert n_removed(n_rows, rate) == wanted


def test_scores_over_the_cut_by_hand():
    scores = np.array([1.0, 8.0, 2.0, 4.0])
    np.testing.assert_array_equal(over_cut(scores, 2), [0.5, 4, 1, 2])
    np.testing.assert_array_equal(over_cut(scores, 0), [1 / 8, 1, 1 / 4, 1 / 2])
    # Rows that tie with the cut stay.
    np.testing.assert_array_equal(over_cut(np.array([3.0, 3.0, 3.0, 6.0]), 2), [1, 1, 1, 2])
    np.testing.assert_array_equal(over_cut(np.zeros(4), 2), np.zeros(4))
    beside_nothing = over_cut(np.array([0.0, 0.0, 1.0]), 2)
    assert np.isfinite(beside_nothing).all()
    assert (beside_nothing > 1).tolist() == [False, False, True]


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_every_class_loses_the_same_share(clouds, rate):
    X, y, _ = clouds
    found = memo(SpectralSignatures, expected_poison_rate=rate).fit(X, y)
    for label in range(3):
        flagged = found.isolate_mask_[y == label]
        projections = squared_projections(X[y == label])
        # The features are X standardised by one mean and one scale.
        np.testing.assert_array_equal(
            np.flatnonzero(flagged),
            np.sort(np.argsort(-projections)[: n_removed(len(flagged), rate)]),
        )
    assert found.isolate_threshold_ == 1


# --------------------------------------------------------------------- what they share


@BOTH
def test_flags_scores_and_threshold_agree(clouds, detector):
    X, y, _ = clouds
    found = memo(detector).fit(X, y)
    assert 0 < len(found.isolate_) < len(X)
    np.testing.assert_array_equal(
        found.isolate_mask_, found.isolate_scores_ > found.isolate_threshold_
    )
    assert found.isolate_scores_.dtype == np.float64
    assert np.isfinite(found.isolate_scores_).all()
    assert [row["phase"] for row in found.history_] == ["train"]


@BOTH
def test_the_list_is_the_same_alone_as_inside_a_classifier(split_digits, detector):
    X, y = split_digits[0][:300], split_digits[2][:300]
    settings = {"backbone": "mlp", "random_state": 0}
    alone = detector(epochs=2, **settings).fit(X, y)
    clf = ABLClassifier(detector=detector(epochs=2), cure=Retrain(), epochs=1, **settings)
    clf.fit(X, y)
    np.testing.assert_array_equal(alone.isolate_scores_, clf.isolate_scores_)
    np.testing.assert_array_equal(alone.isolate_, clf.isolate_)
    assert list(dict.fromkeys(row["phase"] for row in clf.history_)) == ["train", "finetune"]


STRICTEST = [
    (ActivationClustering, {"size_threshold": 0.5}),
    (ActivationClustering, {"exclusion": "silhouette", "silhouette_threshold": -1}),
    (SpectralSignatures, {"expected_poison_rate": 0.5}),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("detector", "settings"), STRICTEST)
@pytest.mark.parametrize("n_features", [1, 6])
def test_every_class_keeps_rows(detector, settings, n_features):
    X = np.random.default_rng(0).normal(size=(100, n_features))
    y = np.repeat([0, 1, 2, 3, 4], [1, 2, 3, 24, 70])
    X[y == 3] = 0.25  # all alike
    found = memo(detector, **settings).fit(X, y)
    left = np.bincount(y[~found.isolate_mask_], minlength=5)
    assert (left >= np.bincount(y) / 4).all()
    assert np.isfinite(found.isolate_scores_).all()
    assert len(found.isolate_) > 0


@BOTH
def test_features_that_overflow_are_said_so(detector):
    class Overflows(Memo):
        def forward(self, x):
            return super().forward(x if self.training else x * float("inf"))

    found = memo(detector, backbone=Overflows(3, 2))
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32) + 5
    with pytest.raises(FloatingPointError, match="learning_rate"):
        found.fit(X, np.arange(60) % 2)
    assert not hasattr(found, "isolate_signs_")


@pytest.mark.parametrize(
    ("detector", "argument", "value"),
    [
        (ActivationClustering, "exclusion", "retrain"),
        (ActivationClustering, "size_threshold", 0),
        (ActivationClustering, "size_threshold", 0.6),
        (ActivationClustering, "size_threshold", "x"),
        (ActivationClustering, "silhouette_threshold", 1.5),
        (ActivationClustering, "reduction", "tsne"),
        (ActivationClustering, "n_components", 0),
        (ActivationClustering, "n_components", 2.5),
        (SpectralSignatures, "expected_poison_rate", 0),
        (SpectralSignatures, "expected_poison_rate", 0.51),
        (SpectralSignatures, "expected_poison_rate", np.nan),
        *[
            (detector, "epochs", value)
            for detector in (ActivationClustering, SpectralSignatures)
            for value in (0, 1.5)
        ],
    ],
)
def test_bad_parameters_are_refused_by_name(detector, argument, value):
    found = detector(**{argument: value})
    with pytest.raises(ValueError, match=rf"\b{argument}\b"):
        found.fit(np.zeros((24, 8, 8)), np.arange(24) % 3)
    assert not hasattr(found, "history_")


@pytest.fixture(scope="module")
def scored(split_digits):
    """Function that returns the scores of some digits; what was asked before is known."""
    X, _, y, _ = split_digits

    @cache
    def score(detector, **changes):
        found = detector(**{"backbone": "mlp", "epochs": 2, "random_state": 0, **changes})
        return found.fit(X[:300], y[:300]).isolate_scores_

    return score


@pytest.mark.parametrize(
    ("detector", "change"),
    [
        (ActivationClustering, {"exclusion": "silhouette"}),
        (ActivationClustering, {"size_threshold": 0.1}),
        (ActivationClustering, {"reduction": "pca"}),
        (ActivationClustering, {"n_components": 2}),
        (SpectralSignatures, {"expected_poison_rate": 0.3}),
        *[
            (detector, change)
            for detector in (ActivationClustering, SpectralSignatures)
            for change in (
                {"epochs": 3},
                {"batch_size": 50},
                {"learning_rate": 0.03},
                {"weight_decay": 0.01},
                {"random_state": 1},
            )
        ],
    ],
    ids=str,
)
def test_every_setting_has_an_effect(scored, detector, change):
    assert not np.array_equal(scored(detector), scored(detector, **change))


# --------------------------------------------------------------------- quality


def retrained(detector, cache_dir, epochs=5, **settings):
    """The classifier of the paper: trained on what the detector leaves."""
    return ABLClassifier(
        detector=detector(epochs=10, **settings),
        cure=Retrain(),
        epochs=epochs,
        random_state=1,
        cache_dir=cache_dir,
    )


@pytest.fixture(scope="module")
def triggered(split_digits):
    X_train, X_test, _, _ = split_digits
    return BadNets().fit(X_train).transform(X_test)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which detectors find the network that another has trained."""
    return tmp_path_factory.mktemp("kept")


def judge(clf, split_digits, triggered, poison_rate):
    """Return precision, recall, ASR and CA."""
    X, X_test, y, y_test = split_digits
    X_bad, y_bad, poison_mask = make_poisoned(
        X, y, attack="badnets", poison_rate=poison_rate, random_state=1
    )
    clf.fit(X_bad, y_bad)
    return (
        isolation_precision(poison_mask, clf.isolate_mask_),
        isolation_recall(poison_mask, clf.isolate_mask_),
        attack_success_rate(y_test, clf.predict(triggered), target_label=0),
        clean_accuracy(y_test, clf.predict(X_test)),
    )


# The poison of three per cent of the digits is a quarter of its class.


def test_the_attack_works_on_an_undefended_network(split_digits, triggered):
    undefended = UndefendedClassifier(epochs=5, random_state=1)
    _, _, asr, ca = judge(undefended, split_digits, triggered, 0.03)
    assert asr > 0.9
    assert ca > 0.97


def test_clustering_finds_poison_that_is_a_quarter_of_its_class(split_digits, triggered, kept):
    clf = retrained(
        ActivationClustering,
        cache_dir=kept,
        exclusion="silhouette",
        reduction="pca",
        silhouette_threshold=0.35,
    )
    precision, recall, asr, ca = judge(clf, split_digits, triggered, 0.03)
    assert clf.isolate_classes_.tolist() == [0]
    assert precision > 0.9
    assert recall > 0.9
    assert asr < 0.1
    assert ca > 0.97


def test_signatures_find_it_where_its_share_is_known(split_digits, triggered, kept):
    clf = retrained(SpectralSignatures, cache_dir=kept, epochs=10, expected_poison_rate=0.25)
    precision, recall, asr, ca = judge(clf, split_digits, triggered, 0.03)
    # Three eighths of every class are flagged, and a fortieth is poison.
    assert precision < 0.1
    assert recall > 0.8
    assert asr < 0.3
    assert ca > 0.93


# Ten per cent of all rows are half of their class.


def test_poison_that_is_half_of_its_class_is_beyond_clustering_by_size(
    split_digits, triggered, kept
):
    clf = retrained(ActivationClustering, cache_dir=kept)
    precision, recall, asr, ca = judge(clf, split_digits, triggered, 0.1)
    # What is flagged of it is pure or little, and the backdoor stays either way.
    assert recall < 0.7
    assert asr > 0.5
    assert ca > 0.9
    # By silhouette its class is the one that stands out.
    assert np.argmax(clf.isolate_signs_["silhouette"]) == 0


def test_poison_that_is_half_of_its_class_is_beyond_signatures(split_digits, triggered, kept):
    clf = retrained(SpectralSignatures, cache_dir=kept, epochs=10, expected_poison_rate=0.5)
    precision, recall, asr, ca = judge(clf, split_digits, triggered, 0.1)
    # Three quarters of all rows are flagged: the score tells nothing.
    assert precision < 0.15
    assert recall < 0.85
    assert asr > 0.5
    assert ca > 0.6


def test_what_is_flagged_in_clean_digits(split_digits, kept):
    X, X_test, y, y_test = split_digits
    by_silhouette = retrained(ActivationClustering, cache_dir=kept, exclusion="silhouette").fit(
        X, y
    )
    assert len(by_silhouette.isolate_) < 0.05 * len(X)
    assert by_silhouette.score(X_test, y_test) > 0.97
    # A clean class has a small cluster too, more often than the paper thinks.
    shares = by_silhouette.isolate_signs_["size"]
    assert 1 <= np.count_nonzero(shares < 0.35) <= 7
