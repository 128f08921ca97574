"""Fine-pruning and NAD, and the clean rows they are given."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn
import torch
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from antibackdoor import (
    ABLClassifier,
    FinePruningClassifier,
    NADClassifier,
    UndefendedClassifier,
    make_poisoned,
)
from antibackdoor.attacks import BadNets
from antibackdoor.backbones import build_network
from antibackdoor.defenses._fine_pruning import choose_pruned, pruned_for_good
from antibackdoor.defenses._nad import (
    AttentionDistillation,
    attention,
    attention_distance,
    attentions,
)
from antibackdoor.defenses._row_masks import check_clean_mask, draw_by_class
from antibackdoor.metrics import attack_success_rate, clean_accuracy, target_recall
from antibackdoor.training import Training, _run

BOTH = pytest.mark.parametrize("classifier", [FinePruningClassifier, NADClassifier])


def quick(classifier, **changes):
    settings = {"epochs": 2, "finetune_epochs": 1, "random_state": 0}
    return classifier(**{**settings, **changes})


def some_of_every_class(y, allowed, share, seed=0):
    """A mask of a random share of every class, among the rows that are allowed."""
    mask = np.zeros(len(y), dtype=bool)
    rng = np.random.default_rng(seed)
    for label in np.unique(y):
        rows = np.flatnonzero((y == label) & allowed)
        mask[rng.choice(rows, max(1, round(share * len(rows))), replace=False)] = True
    return mask


@pytest.fixture(scope="module")
def few(digits):
    """Images of four digits, uint8 (80, 8, 8), and their labels."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:80]
    return X[rows], y[rows]


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# --- quality


@pytest.fixture(scope="module")
def poisoned(split_digits):
    X, _, y, _ = split_digits
    return make_poisoned(X, y, attack="badnets", poison_rate=0.1, random_state=0)


@pytest.fixture(scope="module")
def report(split_digits):
    """Function that returns ASR, CA and recall of the target class of a classifier."""
    X_train, X_test, _, y_test = split_digits
    triggered = BadNets().fit(X_train).transform(X_test)

    def measure(clf):
        predicted = clf.predict(X_test)
        return (
            attack_success_rate(y_test, clf.predict(triggered), target_label=0),
            clean_accuracy(y_test, predicted),
            target_recall(y_test, predicted, target_label=0),
        )

    return measure


@pytest.fixture(scope="module")
def accuracy_without_defence(poisoned, report, kept):
    undefended = UndefendedClassifier(epochs=8, random_state=0, cache_dir=kept)
    asr, accuracy, _ = report(undefended.fit(*poisoned[:2]))
    assert asr > 0.95
    return accuracy


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which fits find the network that another has trained."""
    return tmp_path_factory.mktemp("kept")


# Over three seeds ASR is 0.00 to 0.11 and CA one to three points lower. With 5 % of the rows ASR
# is about the same, but CA three to six points lower.
@BOTH
def test_quality_on_poisoned_digits(poisoned, report, accuracy_without_defence, kept, classifier):
    X_bad, y_bad, poison_mask = poisoned
    known = some_of_every_class(y_bad, ~poison_mask, share=0.1)
    cleansed = classifier(epochs=8, random_state=0, cache_dir=kept)
    cleansed.fit(X_bad, y_bad, clean_mask=known)
    asr, accuracy, recall = report(cleansed)
    assert asr < 0.25
    assert accuracy > accuracy_without_defence - 0.05
    assert recall > 0.9
    assert not cleansed.isolate_mask_.any()
    assert cleansed.isolate_classes_.tolist() == []


@BOTH
def test_rows_taken_as_they_come_bring_poison_along(poisoned, report, kept, classifier):
    """The docstring warns of it: without a mask the backdoor stays."""
    X_bad, y_bad, poison_mask = poisoned
    cleansed = classifier(epochs=8, random_state=0, cache_dir=kept).fit(X_bad, y_bad)
    assert (cleansed.clean_mask_ & poison_mask).any()
    assert report(cleansed)[0] > 0.7


# --- the clean rows


@BOTH
def test_the_mask_is_what_is_fine_tuned_on(few, classifier):
    X, y = few
    known = some_of_every_class(y, np.ones(len(y), bool), share=0.3)
    fitted = quick(classifier).fit(X, y, known)
    np.testing.assert_array_equal(fitted.clean_mask_, known)
    # Of a mask that is given, clean_share means nothing; what the mask holds means all.
    other_share = quick(classifier, clean_share=0.9).fit(X, y, clean_mask=known.tolist())
    np.testing.assert_array_equal(other_share.predict_proba(X), fitted.predict_proba(X))
    everybody = quick(classifier).fit(X, y, np.ones(len(y), bool))
    assert (everybody.predict_proba(X) != fitted.predict_proba(X)).any()


@BOTH
def test_fine_tuning_sees_no_other_rows(few, classifier, monkeypatch):
    X, y = few
    known = some_of_every_class(y, np.ones(len(y), bool), share=0.3)
    seen = []

    class Spy(Training):
        def run_epoch(self):
            record = super().run_epoch()
            seen.append(~record.losses.isnan().cpu().numpy())
            return record

    monkeypatch.setattr(_run, "Training", Spy)
    fitted = quick(classifier).fit(X, y, known)
    for row, rows_seen in zip(fitted.history_, seen, strict=True):
        wanted = np.ones(len(y), bool) if row["phase"] == "train" else known
        np.testing.assert_array_equal(rows_seen, wanted, err_msg=row["phase"])


@BOTH
def test_a_share_is_drawn_by_class(digits, classifier):
    X, y = (array[:300] for array in digits)
    fitted = quick(classifier, clean_share=0.1).fit(X, y)
    sizes = np.bincount(y)
    np.testing.assert_array_equal(np.bincount(y[fitted.clean_mask_]), np.round(0.1 * sizes))
    again = quick(classifier, clean_share=0.1).fit(X, y)
    np.testing.assert_array_equal(again.clean_mask_, fitted.clean_mask_)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    other = quick(classifier, clean_share=0.1, random_state=1).fit(X, y)
    assert (other.clean_mask_ != fitted.clean_mask_).any()


def test_a_small_class_gives_one_row_and_a_share_of_one_gives_all():
    labels = torch.tensor([0] * 40 + [1] * 3)
    generator = torch.Generator().manual_seed(0)
    drawn = draw_by_class(labels, 0.05, generator)
    assert labels[drawn].tolist() == [0, 0, 1]
    assert draw_by_class(labels, 1.0, generator).tolist() == list(range(43))


LABELS = np.arange(24) % 3
ALL = np.ones(24, dtype=bool)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (ALL.astype(int), TypeError, "clean_mask holds int64; wanted booleans"),
        (np.flatnonzero(ALL), TypeError, "clean_mask holds int64"),
        (["yes"] * 24, TypeError, "clean_mask holds <U3"),
        (ALL[:20], ValueError, r"clean_mask has shape \(20,\); wanted \(24,\)"),
        (ALL[:, None], ValueError, r"clean_mask has shape \(24, 1\)"),
        (True, ValueError, r"clean_mask has shape \(\)"),
        (LABELS == 1, ValueError, r"clean_mask marks no row of the classes \[0, 2\]"),
        (~ALL, ValueError, r"clean_mask marks no row of the classes \[0, 1, 2\]"),
    ],
)
@BOTH
def test_bad_mask(classifier, mask, error, message, monkeypatch):
    monkeypatch.setattr(_run, "Training", lambda *a, **k: pytest.fail("the training began"))
    estimator = classifier()
    before = dict(vars(estimator))
    with pytest.raises(error, match=message):
        estimator.fit(np.zeros((24, 8, 8)), LABELS, clean_mask=mask)
    assert vars(estimator) == before


def test_missing_classes_are_named_by_their_labels():
    with pytest.raises(ValueError, match=r"classes \['cat'\]"):
        check_clean_mask([False, True, True], np.array(["cat", "dog", "dog"]))


@pytest.mark.parametrize("other", [UndefendedClassifier, ABLClassifier])
def test_the_others_take_no_mask(other, few):
    X, y = few
    with pytest.raises(TypeError, match="clean_mask"):
        other().fit(X, y, clean_mask=np.ones(len(y), bool))


@pytest.mark.parametrize(
    ("classifier", "parameter", "value"),
    [
        (FinePruningClassifier, "max_accuracy_drop", -0.1),
        (FinePruningClassifier, "max_accuracy_drop", 1.1),
        (NADClassifier, "beta", -1),
        (NADClassifier, "clean_share", 0),
        (FinePruningClassifier, "clean_share", 1.5),
        (NADClassifier, "finetune_rate", 0),
        (FinePruningClassifier, "finetune_epochs", 0),
        (NADClassifier, "epochs", 0),
    ],
)
def test_bad_parameters(few, classifier, parameter, value):
    with pytest.raises(ValueError, match=parameter):
        classifier(**{parameter: value}).fit(*few)


# --- scikit-learn


@BOTH
def test_mask_through_a_pipeline_and_a_search(few, classifier, routing):
    X, y = few
    rows = X.reshape(len(X), -1) / 255
    known = some_of_every_class(y, np.ones(len(y), bool), share=0.5)
    model = quick(classifier, backbone="mlp").set_fit_request(clean_mask=True)
    pipeline = Pipeline([("scale", StandardScaler()), ("clf", model)])

    fitted = pipeline.fit(rows, y, clean_mask=known)
    np.testing.assert_array_equal(fitted["clf"].clean_mask_, known)

    search = GridSearchCV(
        pipeline, {"clf__finetune_rate": [0.01, 0.05]}, cv=KFold(2), error_score="raise"
    ).fit(rows, y, clean_mask=known)
    np.testing.assert_array_equal(search.best_estimator_["clf"].clean_mask_, known)
    # Each fold was given its part of the mask: the same as by hand.
    train, test = next(KFold(2).split(rows))
    by_hand = pipeline.set_params(**search.best_params_).fit(
        rows[train], y[train], clean_mask=known[train]
    )
    found = search.cv_results_["split0_test_score"][search.best_index_]
    assert found == by_hand.score(rows[test], y[test])


def test_a_mask_nobody_asked_for_is_refused(few, routing):
    X, y = few
    pipeline = Pipeline([("clf", quick(NADClassifier))])
    with pytest.raises(ValueError, match="clean_mask"):
        pipeline.fit(X, y, clean_mask=np.ones(len(y), bool))


@BOTH
def test_a_scoring_callback_beside_a_mask(few, classifier):
    X, y = few
    monitor = ScoringMonitor(scoring="accuracy")
    fitted = quick(classifier).set_callbacks(monitor).fit(X, y, np.ones(len(y), bool))
    rows = monitor.get_logs().data
    assert rows[-1]["accuracy"] == fitted.score(X, y)


# --- fine-pruning


def head_of(weight):
    head = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(weight))
        head.bias.zero_()
    return head


# Mean absolute activations 1, 0.25, 3 and 2: the order is 1, 0, 3, 2.
FEATURES = torch.tensor(
    [[1.0, 0.5, 6.0, 0.0], [1.0, 0.0, 6.0, 0.0], [-1.0, 0.5, 0.0, 4.0], [1.0, 0.0, 0.0, 4.0]]
)
# Channel 2 speaks for class 0 and channel 3 for class 1; channel 0 matters to nobody.
HEAD = [[0.0, 0.0, 1.0, 0.0], [0.1, 0.1, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("drop", "wanted"),
    [
        (0.0, [1, 0]),  # without channel 3, rows 2 and 3 get the first class of a tie
        (0.49, [1, 0]),
        (0.5, [1, 0, 3]),
        (1.0, [1, 0, 3]),  # one channel is left whatever the loss
    ],
)
def test_pruning_by_hand(drop, wanted):
    labels = torch.tensor([0, 0, 1, 1])
    pruned = choose_pruned(FEATURES, labels, head_of(HEAD), drop)
    assert pruned.tolist() == wanted


def test_pruning_ends_at_the_first_channel_that_costs_too_much():
    # The least active channel is the one that tells; the others would cost nothing.
    features = torch.tensor([[0.1, 5.0], [-0.1, 5.0]])
    head = head_of([[1.0, 0.0], [-1.0, 0.0]])
    assert choose_pruned(features, torch.tensor([0, 1]), head, 0.0).tolist() == []


def test_pruned_channels_stay_pruned_and_the_others_learn():
    torch.manual_seed(0)
    head = nn.Linear(4, 3)
    with pruned_for_good(head, torch.tensor([0, 2])):
        start = head.weight.detach().clone()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(FEATURES), torch.tensor([0, 1, 2, 0])).backward()
            optimizer.step()
    assert not head.weight[:, [0, 2]].any()
    assert (head.weight[:, [1, 3]] != start[:, [1, 3]]).all()
    # After the block nothing holds them.
    nn.functional.cross_entropy(head(FEATURES), torch.tensor([0, 1, 2, 0])).backward()
    assert head.weight.grad[:, [0, 2]].any()


def test_pruned_network(few):
    X, y = few
    fitted = quick(FinePruningClassifier, epochs=10, finetune_epochs=3).fit(X, y)
    assert fitted.pruned_.dtype == np.int64
    assert 0 < len(fitted.pruned_) < 64
    assert len(np.unique(fitted.pruned_)) == len(fitted.pruned_)
    dead = (fitted.module_.head.weight == 0).all(0).nonzero().squeeze(1)
    assert sorted(fitted.pruned_.tolist()) == dead.tolist()
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(copied.pruned_, fitted.pruned_)
    more = quick(FinePruningClassifier, epochs=10, finetune_epochs=3, max_accuracy_drop=0.6)
    assert len(more.fit(X, y).pruned_) > len(fitted.pruned_)


# --- NAD


def test_attention_by_hand():
    maps = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]])  # (1, 2, 1, 2)
    assert attention(maps).tolist() == [[10.0, 4.0]]


def test_distance_by_hand():
    student = torch.tensor([[3.0, 4.0], [2.0, 0.0]])
    teacher = torch.tensor([[4.0, 3.0], [0.0, 7.0]])
    # (0.8, 0.6) - (0.6, 0.8), and two that look at nothing in common.
    wanted = (np.hypot(0.2, 0.2) + np.sqrt(2)) / 2
    assert attention_distance(student, teacher).item() == pytest.approx(wanted, rel=1e-6)
    # How strong an activation is does not count.
    assert attention_distance(student, 5 * student).item() == pytest.approx(0, abs=1e-6)


def test_equal_and_vanished_attention_have_finite_gradients():
    student = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    distance = attention_distance(student, torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    distance.backward()
    assert distance.item() == 0
    assert student.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def network_for(backbone, shape):
    channels = torch.ones(shape[0])
    torch.manual_seed(0)
    return build_network(backbone, shape, 3, mean=0 * channels, scale=channels)


@pytest.mark.parametrize(
    ("backbone", "shape", "stages"),
    [
        ("small-cnn", (1, 8, 8), {(8, 8): 64, (4, 4): 16}),
        ("wrn-16-1", (3, 32, 32), {(32, 32): 1024, (16, 16): 256, (8, 8): 64}),
        (
            "resnet18",
            (3, 64, 64),
            {(32, 32): 1024, (16, 16): 256, (8, 8): 64, (4, 4): 16, (2, 2): 4},
        ),
        ("mlp", (5,), {(128,): 128}),
        # Its blocks work channels-last: only what it convolves counts.
        ("convnext_tiny", (3, 64, 64), {(16, 16): 256, (8, 8): 64, (4, 4): 16, (2, 2): 4}),
    ],
)
def test_stages_of_backbones(backbone, shape, stages):
    network = network_for(backbone, shape).eval()
    inputs = torch.rand(2, *shape)
    with torch.no_grad():
        found, features = attentions(network, inputs)
        assert {size: seen.shape[1] for size, seen in found.items()} == stages
        assert features.equal(network.features(inputs))
    assert not any(module._forward_hooks for module in network.modules())


def test_the_last_map_of_a_resolution_counts():
    network = network_for("small-cnn", (1, 8, 8)).eval()
    inputs = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        found, _ = attentions(network, inputs)
        before_pooling = network.body[:6](network.standardise(inputs))
        wanted = before_pooling.square().sum(1).flatten(1)
    assert found[8, 8].equal(wanted)


def test_hooks_go_when_the_forward_pass_fails():
    network = network_for("small-cnn", (1, 8, 8))
    with pytest.raises(RuntimeError):
        attentions(network, torch.rand(2, 7, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(("backbone", "shape"), [("small-cnn", (1, 8, 8)), ("mlp", (5,))])
def test_objective_is_its_terms(backbone, shape):
    student, teacher = network_for(backbone, shape), network_for(backbone, shape)
    nn.init.normal_(teacher.body[0 if backbone == "small-cnn" else 1].weight)
    student.eval()  # the same maps at each call
    inputs, labels = torch.rand(4, *shape), torch.tensor([0, 1, 2, 0])
    value, logits = AttentionDistillation(teacher, 2.0)(student, inputs, labels, torch.arange(4))
    ours, theirs = attentions(student, inputs)[0], attentions(teacher, inputs)[0]
    distance = sum(
        np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
        for size in ours
        for a, b in zip(ours[size].detach().numpy(), theirs[size].detach().numpy(), strict=True)
    )
    cross_entropy = nn.functional.cross_entropy(logits, labels).item()
    assert distance > 0.1
    assert value.item() == pytest.approx(cross_entropy + 2 * distance / 4, rel=1e-4)
    value.backward()
    assert all(weights.grad is None for weights in teacher.parameters())
    # The cross-entropy alone where the two look alike.
    alike, _ = AttentionDistillation(student, 2.0)(student, inputs, labels, torch.arange(4))
    assert alike.item() == pytest.approx(cross_entropy, rel=1e-6)


def test_the_distances_draw_the_student_to_the_teacher():
    student, teacher = (network_for("small-cnn", (1, 8, 8)) for _ in range(2))
    nn.init.normal_(teacher.body[0].weight)
    batch = torch.rand(16, 1, 8, 8), torch.arange(16) % 3, torch.arange(16)
    objective = AttentionDistillation(teacher, 100.0)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    values = []
    for _ in range(60):
        value, _ = objective(student, *batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]


def test_beta_changes_the_student_and_not_the_teacher(few):
    X, y = few
    one, other = (quick(NADClassifier, beta=beta).fit(X, y) for beta in (0, 5))
    phases = [row["phase"] for row in one.history_]
    assert phases == ["train", "train", "teach", "distil"]
    assert [row["objective"] for row in one.history_[:3]] == [
        row["objective"] for row in other.history_[:3]
    ]
    # Without the distances the objective is the loss.
    assert one.history_[-1]["objective"] == pytest.approx(one.history_[-1]["loss"], rel=1e-5)
    assert other.history_[-1]["objective"] > other.history_[-1]["loss"] + 0.01
    assert (one.predict_proba(X) != other.predict_proba(X)).any()


@BOTH
def test_a_failing_fine_tuning_leaves_nothing_behind(few, classifier):
    X, y = few
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)
    )
    fitted = quick(classifier, backbone=module).fit(X, y)
    before = dict(vars(fitted))
    fitted.set_params(finetune_rate=1e38, finetune_epochs=5)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fitted.fit(X, y)
    assert vars(fitted) == {**before, "finetune_rate": 1e38, "finetune_epochs": 5}
    assert not any(part._forward_hooks for part in [*module.modules(), *fitted.module_.modules()])
    assert not fitted.module_.head.weight._backward_hooks
