"""One fit by two processes: what one process finds, and an end where one of them fails.

Run as a script, this file is the two processes.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from joblib._parallel_backends import SequentialBackend
from torch import nn

import antibackdoor.training._estimator as estimator
from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    DBDClassifier,
    FitProgress,
    LossRank,
    NADClassifier,
    PoisonSearch,
    UndefendedClassifier,
    make_poisoned,
)
from antibackdoor.backbones import Network
from antibackdoor.datasets import load_digits_images
from antibackdoor.training import _parallel, alone, current_team, joined
from antibackdoor.training._batch_norm import batch_norm
from antibackdoor.training._parallel import Team
from antibackdoor.training._split import backward, by_rows, measures_together, split

CPU = torch.device("cpu")


def tiny_cnn(input_shape, n_classes):
    """Two convolutions, the first of which sees a trigger of 3 x 3 pixels whole."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(16, n_classes),
    )


_SMALL = {"backbone": tiny_cnn, "random_state": 0}

#: A fit of all terms and one that searches; a detector alone; views that are compared with those
#: of the whole batch; and attention, which is taken inside the body.
FITS = {
    "abl": lambda: ABLClassifier(detector=PoisonSearch(epochs=5), epochs=1, **_SMALL),
    "cbd": lambda: CBDClassifier.from_paper(
        detector__epochs=1, detector__augment=None, epochs=2, augment=None, **_SMALL
    ),
    "dbd": lambda: DBDClassifier(
        self_supervised_epochs=1, head_epochs=1, finetune_epochs=1, **_SMALL
    ),
    "nad": lambda: NADClassifier(epochs=1, finetune_epochs=1, **_SMALL),
    "rank": lambda: LossRank(ratio=0.1, epochs=1, **_SMALL),
}


def poisoned():
    """Return some images of four digits, 48 of them poisoned, and their labels."""
    X, y = load_digits_images()
    rows = np.flatnonzero(y < 4)[:320]
    return make_poisoned(X[rows], y[rows], attack="badnets", poison_rate=0.15, random_state=0)[:2]


def undefended(**changes):
    return UndefendedClassifier(**{"backbone": "mlp", "epochs": 3, "random_state": 0, **changes})


def outcome(clf):
    """All that a fit leaves, as arrays; the seconds too. A detector keeps no network."""
    history = {
        f"history {name}": np.array([row[name] for row in clf.history_])
        for name in ("objective", "loss", "accuracy", "seconds")
    }
    state = clf.module_.state_dict() if hasattr(clf, "module_") else {}
    weights = {name: weights.numpy() for name, weights in state.items()}
    return {"isolate": clf.isolate_, "scores": clf.isolate_scores_, **history, **weights}


def in_float64(monkeypatch):
    """Give images float64 networks: of other roundings only the last digits differ then.

    Training multiplies a difference from step to step, so that those of float32 come to 1e-2.
    """
    monkeypatch.setattr(estimator, "_network_dtype", lambda X, layout: torch.float64)


# ------------------------------------------------------------- in each of the two processes


class AfterEpoch:
    """Calls a function after the given number of epochs; what it returns may ask to stop."""

    def __init__(self, n_epochs, act):
        self._left = n_epochs
        self._act = act

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
        if context.task_name == "epoch":
            self._left -= 1
            if self._left == 0:
                return self._act(fitted_estimator, X)
        return False


def layers(seed):
    """A network of each kind of batch norm, and of noise."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4, momentum=None, affine=False),
        nn.Flatten(),
        nn.Linear(36, 6),
        nn.BatchNorm1d(6, track_running_stats=False),
    )
    return Network(nn.Identity(), body, nn.Linear(6, 3)).double()


def compare_batch_norm():
    """Return the largest difference from one process, for batches of several sizes."""
    differences = {}
    for n_rows in (9, 2, 1):
        whole = layers(n_rows)
        x = 100 + torch.randn(n_rows, 2, 5, 5, dtype=torch.float64)
        if n_rows == 1:  # of one row a vector has no variance
            whole.body[-1] = nn.Identity()
        mine = copy.deepcopy(whole)
        with joined(CPU):
            shown = split(mine)
            backward(shown(x).square().sum(), mine.parameters())
        whole(x).square().sum().backward()
        pairs = [
            *zip(whole.state_dict().values(), mine.state_dict().values(), strict=True),
            *((a.grad, b.grad) for a, b in zip(whole.parameters(), mine.parameters(), strict=True)),
        ]
        differences[n_rows] = max(float((a - b).abs().max()) for a, b in pairs)
        assert not any("forward" in vars(module) for module in mine.modules())
    return differences


def draw_noise(rank):
    """Return what a body draws, and whether the generators agree before and after."""
    network = Network(
        nn.Identity(), nn.Sequential(nn.Linear(50, 50), nn.Dropout()), nn.Linear(5, 5)
    )
    with joined(CPU) as team, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.default_generator.get_state()
        shown = split(network)
        waits = [measures_together(body) for body in (network.body, layers(0).body)]
        torch.default_generator.set_state(before)
        shown.body[1].eval()
        shown.features(torch.ones(4, 50))
        untouched = torch.equal(torch.default_generator.get_state(), before)
        shown.body[1].train()
        first, second = (shown.features(torch.ones(4, 50)) != 0 for _ in range(2))
        states = team.exchange(torch.default_generator.get_state())
    return {
        "untouched": untouched,
        "nothing to wait for": not waits[0],
        "batch norm waits": waits[1],
        "alike": torch.equal(*states),
        "ranks differ": not torch.equal(first[0], first[2]),
        "steps differ": not torch.equal(first, second),
    }


def message(call):
    """Return what a call raises, and within how many seconds."""
    started = time.monotonic()
    try:
        call()
    except (RuntimeError, ValueError, TypeError) as error:
        return type(error).__name__, str(error), time.monotonic() - started
    return None


def run(place, rank):
    """Run all that is asked about below; the answers go into files."""
    answers = {"batch norm": compare_batch_norm(), "noise": draw_noise(rank)}
    X, y = poisoned()
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_float64(monkeypatch)
        for name, make in FITS.items():
            np.savez(place / f"{name}-{rank}.npz", **outcome(make().fit(X, y)))

    other = undefended(random_state=None).fit(X, y)
    np.savez(place / f"any seed-{rank}.npz", **outcome(other))
    answers["rows"] = by_rows(lambda rows: rows * 2, torch.arange(5)).tolist()
    answers["thread"] = Parallel(n_jobs=2, backend="threading")(
        delayed(lambda: len(undefended(epochs=1 + rank).fit(X, y).history_))() for _ in range(2)
    )

    given_other = y if rank == 0 else np.roll(y, 1)
    for name, rows in (("a row", slice(7, 8)), ("every second row", slice(1, None, 2))):
        others = X.copy()
        others[rows] = 255 - others[rows]
        given_X = X if rank == 0 else others
        answers[f"other X, {name}"] = message(lambda given_X=given_X: undefended().fit(given_X, y))
    answers["other data"] = message(lambda: undefended().fit(X, given_other))
    answers["other parameters"] = message(lambda: undefended(epochs=2 + rank).fit(X, y))

    stopping = undefended()
    if rank == 1:  # it asks the network, the other process does not
        stopping.set_callbacks(AfterEpoch(2, lambda clf, X: len(clf.predict(X)) == len(X)))
    answers["stopped after"] = len(stopping.fit(X, y).history_)

    with redirect_stderr(StringIO()) as shown:
        undefended(epochs=1).set_callbacks(FitProgress()).fit(X, y)
    answers["shown"] = shown.getvalue()

    def fail(clf, X):
        raise TypeError("a callback of one process")

    kept = undefended(cache_dir=place / "kept")
    if rank == 1:
        kept.set_callbacks(AfterEpoch(2, fail))
    answers["one fails"] = message(lambda: kept.fit(X, y))
    answers["left"] = sorted(vars(kept))
    answers["files"] = sorted(path.name for path in (place / "kept").iterdir())
    np.savez(place / f"resumed-{rank}.npz", **outcome(kept.set_callbacks().fit(X, y)))

    keeping = ABLClassifier(
        detector=LossRank(ratio=0.1, epochs=1), epochs=1,
        backbone="mlp", cache_dir=place / "shared", random_state=0,
    )  # fmt: skip
    for attempt in ("trained", "found"):
        np.savez(place / f"{attempt}-{rank}.npz", **outcome(keeping.fit(X, y)))

    killed = undefended(epochs=1000)
    if rank == 1:
        killed.set_callbacks(AfterEpoch(2, lambda clf, X: os.kill(os.getpid(), signal.SIGKILL)))
        (place / "1.json").write_text(json.dumps(answers))
    answers["one dies"] = message(lambda: killed.fit(X, y))
    answers["still dead"] = message(lambda: killed.fit(X, y))
    answers["alone"] = len(predict_alone(undefended(epochs=1), X, y))
    (place / "0.json").write_text(json.dumps(answers))


def predict_alone(clf, X, y):
    with alone():
        return clf.fit(X, y).predict(X)


# ------------------------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Function that reads what the processes 0 and 1 have written under a name."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork and SIGKILL")
    place = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ran = subprocess.run(
        [sys.executable, "-W", "error", __file__, place],
        env={**os.environ, **told, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr

    def read(name):
        if name == "answers":
            return [json.loads((place / f"{rank}.json").read_text()) for rank in (0, 1)]
        return [dict(np.load(place / f"{name}-{rank}.npz")) for rank in (0, 1)]

    return read


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("name", FITS)
def test_two_processes_find_what_one_finds(name, two, monkeypatch):
    in_float64(monkeypatch)
    wanted = outcome(FITS[name]().fit(*poisoned()))
    first, second = two(name)
    assert_same(first, second)
    if name == "abl":
        assert len(wanted["isolate"]) > 5
    np.testing.assert_array_equal(first["isolate"], wanted["isolate"])
    for key in wanted.keys() - {"isolate", "history seconds"}:
        np.testing.assert_allclose(first[key], wanted[key], rtol=0, atol=1e-7, err_msg=key)


@pytest.mark.parametrize("n_rows", ["9", "2", "1"])
def test_batch_norm_and_gradients_are_those_of_the_whole_batch(n_rows, two):
    for answers in two("answers"):
        # The inputs lie about 100.
        assert answers["batch norm"][n_rows] < 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_batch_norm_of_one_process_is_torchs(dtype):
    theirs = nn.BatchNorm2d(3)
    seeded = torch.Generator().manual_seed(0)
    nn.init.normal_(theirs.weight, generator=seeded)
    x, weights = torch.randn(2, 16, 3, 4, 4, generator=seeded).to(dtype)
    if dtype == torch.float64:
        theirs = theirs.double()
    mine, found = copy.deepcopy(theirs), []
    for layer, normalise in ((theirs, theirs), (mine, partial(batch_norm, mine, Team(), True))):
        given = x.clone().requires_grad_()
        made = normalise(given)
        (made * weights).sum().backward()
        tensors = [made, given.grad, layer.weight.grad, layer.bias.grad]
        found.append([*tensors, *layer.state_dict().values()])
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype
        # bfloat16 has 8 bits, and torch rounds at other places.
        near = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(a, b, **near)


def test_noise_differs_and_the_generators_agree(two):
    for answers in two("answers"):
        assert answers["noise"] == dict.fromkeys(answers["noise"], True)
        assert answers["rows"] == [0, 2, 4, 6, 8]


def test_any_seed_is_one_for_all(two):
    assert_same(*two("any seed"))


@pytest.mark.parametrize(
    ("given", "differing"),
    [
        ("other data", " y "),
        ("other parameters", " epochs "),
        ("other X, a row", " X "),
        ("other X, every second row", " X "),
    ],
)
def test_different_fits_are_refused_on_every_process(given, differing, two):
    for answers in two("answers"):
        kind, text, _ = answers[given]
        assert kind == "ValueError"
        assert f"process 1 was given other{differing}than process 0" in text


def test_a_callback_of_one_process_stops_all(two):
    assert [answers["stopped after"] for answers in two("answers")] == [2, 2]


def test_the_first_process_shows_the_progress(two):
    first, second = (answers["shown"] for answers in two("answers"))
    assert "estimated time" in first and "100 %" in first
    assert not second


def test_where_one_fails_the_other_ends(two):
    first, second = two("answers")
    kind, text, seconds = first["one fails"]
    assert kind == "RuntimeError" and "another process of this fit has failed" in text
    assert seconds < 20
    assert second["one fails"][:2] == ["TypeError", "a callback of one process"]
    assert first["left"] == [name for name in second["left"] if name != "_skl_callbacks"]
    assert "module_" not in first["left"]


def test_the_first_process_writes_and_all_go_on(two):
    for answers in two("answers"):
        endings = sorted(Path(name).suffix for name in answers["files"])
        assert endings == [".lock", ".safetensors"]
    first, second = two("resumed")
    assert_same(first, second)
    wanted = outcome(undefended().fit(*poisoned()))
    np.testing.assert_allclose(first["history loss"], wanted["history loss"], atol=1e-4)


def test_what_is_kept_is_the_same_on_every_process(two):
    trained, found = two("trained"), two("found")
    assert_same(*trained)
    assert_same(*found)
    # The seconds too: of the second fit no epoch was trained.
    assert_same(trained[0], found[0])


def test_where_one_dies_the_other_ends(two):
    answers = two("answers")[0]
    for fit in ("one dies", "still dead"):
        kind, text, seconds = answers[fit]
        assert kind == "RuntimeError" and "another process of this fit has failed" in text
        assert seconds < 20
    assert answers["alone"] == len(poisoned()[0])


def test_fits_in_threads_keep_to_themselves(two):
    assert [answers["thread"] for answers in two("answers")] == [[1, 1], [2, 2]]


def test_who_joins(monkeypatch):
    told = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    assert not _parallel._may_join()
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert _parallel._may_join()
    with alone():
        assert not _parallel._may_join()
        assert current_team().size == 1
    # In a worker of a search.
    with parallel_config(backend=SequentialBackend(nesting_level=1)):
        assert not _parallel._may_join()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not _parallel._may_join()


def test_each_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(ValueError, match="device='cuda:99' cannot be used on this machine"):
        undefended().fit(*poisoned())


def main(place):
    """Be two processes that have imported torch once; tell whether they ended as they should."""
    torch.set_num_threads(1)
    # Whatever waits in vain is to fail, and not to hang.
    _parallel.PATIENCE = timedelta(seconds=60)
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            os.environ["RANK"] = str(rank)
            run(place, rank)
            return True
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return codes == [0, -signal.SIGKILL]


if __name__ == "__main__":
    # An optimiser imports it; here it is imported once for both.
    import torch._dynamo  # noqa: F401

    sys.exit(not main(Path(sys.argv[1])))
