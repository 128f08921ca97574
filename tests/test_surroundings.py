"""What the program around has set, its other threads and its forks: none of it matters."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import antibackdoor
from antibackdoor import UndefendedClassifier, load_model, make_poisoned, save_model
from antibackdoor.attacks import ATTACKS
from antibackdoor.training import Samples
from antibackdoor.utils import resolve_layout, seeded_torch

CPU = torch.device("cpu")


def images(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype("u1")


X, Y = images(60, 16, 16, 3), np.arange(60) % 3


def weights(clf):
    return b"".join(value.numpy().tobytes() for value in clf.module_.state_dict().values())


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def grad_off():
    return torch.set_grad_enabled(False)


def autocast(dtype=torch.bfloat16):
    return torch.autocast("cpu", dtype=dtype)


AROUND = {
    "autocast": autocast,
    "autocast to float16": lambda: autocast(torch.float16),
    "no_grad": torch.no_grad,
    "set_grad_enabled": grad_off,
    "inference_mode": torch.inference_mode,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "deterministic": deterministic,
}


def dropping(input_shape, n_classes):
    """A network of a user's that draws as it is built and as it runs."""
    n_inputs = int(np.prod(input_shape))
    return nn.Sequential(
        nn.Flatten(), nn.Linear(n_inputs, 16), nn.Dropout(0.5), nn.Linear(16, n_classes)
    )


def seeding(input_shape, n_classes):
    torch.manual_seed(3)
    return dropping(input_shape, n_classes)


def undefended(backbone="small-cnn", **changes):
    settings = {"epochs": 2, "batch_size": 32, "random_state": 0, "device": "cpu"}
    return UndefendedClassifier(backbone=backbone, **{**settings, **changes})


def attack_of(kind):
    known = inspect.signature(kind).parameters
    quick = {"generator_epochs": 1, "surrogate_epochs": 1, "steps": 2, "surrogate": "small-cnn"}
    return kind(**{name: value for name, value in quick.items() if name in known})


def public_methods(kind):
    """Names of what a class of ours writes for its users and what takes rows."""
    return sorted(
        name
        for base in kind.__mro__
        if base.__module__.startswith("antibackdoor")
        for name, method in vars(base).items()
        if not name.startswith("_") and inspect.isfunction(method)
    )


def answers(model, rows, labels):
    """Ask a model all that its class has public methods for."""
    told = {"X": rows, "y": labels, "y_pred": labels, "random_state": 0}
    said = {}
    for name in set(public_methods(type(model))) - {"fit"}:
        method = getattr(model, name)
        known = [key for key in inspect.signature(method).parameters if key in told]
        if name == "transform_cover" and not model.cover_ratio:
            continue
        said[name] = method(**{key: told[key] for key in known})
    return said


def assert_same(one, other):
    assert one.keys() == other.keys() and one
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name, strict=True)


@pytest.fixture(scope="module", params=["small-cnn", dropping], ids=["small-cnn", "dropping"])
def plainly(request):
    """A backbone, a fit with it, and its answers."""
    fitted = undefended(request.param).fit(X[..., 0], Y)
    return request.param, fitted, answers(fitted, X[..., 0], Y)


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_a_fit_and_its_predictions(around, plainly):
    rows, labels = X[..., 0], Y
    backbone, plain, expected = plainly
    assert {"predict", "predict_proba", "decision_function"} <= expected.keys()
    with around():
        inside = undefended(backbone).fit(rows, labels)
        assert_same(answers(plain, rows, labels), expected)
        assert_same(answers(copy.deepcopy(inside), rows, labels), expected)
    assert weights(inside) == weights(plain)


def test_a_search_inside_autocast():
    def make():
        return antibackdoor.ABLClassifier(
            detector=antibackdoor.PoisonSearch(epochs=1),
            epochs=1,
            random_state=0,
            backbone="small-cnn",
        )

    rows, labels = images(100, 8, 8), np.arange(100) % 4  # enough to be searched
    plain = make().fit(rows, labels)
    with autocast():
        inside = make().fit(rows, labels)
    assert weights(inside) == weights(plain)
    np.testing.assert_array_equal(inside.isolate_scores_, plain.isolate_scores_)


@contextmanager
def everything():
    with autocast(), torch.inference_mode(), default_dtype(torch.float64), torch.device("meta"):
        yield


@pytest.mark.parametrize("kind", ATTACKS.values(), ids=ATTACKS)
def test_every_method_of_every_attack(kind):
    state = torch.get_rng_state()
    plain = attack_of(kind).fit(X, Y)
    assert torch.equal(torch.get_rng_state(), state)
    expected = answers(plain, X, Y)
    with everything():
        assert_same(answers(plain, X, Y), expected)
        assert_same(answers(attack_of(kind).fit(X, Y), X, Y), expected)
        poisoned = make_poisoned(X, Y, attack=plain, random_state=0)
    for one, other in zip(poisoned, make_poisoned(X, Y, attack=plain, random_state=0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_attack_of_the_users_own():
    class Faint(antibackdoor.attacks.BaseAttack):
        def __init__(
            self,
            *,
            target_label=0,
            label_map="all_to_one",
            value_range=None,
            image_shape=None,
            layout="auto",
        ):
            self.target_label, self.label_map = target_label, label_map
            self.value_range, self.image_shape, self.layout = value_range, image_shape, layout

        def _stamp(self, rows):
            assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")

    with torch.no_grad(), autocast():
        Faint().fit(X).transform(X)
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")


# --- random numbers


@pytest.mark.parametrize("backbone", [dropping, seeding, "mlp"], ids=["dropping", "seeding", "mlp"])
def test_the_global_generators_are_not_touched(backbone):
    states = set()

    def looking(input_shape, n_classes):
        made = backbone(input_shape, n_classes) if callable(backbone) else nn.Linear(n_classes, 3)
        return nn.Sequential(_Looking(states), made) if callable(backbone) else _Looking(states)

    before = torch.get_rng_state().numpy().tobytes()
    undefended(looking if callable(backbone) else backbone).fit(X[..., 0], Y)
    assert torch.get_rng_state().numpy().tobytes() == before
    assert states <= {before}


class _Looking(nn.Module):
    def __init__(self, states):
        super().__init__()
        self.states = states

    def __deepcopy__(self, memo):
        return _Looking(self.states)

    def forward(self, x):
        self.states.add(torch.get_rng_state().numpy().tobytes())
        return x


def test_draws_are_those_of_a_global_generator_with_the_seed():
    def draw():
        return [
            nn.Linear(3, 3).weight.detach(),
            torch.rand(3),
            torch.randint(2, 9, (4,)),
            torch.randperm(5),
            torch.rand_like(torch.ones(3)),
            torch.normal(0.0, 1.0, (2,)),
            torch.multinomial(torch.ones(4), 2),
            nn.functional.dropout(torch.ones(20), 0.5),
            nn.functional.alpha_dropout(torch.ones(20), 0.5, True),
            nn.RReLU()(-torch.ones(4)),
            nn.functional.scaled_dot_product_attention(*torch.rand(3, 1, 4, 4), dropout_p=0.5),
            torch.distributions.Gamma(1.0, 1.0).sample(),
            nn.LSTM(2, 2, 2, dropout=0.5)(torch.ones(3, 2))[0].detach(),
            torch.nn.init.trunc_normal_(torch.empty(4)),
        ]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = draw()
    before = torch.get_rng_state()
    with seeded_torch(5, CPU):
        drawn = draw()
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(drawn, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backbone", ["mlp", dropping, seeding])
def test_fits_in_threads(dtype, backbone):
    rows = images(60, 6, seed=1).astype("f4")
    expected = weights(undefended(backbone).fit(rows, Y))
    stop = threading.Event()

    def draw_elsewhere():
        while not stop.is_set():
            if (
                backbone == "mlp"
            ):  # a function of the user's may seed too, and which did is not told
                torch.manual_seed(11)
            drawn = torch.rand(4).numpy().tobytes()
            if backbone == "mlp":
                elsewhere.add(drawn)

    elsewhere: set[bytes] = set()
    fits: list[bytes] = []

    def fit():
        fits.extend(weights(undefended(backbone).fit(rows, Y)) for _ in range(2))

    with default_dtype(dtype), torch.random.fork_rng(devices=[]):
        noise = threading.Thread(target=draw_elsewhere)
        threads = [threading.Thread(target=fit) for _ in range(3)]
        if backbone is not seeding:  # whose own seeds would meet those of the other thread
            noise.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        if noise.is_alive():
            noise.join()
        assert torch.get_default_dtype() == dtype
    assert set(fits) == {expected} and len(fits) == 6
    assert len(elsewhere) <= 1


# --- other threads' fits, and forks


@pytest.fixture
def fit_that_stands_still():
    """A fit in another thread that is in the midst of a step for as long as the test."""
    entered, go_on = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def __deepcopy__(self, memo):
            return self

        def forward(self, x):
            if self.training:
                entered.set()
                go_on.wait(30)
            return x

    network = nn.Sequential(Waiting(), nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 3))
    rows = np.random.default_rng(0).random((30, 6))
    fit = undefended(network, epochs=1)
    thread = threading.Thread(target=lambda: fit.fit(rows, np.arange(30) % 3))
    thread.start()
    assert entered.wait(20)
    yield rows
    go_on.set()
    thread.join()


def do_all(rows, blob, path):
    pickle.loads(blob).predict(rows)
    copy.deepcopy(pickle.loads(blob))
    load_model(path)
    undefended("mlp", epochs=1).fit(rows, np.arange(len(rows)) % 3)


@pytest.fixture
def saved(tmp_path):
    rows = np.random.default_rng(0).random((30, 6))
    fitted = undefended("mlp", epochs=1).fit(rows, np.arange(30) % 3)
    save_model(fitted, tmp_path / "model.safetensors")
    return pickle.dumps(fitted), tmp_path / "model.safetensors"


def test_nothing_waits_for_a_fit_in_another_thread(saved, fit_that_stands_still):
    thread = threading.Thread(target=do_all, args=(fit_that_stands_still, *saved), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes do not fork here"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_forked_process_waits_for_nobody(saved, fit_that_stands_still, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        torch.rand(400, 400) @ torch.rand(400, 400)  # starts the threads that are not in the child
        process = multiprocessing.get_context("fork").Process(
            target=do_all, args=(fit_that_stands_still, *saved)
        )
        process.start()
    finally:
        torch.set_num_threads(before)
    process.join(20)
    finished = process.exitcode
    if finished is None:
        process.kill()
        process.join()
    assert finished == 0


def test_the_filters_of_warnings_stay(saved):
    _, path = saved
    fitted = load_model(path)
    before = list(warnings.filters)
    seen = []

    def work():
        for _ in range(5):
            save_model(fitted, path.with_name(f"{threading.get_ident()}.safetensors"))
            load_model(path)
            seen.append(warnings.filters == before)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 15


# --- a type of no width


VALUES = [0.3, 14.62, 1 / 3, -100.0, 1e8, 0.0]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("value", VALUES)
def test_constant_columns_and_channels(value, dtype, resident):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(700, 4)).astype(dtype)
    table[:, 1] = value
    table[:, 2] = value
    if value:
        table[::3, 2] = np.nextafter(table[0, 2], np.inf, dtype=dtype)
    for rows, layout in (
        (table, None),
        (table.T.reshape(4, 1, 28, 25).transpose(1, 2, 3, 0), "channels_last"),
    ):
        found = None if layout is None else resolve_layout(rows.shape[1:], None, layout)
        samples = Samples(
            np.ascontiguousarray(rows),
            found,
            CPU,
            getattr(torch, table.dtype.name),
            resident=resident,
        )
        _, scale = samples.channel_statistics
        assert scale[1] == scale[2] == 1
        np.testing.assert_allclose(scale[[0, 3]], table[:, [0, 3]].std(0), rtol=1e-5)


def test_a_narrow_column_far_from_zero_keeps_its_width():
    table = 1e6 + np.random.default_rng(0).normal(size=(500, 1)) * 1e-3
    _, scale = Samples(table, None, CPU, torch.float64).channel_statistics
    np.testing.assert_allclose(scale, table.std(0), rtol=1e-6)
