"""DBD: the formulas of its three phases, what each phase may see, and that it defends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from antibackdoor import DBDClassifier, make_asr_scorer, make_poisoned
from antibackdoor.backbones import Network
from antibackdoor.defenses._contrast import RandomViews, nt_xent
from antibackdoor.defenses._credibility import pick_credible, symmetric_cross_entropy
from antibackdoor.defenses._mixmatch import MixMatch, draw_weights, sharpen

SHORT = {"self_supervised_epochs": 2, "head_epochs": 2, "finetune_epochs": 1}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quick(**changes):
    settings = {**SHORT, "backbone": "small-cnn", "batch_size": 32, "random_state": 0}
    return DBDClassifier(**{**settings, **changes})


@pytest.fixture(scope="module")
def rows(digits):
    X, y = digits
    return X[:150], y[:150]


@pytest.fixture(scope="module")
def fitted(rows):
    return quick().fit(*rows)


class Stages:
    """Keeps the weights of the body as each phase leaves them."""

    def __init__(self):
        self.bodies = {}

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "epoch":
            # Later epochs of a phase write over the ones before.
            self.bodies[context.parent.task_name] = {
                name: weights.numpy().copy()
                for name, weights in fitted_estimator.module_.body.state_dict().items()
            }


class StopIn(Stages):
    """Interrupts the fit after the first epoch of a phase."""

    def __init__(self, phase):
        self._phase = phase

    def on_fit_task_end(self, estimator, context):
        if (context.task_name, context.parent.task_name) == ("epoch", self._phase):
            raise KeyboardInterrupt


def bodies_of(rows, y):
    stages = Stages()
    quick().set_callbacks(stages).fit(rows[0], y)
    return stages.bodies


# ------------------------------------------------------------------------------ formulas


def test_nt_xent_against_its_definition():
    projected = np.random.default_rng(0).normal(size=(6, 4))
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    exps = np.exp(unit @ unit.T / 0.5)
    terms = [
        -np.log(exps[i, (i + 3) % 6] / sum(exps[i, k] for k in range(6) if k != i))
        for i in range(6)
    ]
    assert float(nt_xent(torch.tensor(projected))) == pytest.approx(np.mean(terms), rel=1e-12)


def test_nt_xent_by_hand():
    """Two samples at right angles, whose views agree: each view has cosines 1, 0 and 0."""
    views = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    assert float(nt_xent(views)) == pytest.approx(np.log((np.e**2 + 2) / np.e**2), rel=1e-6)
    assert float(nt_xent(views, temperature=1.0)) == pytest.approx(np.log((np.e + 2) / np.e))


def test_symmetric_cross_entropy_by_hand():
    """Probabilities 1/4 and 3/4: - log p of the label, and 4 times the other's."""
    logits = torch.log(torch.tensor([[0.25, 0.75], [0.25, 0.75]], dtype=torch.float64))
    losses = symmetric_cross_entropy(logits, torch.tensor([0, 1]))
    assert_allclose(losses, [-np.log(0.25) + 4 * 0.75, -np.log(0.75) + 4 * 0.25], rtol=1e-12)


def test_sharpening_by_hand():
    assert_allclose(sharpen(torch.tensor([[0.5, 0.25, 0.25]])), [[2 / 3, 1 / 6, 1 / 6]], rtol=1e-6)
    even = torch.tensor([[0.5, 0.5]])
    assert torch.equal(sharpen(even), even)
    kept = torch.tensor([[0.9, 0.1]])
    assert_allclose(sharpen(kept, temperature=1.0), kept)


def test_mixtures_are_mostly_the_sample_itself():
    torch.manual_seed(0)
    weights = draw_weights(4000, torch.zeros((), dtype=torch.float64))
    assert float(weights.min()) >= 0.5
    assert float(weights.max()) <= 1
    # Of Beta(a, a), E[(2 w - 1)^2] = 1 / (2 a + 1).
    assert float((2 * weights - 1).square().mean()) == pytest.approx(1 / 2.5, abs=0.02)


def identity_network():
    """Logits of three classes, which are the inputs."""
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.zero_()
    return Network(nn.Identity(), nn.Identity(), head)


def mixmatch(**changes):
    settings = {"n_unlabelled": 2, "augmentation": None, "weight": 15.0, "n_steps": 4}
    return MixMatch(**{**settings, "generator": seeded(), **changes})


def test_mixmatch_of_unmixed_samples(monkeypatch):
    monkeypatch.setattr(
        "antibackdoor.defenses._mixmatch.draw_weights", lambda n, like: torch.ones(n).to(like)
    )
    inputs = torch.randn(5, 3, generator=seeded(1))
    labels = torch.tensor([0, 1, 2, 0, 1])
    network, objective = identity_network(), mixmatch()
    values = [float(objective(network, inputs, labels, labels)[0].detach()) for _ in range(6)]
    said = np.exp(inputs.double().numpy())
    said /= said.sum(1, keepdims=True)
    told = -np.log(said[[0, 1, 2], [0, 1, 2]]).mean()
    squares = said[3:] ** 2
    distance = ((said[3:] - squares / squares.sum(1, keepdims=True)) ** 2).mean()
    # lambda_U rises step by step, and stays.
    wanted = [told + 15 * share * distance for share in (0, 0.25, 0.5, 0.75, 1, 1)]
    assert_allclose(values, wanted, rtol=1e-5)


def test_mixmatch_mixes_inputs_and_labels_alike(monkeypatch):
    monkeypatch.setattr(
        "antibackdoor.defenses._mixmatch.draw_weights", lambda n, like: torch.full((n,), 0.75)
    )
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n).roll(1))
    inputs = torch.randn(3, 3, generator=seeded(2))
    labels = torch.tensor([0, 2, 1])
    objective = mixmatch(n_unlabelled=0)
    value, logits = objective(identity_network(), inputs, labels, labels)
    mixed = 0.75 * inputs + 0.25 * inputs.roll(1, 0)
    assert_allclose(logits.detach(), mixed, rtol=1e-6)
    wanted = 0.75 * torch.eye(3)[labels] + 0.25 * torch.eye(3)[labels.roll(1)]
    told = -(wanted * mixed.log_softmax(1)).sum(1).mean()
    assert float(value.detach()) == pytest.approx(float(told), rel=1e-6)


def test_mixmatch_does_not_look_at_the_other_labels():
    inputs = torch.randn(5, 3, generator=seeded(1))
    values = []
    for labels in ([0, 1, 2, 0, 1], [0, 1, 2, 2, 2]):
        torch.manual_seed(0)
        objective = mixmatch()
        objective.restore({"steps_done": 4})
        given = torch.tensor(labels)
        values.append(objective(identity_network(), inputs, given, given)[0].detach())
        assert objective.state() == {"steps_done": 5}
    assert torch.equal(*values)


# --------------------------------------------------------------------------------- views


def test_views_of_one_image_differ_and_follow_the_generator():
    images = torch.rand(1, 3, 16, 16, generator=seeded()).expand(6, -1, -1, -1)
    one, again = (RandomViews(True, seeded(1))(images) for _ in range(2))
    assert one.shape == images.shape
    assert torch.equal(one, again)
    assert all(not torch.equal(one[0], other) for other in one[1:])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_plain_image_stays_plain(channels):
    """Nothing from beyond the edge comes in, and greys stay grey."""
    views = RandomViews(False, seeded())(torch.full((40, channels, 8, 6), 0.5))
    spread = views.amax((1, 2, 3)) - views.amin((1, 2, 3))
    assert float(spread.max()) < 1e-5
    brightness = views.mean((1, 2, 3))
    assert 0.29 < float(brightness.min()) < 0.4
    assert 0.6 < float(brightness.max()) < 0.71
    # One in five keeps its colours.
    assert 2 <= int((brightness - 0.5).abs().lt(1e-6).sum()) <= 16


def test_a_fifth_of_coloured_views_is_grey():
    images = torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1).expand(400, -1, 4, 4)
    views = RandomViews(False, seeded())(images)
    grey = (views.amax(1) - views.amin(1)).amax((1, 2)) < 1e-5
    assert 0.14 < float(grey.float().mean()) < 0.26
    kept = (views - images).abs().amax((1, 2, 3)) < 1e-5
    assert (
        0.1 < float(kept.float().mean()) < 0.22
    )  # a fifth is not jittered, of which some are grey
    # A turn about the greys keeps the mean, and brightness scales it by 0.6 to 1.4.
    means = views.mean((1, 2, 3)) / 0.5
    assert float(means.min()) > 0.59
    assert float(means.max()) < 1.41


@pytest.mark.parametrize("flip", [False, True])
def test_views_are_pieces_of_the_image(flip):
    """Of a slope from left to right, a piece is less steep; mirrored it falls."""
    slope = torch.linspace(0, 1, 32).expand(200, 2, 32, 32)
    views = RandomViews(flip, seeded())(slope)
    rise = views[:, 0, 0, -1] - views[:, 0, 0, 0]
    assert 0.3 < float((rise < 0).float().mean()) < 0.7 if flip else float(rise.min()) > 0
    # Half of the contrast and a third of the width at least, 1.4 squared of the whole at most.
    assert float(rise.abs().min()) > 0.6 * 0.6 * np.sqrt(0.2 * 3 / 4) * 0.9
    assert float(rise.abs().max()) < 1.4 * 1.4


def test_views_of_a_table_hold_values_of_their_columns():
    table = torch.arange(800.0).view(200, 4)
    views = RandomViews(False, seeded())(table)
    assert torch.equal(views % 4, table % 4)
    changed = (views != table).float().mean()
    assert 0.25 < float(changed) < 0.35


# -------------------------------------------------------------------------------- phases


def test_the_first_phase_sees_no_labels(rows):
    y = np.random.default_rng(0).permutation(rows[1])
    bodies, others = bodies_of(rows, rows[1]), bodies_of(rows, y)
    assert list(bodies) == ["contrast", "head", "finetune"]
    for name, weights in bodies["contrast"].items():
        assert_array_equal(others["contrast"][name], weights)
        # Nor does the second move the body, or measure its batch norms anew.
        assert_array_equal(bodies["head"][name], weights)
    assert any(
        (body != others["finetune"][name]).any() for name, body in bodies["finetune"].items()
    )


def test_the_credible_rows_are_those_of_low_loss():
    losses = np.array([0.1, 3.0, 0.2, 9.0, 0.3, 8.0])
    labels = np.array([0, 0, 0, 1, 0, 1])
    # A third of six rows, and of class 1 the lowest, though it is among the highest.
    assert_array_equal(np.flatnonzero(pick_credible(losses, labels, 2 / 3)), [0, 2, 5])
    assert pick_credible(losses, labels, 0.0).all()
    assert_array_equal(np.flatnonzero(pick_credible(losses, labels, 0.99)), [0, 5])


def test_what_a_fit_says_of_the_rows(fitted, rows):
    y = rows[1]
    credible, scores = fitted.credible_mask_, fitted.isolate_scores_
    assert credible.sum() >= 75
    assert_array_equal(np.unique(y[credible]), np.unique(y))
    # All that lost their label lie above half of the rows, the lowest of each class aside.
    assert scores[~credible].min() >= np.median(scores)
    assert not fitted.isolate_mask_.any()
    assert fitted.isolate_threshold_ == np.inf
    assert [row["phase"] for row in fitted.history_] == ["contrast"] * 2 + ["head"] * 2 + [
        "finetune"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"self_supervised_batch_size": 64},
        {"self_supervised_rate": 0.01},
        {"filtering_rate": 0.2},
        {"unlabelled_weight": 0.0},
        {"augment": "flip"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_has_an_effect(fitted, rows, change):
    other = quick(**change).fit(*rows)
    assert (other.predict_proba(rows[0]) != fitted.predict_proba(rows[0])).any()


def test_a_fit_that_is_stopped_goes_on_to_the_same_bits(fitted, rows, tmp_path):
    clf = quick(cache_dir=tmp_path)
    for phase in ("contrast", "head", "finetune"):
        with pytest.raises(KeyboardInterrupt):
            clf.set_callbacks(StopIn(phase)).fit(*rows)
    clf.set_callbacks().fit(*rows)
    assert_array_equal(clf.predict_proba(rows[0]), fitted.predict_proba(rows[0]))
    assert_array_equal(clf.credible_mask_, fitted.credible_mask_)


def test_mapped_rows_give_the_same_fit(fitted, rows, tmp_path):
    np.save(tmp_path / "X.npy", rows[0])
    clf = quick().fit(np.load(tmp_path / "X.npy", mmap_mode="r"), rows[1])
    assert_array_equal(clf.predict_proba(rows[0]), fitted.predict_proba(rows[0]))


def test_divergence_is_an_error(rows):
    clf = quick(learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="phase '(head|finetune)'"):
        clf.fit(*rows)
    assert not hasattr(clf, "credible_mask_")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("self_supervised_epochs", 0),
        ("self_supervised_batch_size", 1),
        ("self_supervised_rate", 0),
        ("head_epochs", 0),
        ("filtering_rate", 1),
        ("finetune_epochs", 0),
        ("unlabelled_weight", -1),
    ],
)
def test_bad_parameters(rows, name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        quick(**{name: value}).fit(*rows)


def test_the_papers_settings():
    clf = DBDClassifier.from_paper(finetune_epochs=3)
    assert (clf.self_supervised_epochs, clf.head_epochs, clf.finetune_epochs) == (1000, 10, 3)
    assert (clf.filtering_rate, clf.unlabelled_weight) == (0.5, 15)


def test_it_does_not_take_the_backdoor_in(split_digits):
    X, X_test, y, y_test = split_digits
    X_bad, y_bad, poison_mask = make_poisoned(
        X, y, attack="badnets", poison_rate=0.1, target_label=0, random_state=0
    )
    clf = DBDClassifier(
        self_supervised_epochs=7,
        self_supervised_batch_size=128,
        head_epochs=20,
        finetune_epochs=4,
        batch_size=64,
        random_state=0,
    ).fit(X_bad, y_bad)
    # Without a defence the ASR, which the scorer gives with a minus, is 100 %. Of other seeds
    # the worst has 23 %.
    assert make_asr_scorer("badnets", target_label=0)(clf, X_test, y_test) > -0.15
    assert clf.score(X_test, y_test) > 0.88
    assert clf.credible_mask_[poison_mask].mean() < 0.1
