"""Mode connectivity repair: the curve, its ends and what is kept of it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.callback import ScoringMonitor
from torch import nn

from antibackdoor import ModeConnectivityClassifier, UndefendedClassifier, make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.backbones import build_network
from antibackdoor.defenses import _mode_connectivity
from antibackdoor.defenses._mode_connectivity import BezierCurve, bezier, measure_batch_norm
from antibackdoor.metrics import attack_success_rate, clean_accuracy, target_recall
from antibackdoor.training import Samples, Training, _run
from antibackdoor.utils import resolve_layout


def quick(**changes):
    settings = {"epochs": 2, "finetune_epochs": 2, "random_state": 0}
    return ModeConnectivityClassifier(**{**settings, **changes})


def some_of_every_class(y, allowed, share):
    """A mask of a random share of every class, among the rows that are allowed."""
    mask = np.zeros(len(y), dtype=bool)
    rng = np.random.default_rng(0)
    for label in np.unique(y):
        rows = np.flatnonzero((y == label) & allowed)
        mask[rng.choice(rows, max(1, round(share * len(rows))), replace=False)] = True
    return mask


@pytest.fixture(scope="module")
def few(digits):
    """Images of four digits, uint8 (80, 8, 8), their labels and which are known to be clean."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:80]
    return X[rows], y[rows], some_of_every_class(y[rows], np.ones(80, bool), share=0.3)


def network_of(seed, backbone="small-cnn", shape=(1, 8, 8)):
    channels = torch.ones(shape[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_network(backbone, shape, 3, mean=0 * channels, scale=channels)


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


# --- quality


@pytest.fixture(scope="module")
def cleansed(split_digits):
    """A classifier that was told of a tenth of the rows, 10 % of which hold BadNets."""
    X, _, y, _ = split_digits
    X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    known = some_of_every_class(y_bad, ~poison_mask, share=0.1)
    clf = ModeConnectivityClassifier(epochs=8, finetune_epochs=20, random_state=0)
    return clf.fit(X_bad, y_bad, clean_mask=known)


# Over three seeds ASR is 0.01 to 0.14 and CA 0.97 to 0.98, one to two points below no defence.
def test_quality_on_poisoned_digits(cleansed, split_digits):
    X_train, X_test, y_train, y_test = split_digits
    bad = make_poisoned(X_train, y_train, attack="badnets", random_state=0)
    triggered = BadNets().fit(X_train).transform(X_test)

    def measure(clf):
        accuracy = clean_accuracy(y_test, clf.predict(X_test))
        return attack_success_rate(y_test, clf.predict(triggered), target_label=0), accuracy

    asr_without, accuracy_without = measure(
        UndefendedClassifier(epochs=8, random_state=0).fit(*bad[:2])
    )
    asr, accuracy = measure(cleansed)
    assert asr_without > 0.95
    assert asr < 0.25
    assert accuracy > accuracy_without - 0.05
    assert target_recall(y_test, cleansed.predict(X_test), target_label=0) > 0.9


def test_nothing_is_flagged(cleansed):
    assert not cleansed.isolate_mask_.any()
    assert cleansed.isolate_classes_.tolist() == []


def test_phases(few):
    fitted = quick(epochs=3, finetune_epochs=2).fit(*few)
    phases = [row["phase"] for row in fitted.history_]
    assert phases == ["train"] * 3 + ["finetune"] * 2 + ["connect"] * 2


def test_what_follows_training_sees_the_clean_rows_alone(few, monkeypatch):
    X, y, known = few
    seen = []

    class Spy(Training):
        def run_epoch(self):
            record = super().run_epoch()
            seen.append(~record.losses.isnan().cpu().numpy())
            return record

    monkeypatch.setattr(_run, "Training", Spy)
    fitted = quick().fit(X, y, known)
    np.testing.assert_array_equal(fitted.clean_mask_, known)
    for row, rows_seen in zip(fitted.history_, seen, strict=True):
        wanted = np.ones(len(y), bool) if row["phase"] == "train" else known
        np.testing.assert_array_equal(rows_seen, wanted, err_msg=row["phase"])


# --- the curve


@pytest.mark.parametrize(
    ("t", "wanted"),
    [
        (0.0, [1.0, 0.0]),
        (0.25, [0.5625 + 0.375 * 5 - 0.0625 * 3, -0.375 * 2 + 0.0625 * 8]),
        (0.5, [0.25 + 2.5 - 0.75, -1.0 + 2.0]),
        (1.0, [-3.0, 8.0]),
    ],
)
def test_bezier_by_hand(t, wanted):
    w1, theta, w2 = torch.tensor([[1.0, 0.0], [5.0, -2.0], [-3.0, 8.0]])
    assert bezier(t, w1, theta, w2).tolist() == pytest.approx(wanted)
    assert bezier(torch.tensor(t), w1, theta, w2).tolist() == pytest.approx(wanted)


def test_the_ends_of_the_curve_are_the_networks():
    start, end = network_of(1), network_of(2)
    curve = BezierCurve(start, end, torch.Generator())
    control = network_of(3)
    assert weights(curve.network_at(0.0, control)).equal(weights(start))
    assert weights(curve.network_at(1.0, control)).equal(weights(end))
    wanted = (weights(start) + 2 * weights(control) + weights(end)) / 4
    torch.testing.assert_close(weights(curve.network_at(0.5, control)), wanted)
    assert weights(control).equal(weights(network_of(3)))


def test_the_first_curve_is_a_line():
    start, end = network_of(1), network_of(2)
    curve = BezierCurve(start, end, torch.Generator())
    control = curve.straight()
    for t in (0.2, 0.5, 0.7):
        wanted = (1 - t) * weights(start) + t * weights(end)
        torch.testing.assert_close(weights(curve.network_at(t, control)), wanted)


def test_objective_is_the_cross_entropy_at_the_point_that_the_generator_draws():
    start, end, control = (network_of(seed, "mlp", (5,)) for seed in (1, 2, 3))
    before = [weights(network) for network in (start, end, control)]
    inputs, labels = torch.rand(6, 5), torch.arange(6) % 3
    generator = torch.Generator().manual_seed(4)
    curve = BezierCurve(start, end, generator)
    twin = torch.Generator().manual_seed(4)
    values = []
    for _ in range(3):
        value, logits = curve(control, inputs, labels, torch.arange(6))
        by_hand = copy.deepcopy(control)
        t = torch.rand((), generator=twin)
        with torch.no_grad():
            for mine, w1, theta, w2 in zip(
                *(network.parameters() for network in (by_hand, start, control, end)), strict=True
            ):
                mine.copy_((1 - t) ** 2 * w1 + 2 * t * (1 - t) * theta + t**2 * w2)
        torch.testing.assert_close(logits, by_hand(inputs))
        assert value.item() == pytest.approx(nn.functional.cross_entropy(logits, labels).item())
        values.append(value.item())
    assert len(set(values)) == 3
    # The curve draws one number a step, and from nowhere else.
    assert generator.get_state().equal(twin.get_state())
    for network, was in zip((start, end, control), before, strict=True):
        assert weights(network).equal(was)


def test_the_gradient_is_the_control_points_share_and_reaches_it_alone():
    start, end, control = (network_of(seed, "mlp", (5,)) for seed in (1, 2, 3))
    inputs, labels = torch.rand(6, 5), torch.arange(6) % 3
    curve = BezierCurve(start, end, torch.Generator().manual_seed(4))
    value, _ = curve(control, inputs, labels, torch.arange(6))
    value.backward()
    t = float(torch.rand((), generator=torch.Generator().manual_seed(4)))
    there = curve.network_at(t, control)
    nn.functional.cross_entropy(there(inputs), labels).backward()
    for theta, weight in zip(control.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(theta.grad, 2 * t * (1 - t) * weight.grad)
    assert all(weight.grad is None for end_ in (start, end) for weight in end_.parameters())


# --- batch norm


def test_statistics_are_those_of_the_rows():
    network = network_of(0)
    X = torch.randint(0, 256, (40, 8, 8), dtype=torch.uint8).numpy()
    samples = Samples(X, resolve_grey(X), torch.device("cpu"), torch.float32)
    rows = torch.arange(5, 30)
    network.body[1].running_mean.fill_(7.0)
    measure_batch_norm(network, samples, rows, torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = network.body[0](torch.from_numpy(X[5:30, None]).float() / 255)
    torch.testing.assert_close(network.body[1].running_mean, maps.mean((0, 2, 3)))
    torch.testing.assert_close(network.body[1].running_var, maps.var((0, 2, 3)))
    assert not any(module.training for module in network.modules())
    assert network.body[1].momentum == 0.1


def resolve_grey(X):
    return resolve_layout(X.shape[1:], None, "auto")


def test_dropout_rests_while_statistics_are_measured():
    network = network_of(0)
    network.body.insert(1, nn.Dropout(0.9))
    X = torch.randint(0, 256, (20, 8, 8), dtype=torch.uint8).numpy()
    samples = Samples(X, resolve_grey(X), torch.device("cpu"), torch.float32)
    measure_batch_norm(network, samples, torch.arange(20), torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = network.body[0](torch.from_numpy(X[:, None]).float() / 255)
    torch.testing.assert_close(network.body[2].running_var, maps.var((0, 2, 3)))


# --- what is kept


def test_position_says_what_is_kept(few, monkeypatch):
    ends = []

    class Spy(BezierCurve):
        def __init__(self, start, end, generator):
            ends.extend([copy.deepcopy(start), copy.deepcopy(end)])
            super().__init__(start, end, generator)

    monkeypatch.setattr(_mode_connectivity, "BezierCurve", Spy)
    first, middle, second = (quick(position=t).fit(*few) for t in (0, 0.5, 1))
    assert weights(first.module_).equal(weights(ends[0]))
    assert weights(second.module_).equal(weights(ends[1]))
    assert not weights(ends[0]).equal(weights(ends[1]))
    assert (middle.predict_proba(few[0]) != first.predict_proba(few[0])).any()
    # Where on the curve the network is kept does not change how the curve is laid.
    objectives = [[row["objective"] for row in clf.history_] for clf in (first, middle, second)]
    assert objectives[0] == objectives[1] == objectives[2]


def test_same_seed_same_bits(few):
    X = few[0]
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, two, other = (quick(random_state=seed).fit(*few) for seed in (3, 3, 4))
    assert weights(one.module_).equal(weights(two.module_))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    assert (one.predict_proba(X) != other.predict_proba(X)).any()
    # No generator but the fit's own has moved.
    assert torch.get_rng_state().equal(before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_longer_laying_changes_the_network_and_pickling_does_not(few):
    X = few[0]
    fitted = quick().fit(*few)
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(X), fitted.predict_proba(X))
    longer = quick(finetune_epochs=3).fit(*few)
    assert (longer.predict_proba(X) != fitted.predict_proba(X)).any()


def test_a_callback_looks_on_and_changes_nothing(few):
    X, y, known = few
    monitor = ScoringMonitor(scoring="accuracy")
    watched = quick().set_callbacks(monitor).fit(X, y, known)
    rows = {row["task_id_path"]: row["accuracy"] for row in monitor.get_logs().data}
    assert len(rows) == 1 + 3 + 6  # of the fit, its phases and their epochs
    assert rows[0,] == watched.score(X, y)
    assert weights(watched.module_).equal(weights(quick().fit(X, y, known).module_))


@pytest.mark.parametrize("backbone", ["mlp", "wrn-10-1"])
def test_other_backbones(few, backbone):
    X, y, known = few
    fitted = quick(backbone=backbone, epochs=1, finetune_epochs=1).fit(X, y, known)
    assert np.isfinite(fitted.predict_proba(X)).all()


def test_a_frozen_layer_of_the_users_stays_frozen(few):
    X, y, known = few
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    module[1].requires_grad_(False)
    fitted = quick(backbone=module).fit(X, y, known)
    torch.testing.assert_close(fitted.module_.body[1].weight, module[1].weight)
    assert (fitted.module_.head.weight != module[3].weight).any()


# --- bad input


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("position", -0.1),
        ("position", 1.1),
        ("position", "middle"),
        ("position", None),
        ("epochs", 0),
        ("finetune_epochs", 0),
        ("finetune_rate", 0),
        ("clean_share", 0),
    ],
)
def test_bad_parameters(few, parameter, value, monkeypatch):
    monkeypatch.setattr(_run, "Training", lambda *a, **k: pytest.fail("the training began"))
    with pytest.raises(ValueError, match=parameter):
        ModeConnectivityClassifier(**{parameter: value}).fit(*few)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones(80, int), TypeError, "clean_mask holds int64; wanted booleans"),
        (np.ones(79, bool), ValueError, r"clean_mask has shape \(79,\); wanted \(80,\)"),
        (np.zeros(80, bool), ValueError, r"marks no row of the classes \[0, 1, 2, 3\]"),
    ],
)
def test_bad_mask(few, mask, error, message, monkeypatch):
    monkeypatch.setattr(_run, "Training", lambda *a, **k: pytest.fail("the training began"))
    estimator = quick()
    before = dict(vars(estimator))
    with pytest.raises(error, match=message):
        estimator.fit(*few[:2], clean_mask=mask)
    assert vars(estimator) == before


@pytest.mark.parametrize("finetune_epochs", [1, 5])
def test_a_failing_laying_leaves_nothing_behind(few, finetune_epochs):
    fitted = quick(backbone="mlp").fit(*few)
    before = dict(vars(fitted))
    fitted.set_params(finetune_rate=1e38, finetune_epochs=finetune_epochs)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fitted.fit(*few)
    assert vars(fitted) == {
        **before,
        "finetune_rate": 1e38,
        "finetune_epochs": finetune_epochs,
    }
