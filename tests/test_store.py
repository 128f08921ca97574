"""What is kept in `cache_dir`: fits that are stopped go on, and fits that begin alike share."""

import errno
import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from joblib import parallel_config
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold

import antibackdoor.training._store as store
from antibackdoor import (
    ABLClassifier,
    Ascent,
    CBDClassifier,
    LossRank,
    Mixed,
    NegativeLearning,
    PoisonSearch,
    RelativeLoss,
    Retrain,
    UndefendedClassifier,
)
from antibackdoor.training._pack import pack, unpack
from antibackdoor.training._sealed import DamagedError, read_sealed, seal

FORKED = multiprocessing.get_context("fork")
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def few(digits):
    """Images of four digits, uint8 (80, 8, 8), and their labels."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:80]
    return X[rows], y[rows]


def small(**changes):
    settings = {"backbone": "mlp", "batch_size": 32, "epochs": 3, "random_state": 0}
    return UndefendedClassifier(**{**settings, **changes})


def two_parts(detector=None, **changes):
    """Return a classifier of two phases: two epochs of its detector, two of its own."""
    detector = {"ratio": 0.1, "epochs": 2, "batch_size": 32, **(detector or {})}
    settings = {"cure": Retrain(), "epochs": 2, "backbone": "mlp", "batch_size": 32}
    settings |= {"random_state": 0, **changes}
    return ABLClassifier(detector=LossRank(**detector), **settings)


def files(directory, name=""):
    """Return the phases that are kept, the newest last."""
    return sorted(directory.glob(f"{name}*.safetensors"), key=lambda path: path.stat().st_mtime_ns)


def outcome(estimator):
    """All that a fit leaves, but the seconds it took."""
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in estimator.history_]
    weights = {name: w.numpy().tobytes() for name, w in estimator.module_.state_dict().items()}
    return history, weights, estimator.isolate_.tolist(), estimator.isolate_scores_.tobytes()


class Epochs:
    """A callback that keeps the phase of every epoch that is trained."""

    def __init__(self, phases):
        self.phases = phases

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.phases.append(context.parent.task_name)


def trained_epochs(estimator, X, y):
    """Fit, and return the phases of the epochs that were trained for it."""
    phases = []
    estimator.set_callbacks(Epochs(phases)).fit(X, y)
    return phases


def stop_writes(monkeypatch, n):
    """Let the n-th phase that is written be followed by a KeyboardInterrupt."""
    write_whole = store.write_whole
    left = iter(range(n - 1, -1, -1))

    def write_and_stop(path, content):
        write_whole(path, content)
        if path.suffix == ".safetensors" and next(left) == 0:
            monkeypatch.setattr(store, "write_whole", write_whole)
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_whole", write_and_stop)


@pytest.fixture
def stop_after(monkeypatch):
    """Function after which the n-th phase that is written is followed by a KeyboardInterrupt."""
    return partial(stop_writes, monkeypatch)


@pytest.fixture(scope="module")
def unbroken(few):
    """The outcome of `small`."""
    return outcome(small().fit(*few))


@pytest.fixture(scope="module")
def stopped_once(few, tmp_path_factory):
    directory = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_writes(monkeypatch, 2)
        with pytest.raises(KeyboardInterrupt):
            small(cache_dir=directory).fit(*few)
    assert len(files(directory)) == 1
    return directory


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A folder in which `small` was stopped after two of three epochs."""
    return shutil.copytree(stopped_once, tmp_path / "kept")


@pytest.fixture(scope="module")
def trained_once(few, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained")
    two_parts(cache_dir=directory).fit(*few)
    return directory


@pytest.fixture
def trained(trained_once, tmp_path):
    """A folder in which `two_parts` was trained."""
    return shutil.copytree(trained_once, tmp_path / "kept")


# ------------------------------------------------------------------------------------ going on


def test_a_fit_stopped_after_every_epoch_is_the_unbroken_one(make_tiny, few, tmp_path, stop_after):
    wanted = outcome(make_tiny().fit(*few))
    clf = make_tiny(cache_dir=tmp_path)
    for _ in wanted[0]:
        stop_after(1)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*few)
        assert not hasattr(clf, "module_")
    # Nothing is left to train.
    assert trained_epochs(clf, *few) == []
    assert outcome(clf) == wanted


def fit_and_die(clf, X, y):
    """Fit in a process of its own, that ends as the second phase is written."""
    write_whole, written = store.write_whole, []

    def write_and_die(path, content):
        write_whole(path, content)
        written.append(path.suffix)
        if written.count(".safetensors") == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    store.write_whole = write_and_die
    clf.fit(X, y)


@FORKS
@pytest.mark.parametrize("random_state", [0, None])
def test_a_killed_fit_goes_on(random_state, few, unbroken, tmp_path):
    clf = small(random_state=random_state, cache_dir=tmp_path)
    process = FORKED.Process(target=fit_and_die, args=(clf, *few))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob("seeds-*.json"))) == (random_state is None)
    assert trained_epochs(clf, *few) == ["train"]
    assert [row["epoch"] for row in clf.history_] == [0, 1, 2]
    # Of a fit that is over no seeds are left, or the next would be the same.
    assert not list(tmp_path.glob("seeds-*.json"))
    if random_state == 0:
        assert outcome(clf) == unbroken


SHORT = {"backbone": "mlp", "batch_size": 32, "random_state": 0}

#: Fits that together run every phase of both methods.
FITS = {
    "searched": ABLClassifier(detector=PoisonSearch(epochs=1), epochs=2, **SHORT),
    "mixed": two_parts(cure=Mixed(epochs=2, recovery_epochs=2), epochs=3),
    "ascent": two_parts(cure=Ascent(epochs=3), epochs=3),
    "cbd, searched": CBDClassifier(detector=PoisonSearch(epochs=1), epochs=2, **SHORT),
    "cbd, all terms": CBDClassifier.from_paper(
        detector__epochs=2, detector__augment=None, epochs=3, augment=None, **SHORT
    ),
}


@pytest.fixture(scope="module")
def searchable(digits):
    """Images of four digits, as many of each as a search wants."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:120]
    return X[rows], y[rows]


# Twenty in all; benchmarks/kill_fits.py kills as often as one likes.
@FORKS
@pytest.mark.parametrize("name", FITS)
def test_kills_at_any_moment_change_nothing(name, searchable, tmp_path):
    started = time.perf_counter()
    wanted = outcome(clone(FITS[name]).set_params(cache_dir=tmp_path / "whole").fit(*searchable))
    seconds = time.perf_counter() - started
    clf = clone(FITS[name]).set_params(cache_dir=tmp_path / "killed")
    for share in np.random.default_rng(0).uniform(size=4):
        process = FORKED.Process(target=clf.fit, args=searchable)
        process.start()
        process.join(share * seconds)
        process.kill()
        process.join()
    assert outcome(clf.fit(*searchable)) == wanted


def test_a_fit_of_any_seed_that_was_stopped_goes_on_with_its_own(few, tmp_path, stop_after):
    stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        small(random_state=None, cache_dir=tmp_path).fit(*few)
    clf = small(random_state=None, cache_dir=tmp_path)
    assert len(trained_epochs(clf, *few)) == 2
    # Of other parameters it would not have gone on, and one that is over is not begun again.
    assert len(trained_epochs(small(random_state=None, cache_dir=tmp_path), *few)) == 3


def test_a_fit_of_any_seed_that_fails_is_not_repeated(few, tmp_path):
    clf = small(random_state=None, cache_dir=tmp_path, learning_rate=1e38)
    with pytest.raises(FloatingPointError):
        clf.fit(*few)
    assert not list(tmp_path.glob("seeds-*.json"))


@pytest.mark.parametrize("content", [b"", b"[1, ", b"{}", b'["1"]', b"\xff"])
def test_damaged_seeds_give_way_to_others(content, few, tmp_path, stop_after):
    stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        small(random_state=None, cache_dir=tmp_path).fit(*few)
    (seeds,) = tmp_path.glob("seeds-*.json")
    seeds.write_bytes(content)
    assert len(trained_epochs(small(random_state=None, cache_dir=tmp_path), *few)) == 3


def test_what_a_phase_holds(stopped):
    # No pickle, and no type but tensors: safetensors alone reads it.
    (path,) = files(stopped, "train-")
    tensors = load_file(path)
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    assert store.OWN_FILES.fullmatch(path.name)
    assert all(store.OWN_FILES.fullmatch(path.name) for path in stopped.iterdir())


def test_a_phase_is_one_file_whatever_its_epochs(trained):
    names = {re.sub("-[0-9a-f]{32}", "", path.name) for path in files(trained)}
    assert names == {"isolate.safetensors", "finetune.safetensors"}
    assert len(files(trained)) == 2


def test_callbacks_are_told_of_what_runs(stopped, few):
    class Names(Epochs):
        """Keeps the names of the tasks that end."""

        def on_fit_task_end(self, estimator, context):
            self.phases.append(context.task_name)

    names = []
    clf = small(cache_dir=stopped).set_callbacks(Names(names)).fit(*few)
    assert len(clf.history_) == 3
    assert names == ["epoch", "train", "fit"]


def test_a_phase_that_a_callback_ended_stays_ended(few, tmp_path):
    class Stop(Epochs):
        """Ends the phase after its first epoch."""

        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch"

    ended = small(cache_dir=tmp_path).set_callbacks(Stop([])).fit(*few)
    again = small(cache_dir=tmp_path)
    assert trained_epochs(again, *few) == []
    assert outcome(again) == outcome(ended)
    assert len(again.history_) == 1


def test_every_term_of_cbd_goes_on(few, tmp_path, stop_after):
    def paper(**changes):
        return CBDClassifier.from_paper(
            backbone="small-cnn",
            epochs=3,
            detector__epochs=1,
            detector__augment=None,
            weighting=RelativeLoss(compare="trajectory"),
            augment=None,
            random_state=0,
            **changes,
        )

    wanted = outcome(paper().fit(*few))
    clf = paper(cache_dir=tmp_path)
    for n_before in (2, 1):
        stop_after(n_before)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*few)
    assert outcome(clf.fit(*few)) == wanted


def test_a_cure_that_watches_itself_goes_on(few, tmp_path, stop_after):
    def watched(**changes):
        return two_parts(cure=Ascent(epochs=3, learning_rate=0.05), **changes)

    wanted = outcome(watched().fit(*few))
    clf = watched(cache_dir=tmp_path)
    for _ in wanted[0][:-1]:
        stop_after(1)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*few)
    assert outcome(clf.fit(*few)) == wanted


# ------------------------------------------------------------------------------------- sharing


def one_pixel(X, y):
    X = X.copy()
    X[0, 0, 0] += 1
    return X, y


def one_label(X, y):
    y = y.copy()
    y[0] = y[np.flatnonzero(y != y[0])[0]]
    return X, y


def other_order(X, y):
    return X[::-1].copy(), y[::-1].copy()


def as_it_is(X, y):
    return X, y


@pytest.mark.parametrize(
    "changes",
    [
        {"cure": NegativeLearning()},
        {"epochs": 3},
        {"learning_rate": 0.05},
        {"augment": ("crop",)},
        {"lr_schedule": "cosine"},
        {"batch_size": 16},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_network_that_is_kept_is_no_part_of_the_detector(changes, few, trained):
    clf = two_parts(cache_dir=trained, **changes)
    assert set(trained_epochs(clf, *few)) == {"finetune"}
    assert outcome(clf) == outcome(two_parts(**changes).fit(*few))


@pytest.mark.parametrize(
    ("detector", "changes", "data"),
    [
        ({"learning_rate": 0.05}, {}, as_it_is),
        ({"batch_size": 16}, {}, as_it_is),
        ({"gamma": 0.4}, {}, as_it_is),
        ({"gamma": None}, {}, as_it_is),
        ({"reduction": "sample"}, {}, as_it_is),
        ({"weight_decay": 0.0}, {}, as_it_is),
        ({"augment": ("crop",)}, {}, as_it_is),
        ({"random_state": 1}, {}, as_it_is),
        ({}, {"random_state": 1}, as_it_is),
        ({}, {"backbone": "small-cnn"}, as_it_is),
        ({}, {}, one_pixel),
        ({}, {}, one_label),
        ({}, {}, other_order),
    ],
)
def test_what_a_detector_depends_on_trains_it_again(detector, changes, data, few, trained):
    X, y = data(*few)
    clf = two_parts(detector, cache_dir=trained, **changes)
    assert trained_epochs(clf, X, y).count("isolate") == 2
    assert outcome(clf) == outcome(two_parts(detector, **changes).fit(X, y))


@pytest.mark.parametrize("changes", [{"ratio": 0.2}, {"rank_by": "last_epoch"}])
def test_a_rule_over_the_same_losses_trains_nothing(changes, few, tmp_path):
    LossRank(epochs=2, random_state=0, backbone="mlp", cache_dir=tmp_path).fit(*few)
    again = LossRank(epochs=2, random_state=0, backbone="mlp", cache_dir=tmp_path, **changes)
    assert trained_epochs(again, *few) == []


class Twofold(torch.nn.Module):
    """A network whose forward is told by a number that is no weight."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.head = torch.nn.Linear(64, 4)

    def forward(self, inputs):
        return self.head(inputs.flatten(1) * self.factor)


def test_a_backbone_with_another_forward_trains_again(few, tmp_path):
    torch.manual_seed(0)
    one, other = Twofold(1.0), Twofold(2.0)
    other.load_state_dict(one.state_dict())
    assert len(trained_epochs(small(backbone=one, cache_dir=tmp_path), *few)) == 3
    assert len(trained_epochs(small(backbone=other, cache_dir=tmp_path), *few)) == 3
    assert trained_epochs(small(backbone=one, cache_dir=tmp_path), *few) == []


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
def test_what_is_kept_knows_what_its_bits_depend_on(change, few, tmp_path, monkeypatch, caplog):
    clf = small(cache_dir=tmp_path, epochs=1)
    clf.fit(*few)
    restore = change(monkeypatch)
    try:
        with caplog.at_level(logging.INFO, "antibackdoor"):
            assert trained_epochs(clf, *few) == ["train"]
    finally:
        restore()
    assert change.__name__ in caplog.text
    assert trained_epochs(clf, *few) == []


@pytest.mark.parametrize(
    ("changes", "data", "differs"),
    [
        ({"learning_rate": 0.011}, as_it_is, "recipe"),
        ({"epochs": 4}, as_it_is, "epochs"),
        ({"batch_size": 16}, as_it_is, "batches"),
        ({}, one_pixel, "X"),
    ],
)
def test_the_log_tells_in_what_the_nearest_differs(changes, data, differs, stopped, few, caplog):
    with caplog.at_level(logging.INFO, "antibackdoor"):
        small(cache_dir=stopped, **changes).fit(*data(*few))
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"cache_dir={str(stopped)!r} holds no phase 'train' of this fit")
    assert differs in message.rpartition(": ")[2].split(", ")


def test_the_first_fit_of_a_folder_is_compared_with_nothing(few, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "antibackdoor"):
        small(cache_dir=tmp_path).fit(*few)
    assert not caplog.records


def test_global_randomness_is_left_alone(few, tmp_path):
    np.random.seed(0)  # noqa: NPY002  the global state is what is tested
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    for _ in range(2):  # trained, and found
        small(cache_dir=tmp_path, epochs=1).fit(*few)
    after = np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    assert (before[0] == after[0]).all()
    assert torch.equal(before[1], after[1])


# ------------------------------------------------------------------------------ several at once


def test_two_threads_share_a_folder(few, tmp_path):
    wanted = outcome(two_parts().fit(*few))
    fitted, phases = [], [[], []]

    def fit(told):
        clf = two_parts(cache_dir=tmp_path).set_callbacks(Epochs(told))
        fitted.append(clf.fit(*few))

    together = [threading.Thread(target=fit, args=(told,)) for told in phases]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert [outcome(clf) for clf in fitted] == [wanted, wanted]
    assert sorted(phases[0] + phases[1]) == ["finetune"] * 2 + ["isolate"] * 2


def fit_and_count(X, y, directory):
    clf = two_parts(cache_dir=directory)
    return trained_epochs(clf, X, y), outcome(clf)


@FORKS
def test_two_processes_share_a_folder(few, tmp_path):
    wanted = outcome(two_parts().fit(*few))
    with FORKED.Pool(2) as pool:
        answers = pool.starmap(fit_and_count, [(*few, tmp_path)] * 2, chunksize=1)
    assert [found for _, found in answers] == [wanted, wanted]
    assert sorted(sum((trained for trained, _ in answers), [])) == (
        ["finetune"] * 2 + ["isolate"] * 2
    )


def test_fits_of_any_seed_at_once_are_two(few, tmp_path):
    """They share seeds with none that runs, and so train whatever they train themselves."""
    phases = [[], []]

    def fit(told):
        small(random_state=None, cache_dir=tmp_path, epochs=1).set_callbacks(Epochs(told)).fit(*few)

    class Beside(Epochs):
        """Fits another while the first is on its way."""

        def on_fit_task_end(self, estimator, context):
            if context.task_name == "epoch":
                fit(self.phases)

    clf = small(random_state=None, cache_dir=tmp_path, epochs=1)
    clf.set_callbacks(Beside(phases[1]), Epochs(phases[0])).fit(*few)
    assert phases == [["train"], ["train"]]


def search_over_four_cures(X, y, directory, answers=None):
    """Search with two jobs, as the leader of a group of processes, and tell the scores."""
    if answers is not None:
        os.setsid()
    cures = [NegativeLearning(), Retrain(), Ascent(epochs=1), Mixed(epochs=1, recovery_epochs=1)]
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    clf = two_parts(epochs=1, cache_dir=directory)
    search = GridSearchCV(
        clf, {"cure": cures}, cv=folds, n_jobs=2, refit=False, error_score="raise"
    )
    with parallel_config(backend="multiprocessing"):
        scores = search.fit(X, y).cv_results_["mean_test_score"].tolist()
    if answers is not None:
        answers.put(scores)
    return scores


@FORKS
def test_a_search_over_four_cures_trains_each_detector_once_a_fold(few, tmp_path):
    scores = search_over_four_cures(*few, tmp_path / "whole")
    assert len(files(tmp_path / "whole", "isolate-")) == 2
    # Killed, it goes on: to the same scores, and what was over is not trained again.
    kept, answers = tmp_path / "killed", FORKED.SimpleQueue()
    process = FORKED.Process(target=search_over_four_cures, args=(*few, kept, answers))
    process.start()
    ends = time.monotonic() + 120
    while process.is_alive() and not files(kept, "finetune-") and time.monotonic() < ends:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert answers.empty()
    before = {path: path.stat().st_mtime_ns for path in files(kept, "isolate-")}
    assert before
    finished = [path for path in before if json_of(path)["progress"]["finished"]]
    assert search_over_four_cures(*few, kept) == scores
    assert len(files(kept, "isolate-")) == 2
    assert all(path.stat().st_mtime_ns == before[path] for path in finished)


def json_of(path):
    return unpack(*read_sealed(path))


# ------------------------------------------------------------------- damage, and what is missing


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def rewritten(path, content):
    """Write a file whose digest is its own, as whoever means harm can."""
    path.write_bytes(seal(*pack(content), {"identity": "{}"}))


def of_another_phase(path):
    rewritten(path, {**json_of(path), "identity": {"X": "another"}})


def of_nothing(path):
    rewritten(path, {})


def a_list(path):
    rewritten(path, [1, 2])


def of_the_future(path):
    save_file({}, path, {"format": "99"})


def no_safetensors(path):
    path.write_bytes(b"\x00" * 7 + b"\x7f" + b"{" * 1000)


DAMAGES = [
    cut_short,
    emptied,
    flipped,
    of_another_phase,
    of_nothing,
    a_list,
    of_the_future,
    no_safetensors,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_trained_again(damage, stopped, few, unbroken):
    (path,) = files(stopped)
    damage(path)
    clf = small(cache_dir=stopped)
    with pytest.warns(RuntimeWarning, match=f"{path.name} is damaged .* trained again") as warned:
        assert len(trained_epochs(clf, *few)) == 3
    assert len(warned) == 1
    assert outcome(clf) == unbroken
    # What stands there now is whole.
    assert trained_epochs(small(cache_dir=stopped), *few) == []


def a_head_of_fewer_classes(content):
    network = content["training"]["network"]
    network["head.weight"] = network["head.weight"][:2]


def momentum_of_another_shape(content):
    (first, *_) = content["training"]["optimizer"]["state"].values()
    first["momentum_buffer"] = torch.zeros(7, 7)


def a_network_that_lacks_weights(content):
    content["training"]["network"].popitem()


def no_generator(content):
    content["random"] = {}


def a_history_of_text(content):
    content["progress"]["history"] = "three epochs"


def losses_of_other_rows(content):
    content["progress"]["losses"] = [torch.zeros(3)]


MISFITS = [
    a_head_of_fewer_classes,
    momentum_of_another_shape,
    a_network_that_lacks_weights,
    no_generator,
    a_history_of_text,
    losses_of_other_rows,
]


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_the_phase_is_trained_again(misfit, stopped, few, unbroken):
    """A whole file, of the digest that its name says, with another content."""
    (path,) = files(stopped)
    content = json_of(path)
    misfit(content)
    rewritten(path, content)
    clf = small(cache_dir=stopped)
    with pytest.warns(
        RuntimeWarning, match=r"(?s)damaged \(it does not fit the phase.* trained again"
    ):
        assert len(trained_epochs(clf, *few)) == 3
    # Nothing of what was restored before the misfit is left.
    assert outcome(clf) == unbroken
    assert trained_epochs(small(cache_dir=stopped), *few) == []


def test_every_byte_of_a_phase_counts(stopped):
    (path,) = files(stopped)
    raw = path.read_bytes()
    assert json_of(path)["identity"]["X"]
    head = 8 + int.from_bytes(raw[:8], "little")
    some = np.linspace(head, len(raw) - 1, 50, dtype=int)
    # In the head names, dtypes, shapes and places stand.
    for place in (*range(0, head, 31), *some):
        changed = bytearray(raw)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises((DamagedError, ValueError), match="it|layout"):
            read_sealed(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(DamagedError):
        read_sealed(path)


@pytest.mark.parametrize("there", [b'"U8"', b'"F32"', b'"I64"'])
def test_another_type_of_a_tensor_is_damage(there, few, tmp_path):
    clf = small(backbone="small-cnn", epochs=1, cache_dir=tmp_path)
    wanted = outcome(clf.fit(*few))
    (path,) = files(tmp_path)
    raw = path.read_bytes()
    place = raw.index(there)
    path.write_bytes(raw[: place + 1] + b"I" + raw[place + 2 :])
    if there == b'"I64"':
        path.write_bytes(raw[: place + 1] + b"U" + raw[place + 2 :])
    with pytest.warns(RuntimeWarning, match="is damaged"):
        clf.fit(*few)
    assert outcome(clf) == wanted


def test_a_full_disk_costs_a_warning(stopped, few, unbroken):
    resource = pytest.importorskip("resource")
    (path,) = files(stopped)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    clf = small(cache_dir=stopped, epochs=3)
    path.unlink()
    path.write_bytes(before)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
        with pytest.warns(RuntimeWarning, match="could not be written to cache_dir") as warned:
            two_parts(cache_dir=stopped).fit(*few)  # four epochs, one warning
        with pytest.warns(RuntimeWarning, match="could not be written to cache_dir"):
            clf.fit(*few)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(warned) == 1
    assert outcome(clf) == unbroken
    assert path.read_bytes() == before
    assert not list(stopped.glob("*.part"))


@pytest.mark.parametrize(
    "number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSPC]
)
def test_where_nothing_can_be_locked_a_fit_goes_on(
    number, few, unbroken, tmp_path, monkeypatch, stop_after
):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        small(cache_dir=tmp_path).fit(*few)
    clf = small(cache_dir=tmp_path)
    assert len(trained_epochs(clf, *few)) == 1
    assert outcome(clf) == unbroken


def test_a_folder_that_cannot_be(tmp_path, few):
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(OSError, match="file"):
        small(cache_dir=taken).fit(*few)
    with pytest.raises(ValueError, match="cache_dir"):
        small(cache_dir=3).fit(*few)


@pytest.mark.parametrize("package", ["safetensors", "filelock"])
def test_without_the_extra(package, monkeypatch, tmp_path, few):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"\.\[persist\]"):
        small(cache_dir=tmp_path).fit(*few)


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
