"""Fits that are stopped and go on: the same result, and no other fit's."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import antibackdoor.training._checkpoints as checkpoints
from antibackdoor import ABLClassifier, CBDClassifier, UndefendedClassifier
from antibackdoor.training import open_checkpoints
from antibackdoor.training._pack import pack, unpack

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def few(digits):
    """Images of four digits, uint8 (80, 8, 8), and their labels."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:80]
    return X[rows], y[rows]


def small(**changes):
    settings = {"backbone": "small-cnn", "batch_size": 32, "epochs": 3, "random_state": 0}
    return UndefendedClassifier(**{**settings, **changes})


def files(directory):
    return sorted(directory.glob("checkpoint-*"))


def outcome(classifier):
    """All that a fit leaves, but the seconds it took."""
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in classifier.history_]
    weights = {name: w.numpy().tobytes() for name, w in classifier.module_.state_dict().items()}
    return history, weights, classifier.isolate_.tolist(), classifier.isolate_scores_.tobytes()


@pytest.fixture
def stop_after(monkeypatch):
    """Function after which the n-th checkpoint is followed by a KeyboardInterrupt."""
    write_whole = checkpoints.write_whole

    def stop(n):
        left = iter(range(n - 1, -1, -1))

        def write_and_stop(path, content):
            write_whole(path, content)
            if next(left) == 0:
                monkeypatch.setattr(checkpoints, "write_whole", write_whole)
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoints, "write_whole", write_and_stop)

    return stop


@pytest.fixture
def stopped(tmp_path, few, stop_after):
    """A directory of checkpoints of `small`, stopped after two of three epochs."""
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        small(checkpoint_dir=tmp_path).fit(*few)
    assert len(files(tmp_path)) == 2
    return tmp_path


def test_a_fit_stopped_after_every_epoch_is_the_unbroken_one(make_tiny, few, tmp_path, stop_after):
    wanted = outcome(make_tiny().fit(*few))
    clf = make_tiny(checkpoint_dir=tmp_path)
    n_epochs = len(wanted[0])
    for _ in range(n_epochs):
        stop_after(1)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*few)
        assert not hasattr(clf, "module_")
    # Nothing is left to train.
    assert outcome(clf.fit(*few)) == wanted


@pytest.mark.slow
def test_twenty_kills_change_nothing():
    script = [sys.executable, ROOT / "benchmarks" / "kill_fits.py", "--kills", "20"]
    run = subprocess.run(script, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    n_fits, n_equal = map(int, re.search(r"20 kills in (\d+) fits; (\d+) ", run.stdout).groups())
    assert n_equal == n_fits > 0


def test_what_a_checkpoint_holds(stopped):
    with open_checkpoints(stopped) as opened:
        assert opened.phases == ["train 0"]
        assert opened.seeds == json.loads(json.dumps(opened.seeds))
    # No pickle, and no type but tensors: safetensors alone reads it.
    tensors = load_file(files(stopped)[-1])
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


def test_the_two_newest_are_kept(few, tmp_path):
    small(epochs=5, checkpoint_dir=tmp_path).fit(*few)
    assert [path.name for path in files(tmp_path)] == [
        "checkpoint-00000004.safetensors",
        "checkpoint-00000005.safetensors",
    ]


def test_callbacks_are_told_of_what_runs(stopped, few):
    class Names:
        """Keeps the names of the tasks that end."""

        def __init__(self, names):
            self.names = names

        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context):
            self.names.append(context.task_name)

    names = []
    clf = small(checkpoint_dir=stopped).set_callbacks(Names(names)).fit(*few)
    assert len(clf.history_) == 3
    assert names == ["epoch", "train", "fit"]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def without_phases(path):
    path.write_bytes(checkpoints._encode({"identity": {}}))


DAMAGES = [cut_short, emptied, flipped, without_phases]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, stopped, few):
    damage(files(stopped)[-1])
    with pytest.warns(RuntimeWarning, match=f"{files(stopped)[-1].name} is damaged"):
        clf = small(checkpoint_dir=stopped).fit(*few)
    assert outcome(clf) == outcome(small().fit(*few))


def test_where_all_are_damaged_the_fit_begins_anew(stopped, few):
    for path in files(stopped):
        cut_short(path)
    with pytest.warns(RuntimeWarning, match="is damaged") as warned:
        clf = small(checkpoint_dir=stopped).fit(*few)
    assert len(warned) == 2
    assert outcome(clf) == outcome(small().fit(*few))


def one_pixel(X, y):
    X = X.copy()
    X[0, 0, 0] += 1
    return X, y


def one_label(X, y):
    y = y.copy()
    y[0] = y[1] if y[0] != y[1] else y[np.flatnonzero(y != y[0])[0]]
    return X, y


def as_it_is(X, y):
    return X, y


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"learning_rate": 0.011}, as_it_is, r"parameters.learning_rate was '.*' and is '0.011'"),
        ({"epochs": 4}, as_it_is, "parameters.epochs was '3' and is '4'"),
        ({"random_state": 1}, as_it_is, "seeds was"),
        ({"backbone": "mlp"}, as_it_is, "network was"),
        ({}, one_pixel, "X was"),
        ({}, one_label, "y was"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(changes, data, message, stopped, few):
    before = {path: path.read_bytes() for path in files(stopped)}
    with pytest.raises(ValueError, match=f"checkpoint_dir=.* of another fit: .*{message}"):
        small(checkpoint_dir=stopped, **changes).fit(*data(*few))
    assert {path: path.read_bytes() for path in files(stopped)} == before


def test_a_checkpoint_of_another_version_is_refused(stopped, few, monkeypatch):
    from antibackdoor.utils import _surroundings

    monkeypatch.setattr(_surroundings, "version", lambda name: "99")
    with pytest.raises(ValueError, match=r"versions.antibackdoor was '.*' and is '99'"):
        small(checkpoint_dir=stopped).fit(*few)


def test_a_layout_of_the_future_is_refused(stopped, few):
    save_file({}, files(stopped)[-1], {"format": "99"})
    with pytest.raises(ValueError, match="is a checkpoint of layout '99'"):
        small(checkpoint_dir=stopped).fit(*few)


def test_a_checkpoint_that_does_not_fit_the_network_is_refused(stopped, few):
    path = files(stopped)[-1]
    content = checkpoints._decode(path)
    network = content["phases"]["train 0"]["training"]["network"]
    network["head.weight"] = network["head.weight"][:2]
    path.write_bytes(checkpoints._encode(content))
    clf = small(checkpoint_dir=stopped)
    with pytest.raises(ValueError, match=r"(?s)phase 'train 0' does not fit this network.*head"):
        clf.fit(*few)
    assert not hasattr(clf, "module_")


def test_a_directory_is_for_one_fit_at_a_time(stopped, few):
    with (
        open_checkpoints(stopped),
        pytest.raises(ValueError, match="checkpoint_dir=.* is in use by another fit"),
    ):
        small(checkpoint_dir=stopped).fit(*few)
    small(checkpoint_dir=stopped).fit(*few)


def test_any_seed_goes_on_with_that_of_the_checkpoint(few, tmp_path, stop_after):
    stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        small(random_state=None, checkpoint_dir=tmp_path).fit(*few)
    with open_checkpoints(tmp_path) as opened:
        seeds = opened.seeds
    small(random_state=None, checkpoint_dir=tmp_path).fit(*few)
    with open_checkpoints(tmp_path) as opened:
        assert opened.seeds == seeds


def test_a_full_disk_costs_a_warning(stopped, few):
    resource = pytest.importorskip("resource")
    before = files(stopped)[-1].read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    clf = small(checkpoint_dir=stopped)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
        with pytest.warns(RuntimeWarning, match="checkpoint could not be written"):
            clf.fit(*few)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome(clf) == outcome(small().fit(*few))
    assert files(stopped)[-1].read_bytes() == before
    assert not list(stopped.glob("*.part"))


def test_a_stage_that_is_remembered_is_not_in_the_checkpoint(few, tmp_path, stop_after):
    X, y = few
    settings = {"backbone": "small-cnn", "batch_size": 32, "random_state": 0}
    settings |= {"isolation_epochs": 1, "finetune_epochs": 2, "isolation_ratio": 0.1}
    wanted = outcome(ABLClassifier(**settings, unlearning="retrain").fit(X, y))
    settings |= {"memory": str(tmp_path / "memory"), "unlearning": "retrain"}
    ABLClassifier(**settings).fit(X, y)
    kept = ABLClassifier(**settings, checkpoint_dir=tmp_path / "kept")
    stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        kept.fit(X, y)
    with open_checkpoints(tmp_path / "kept") as opened:
        assert opened.phases == ["finetune 0"]
    assert outcome(kept.fit(X, y)) == wanted


def test_every_term_of_cbd_goes_on(few, tmp_path, stop_after):
    def paper(**changes):
        return CBDClassifier.from_paper(
            backbone="small-cnn",
            backdoor_epochs=1,
            clean_epochs=3,
            compare="trajectory",
            augment=None,
            random_state=0,
            **changes,
        )

    wanted = outcome(paper().fit(*few))
    clf = paper(checkpoint_dir=tmp_path)
    for n_before in (2, 1):
        stop_after(n_before)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*few)
    assert outcome(clf.fit(*few)) == wanted


def test_a_directory_that_cannot_be(tmp_path, few):
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(OSError, match="file"):
        small(checkpoint_dir=taken).fit(*few)
    with pytest.raises(ValueError, match="checkpoint_dir"):
        small(checkpoint_dir=3).fit(*few)


def test_without_the_extra(monkeypatch, tmp_path, few):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"antibackdoor\[persist\]"):
        small(checkpoint_dir=tmp_path).fit(*few)


def test_states_are_packed_and_unpacked():
    state = {
        "weights": [torch.arange(6.0).reshape(2, 3).T, torch.tensor(3)],
        "steps": {0: (1, 2.5), 1: None},
        "on": True,
        "name": "cosine",
        "loss": float("inf"),
    }
    text, tensors = pack(state)
    again = unpack(text, tensors)
    assert torch.equal(again["weights"][0], state["weights"][0])
    assert tensors["0"].is_contiguous()
    assert tensors["0"].data_ptr() != state["weights"][0].data_ptr()
    assert {**again, "weights": None} == {**state, "weights": None}
    with pytest.raises(TypeError, match="a set cannot be kept"):
        pack({"names": {"a"}})


def test_every_byte_of_a_checkpoint_counts(stopped):
    path = files(stopped)[-1]
    raw = path.read_bytes()
    content = checkpoints._decode(path)
    assert content["identity"]["seeds"]
    head = 8 + int.from_bytes(raw[:8], "little")
    some = np.linspace(head, len(raw) - 1, 50, dtype=int)
    # In the head names, dtypes, shapes and places stand.
    for place in (*range(0, head, 31), *some):
        changed = bytearray(raw)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises((checkpoints._DamagedError, ValueError), match="it|layout"):
            checkpoints._decode(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(checkpoints._DamagedError):
        checkpoints._decode(path)


@pytest.mark.parametrize("there", [b'"U8"', b'"F32"', b'"I64"'])
def test_another_type_of_a_tensor_is_damage(there, stopped, few):
    path = files(stopped)[-1]
    raw = path.read_bytes()
    place = raw.index(there)
    path.write_bytes(raw[: place + 1] + b"I" + raw[place + 2 :])
    if there == b'"I64"':
        path.write_bytes(raw[: place + 1] + b"U" + raw[place + 2 :])
    with pytest.warns(RuntimeWarning, match="is damaged"):
        clf = small(checkpoint_dir=stopped).fit(*few)
    assert outcome(clf) == outcome(small().fit(*few))


def threads(monkeypatch):
    # Told only: on a busy machine, two threads take such small networks a minute.
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    return monkeypatch.undo


def deterministic(monkeypatch):
    torch.use_deterministic_algorithms(True)
    return lambda: torch.use_deterministic_algorithms(False)


def precision(monkeypatch):
    torch.set_float32_matmul_precision("high")
    return lambda: torch.set_float32_matmul_precision("highest")


def versions(monkeypatch):
    from antibackdoor.utils import _surroundings

    monkeypatch.setattr(_surroundings, "version", lambda name: f"99 of {name}")
    return monkeypatch.undo


@pytest.mark.parametrize("change", [threads, deterministic, precision, versions])
def test_what_is_kept_knows_what_its_bits_depend_on(change, few, tmp_path, stop_after, monkeypatch):
    settings = {"isolation_epochs": 1, "finetune_epochs": 2, "isolation_ratio": 0.1}
    settings |= {"backbone": "small-cnn", "random_state": 0, "memory": str(tmp_path / "memory")}
    stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        small(checkpoint_dir=tmp_path / "kept").fit(*few)
    ABLClassifier(**settings).fit(*few)
    restore = change(monkeypatch)
    try:
        with pytest.raises(ValueError, match=rf"of another fit.*{change.__name__}.* was "):
            small(checkpoint_dir=tmp_path / "kept").fit(*few)
        wanted = ABLClassifier(**{**settings, "memory": None}).fit(*few)
        assert outcome(ABLClassifier(**settings).fit(*few)) == outcome(wanted)
    finally:
        restore()
    n_kept = len(list((tmp_path / "memory").rglob("output.pkl")))
    assert n_kept == 2
    small(checkpoint_dir=tmp_path / "kept").fit(*few)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK])
def test_without_locks_a_killed_fit_goes_on(number, few, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    wanted = outcome(small(checkpoint_dir=tmp_path / "other").fit(*few))
    pid = os.fork()
    if pid == 0:
        with open_checkpoints(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (tmp_path / "lock.held").exists()
    assert outcome(small(checkpoint_dir=tmp_path).fit(*few)) == wanted
    # A second fit is refused, and told what to do should there be no first.
    with (
        open_checkpoints(tmp_path),
        pytest.raises(ValueError, match=r"in use by another fit.*no locks.*delete '.*lock.held'"),
    ):
        small(checkpoint_dir=tmp_path).fit(*few)
    assert not (tmp_path / "lock.held").exists()
