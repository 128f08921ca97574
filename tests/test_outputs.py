"""What the commands do to what was there before, and how they end when they are disturbed."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from antibackdoor.cli import main
from antibackdoor.cli._output_lock import only_user
from antibackdoor.cli._signals import Terminated, stoppable, undisturbed
from antibackdoor.cli._staging import Staging

QUICK = ["--epochs-scale", "0.01", "--device", "cpu", "--quiet"]
LOG = "2026-01-01T00:00:00+00:00 antibackdoor scan data --out out\n"
BENCH = ["bench", "quick", "--attacks", "badnets", "--defenses", "undefended"]
BENCH += ["--n-train", "200", "--schedule", "0.05", "--n-jobs", "1"]


# The data here has two classes, which the search refuses.
pytestmark = pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")


def contents(folder):
    """What lies in a folder, hidden or not: names, and of files the bytes."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in that holds data, and what earlier calls of each command have written."""
    monkeypatch.chdir(tmp_path)
    for label in "ab":
        for number in range(20):
            path = tmp_path / "data" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(path)
    np.savez("data.npz", X=np.zeros((20, 8, 8), np.uint8), y=np.arange(20) % 2)
    (tmp_path / "old").mkdir()
    for name in ("report.html", "suspects.csv", "model.safetensors"):
        (tmp_path / "old" / name).write_text(f"old {name}")
    (tmp_path / "old/log.txt").write_text(LOG)
    for words in (["data", "--out", "copy", "--target", "a"], ["data.npz", "--out", "copy.npz"]):
        assert main(POISON + words if "--target" in words else POISON + words + ARRAYS) == 0
    return tmp_path


POISON = ["poison", "--attack", "badnets", "--rate", "0.2"]
ARRAYS = ["--target", "0"]
SCAN_AGAIN = ["scan", "data", "--out", "old", *QUICK]
FOLDER_AGAIN = [*POISON, "data", "--out", "copy", "--target", "a", "--seed", "1"]
NPZ_AGAIN = [*POISON, "data.npz", "--out", "copy.npz", *ARRAYS, "--seed", "1"]
EACH = pytest.mark.parametrize(
    "words", [SCAN_AGAIN, FOLDER_AGAIN, NPZ_AGAIN], ids=["scan", "folder", "npz"]
)


# The old stays until the new is whole ------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [*SCAN_AGAIN, "--backbone", "resnet81"],
        [*SCAN_AGAIN, "--backbone", "wrn-11-1"],
        [*SCAN_AGAIN, "--device", "no-such"],
        [*SCAN_AGAIN, "--threads", "100000"],
        [*SCAN_AGAIN, "--seed", "-1"],
        [*SCAN_AGAIN, "--size", "0"],
        [*SCAN_AGAIN, "--epochs-scale", "nan"],
        ["scan", "absent", "--out", "old", *QUICK],
        ["scan", "data.npz", "--out", "old", *QUICK, "--size", "8"],
        [*FOLDER_AGAIN, "--attack", "bandits"],
        [*FOLDER_AGAIN, "--attack", "badnets(size=99)"],
        [*FOLDER_AGAIN, "--target", "z"],
        [*FOLDER_AGAIN, "--rate", "2"],
        [*FOLDER_AGAIN, "--seed", "-1"],
        [*NPZ_AGAIN, "--attack", "bandits"],
        [*NPZ_AGAIN, "--target", "7"],
        [*NPZ_AGAIN, "--rate", "nan"],
    ],
)
def test_a_refused_force_changes_nothing(words, place):
    before = contents(place)
    assert main([*words, "--force"]) == 2
    assert contents(place) == before


def fail_at(monkeypatch, target, error, number=0):
    """Let a function raise an error when it is called for that time."""
    module, name = target
    original, left = getattr(module, name), [number]

    def failing(*args, **kwargs):
        left[0] -= 1
        if left[0] == -1:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143), (FULL, 1)]
)
@pytest.mark.parametrize(
    ("words", "target"),
    [
        (SCAN_AGAIN, "antibackdoor.cli._scan._fit"),
        (SCAN_AGAIN, "antibackdoor.cli._scan.read_data"),
        (FOLDER_AGAIN, "antibackdoor.datasets._poison_folder.shutil.copyfile"),
        (FOLDER_AGAIN, "antibackdoor.cli._poison.write_whole"),
        (NPZ_AGAIN, "antibackdoor.cli._poison.load_arrays"),
        (NPZ_AGAIN, "antibackdoor.cli._poison.np.save"),
    ],
)
def test_a_force_that_breaks_off_changes_nothing(
    words, target, error, code, place, monkeypatch, capsys
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(target, fail)
    before = contents(place)
    assert main([*words, "--force"]) == code
    assert contents(place) == before
    assert ("as they were" if "old" in words else "as it was") in capsys.readouterr().err or (
        error is FULL
    )


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("words", [FOLDER_AGAIN, NPZ_AGAIN], ids=["folder", "npz"])
def test_results_that_cannot_be_moved_are_not(words, number, place, monkeypatch):
    from pathlib import Path

    before = contents(place)
    original, left = Path.rename, [number]

    def rename(self, target):
        # Only what the command moves itself: both old ones out, and both new ones in.
        if "antibackdoor-" in f"{self}{target}" and "poison-" not in str(self):
            left[0] -= 1
            if left[0] == -1:
                raise FULL
        return original(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert main([*words, "--force"]) == 1
    assert left[0] < 0
    assert contents(place) == before


@EACH
def test_force_replaces_all_of_it(words, place):
    names, before = sorted(os.listdir(place)), contents(place)
    assert main([*words, "--force"]) in (0, 3)
    after = contents(place)
    assert sorted(os.listdir(place)) == names
    prefix = str(place / words[words.index("--out") + 1].removesuffix(".npz"))
    changed = {path for path in before if before[path] != after.get(path)}
    assert changed and all(path.startswith(prefix) for path in changed)


def test_a_forced_scan_that_was_stopped_can_be_gone_on_with(place, monkeypatch, capsys):
    from antibackdoor.training import Training

    of_more_epochs_than_one = [*SCAN_AGAIN, "--epochs-scale", "0.1"]
    before = contents(place / "old")
    with monkeypatch.context() as patch:
        fail_at(patch, (Training, "run_epoch"), Terminated(), 1)
        assert main([*of_more_epochs_than_one, "--force"]) == 143
    said = capsys.readouterr().err
    assert "what was finished is kept (the earlier results in 'old' are as they were)" in said
    assert contents(place / "old") == before
    assert main([*of_more_epochs_than_one, "--resume"]) in (0, 3)
    assert "old" not in (place / "old/report.html").read_text()[:4]
    assert sorted(path.name for path in (place / "old").iterdir()) == sorted(
        os.path.basename(path) for path in before
    )
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "path"),
    [(SCAN_AGAIN, "old/notes.txt"), (FOLDER_AGAIN, "copy/a/notes.txt")],
    ids=["scan", "folder"],
)
def test_notes_of_a_user_are_not_removed(words, path, place, capsys):
    (place / path).write_text("mine")
    before = contents(place)
    assert main([*words, "--force"]) == 2
    assert "notes.txt" in capsys.readouterr().err
    assert contents(place) == before


def test_notes_that_come_meanwhile_are_kept(place, monkeypatch, capsys):
    from antibackdoor.cli import _poison

    original = _poison.write_whole

    def write(*args):
        (place / "copy/a/notes.txt").write_text("mine")
        original(*args)

    monkeypatch.setattr(_poison, "write_whole", write)
    assert main([*FOLDER_AGAIN, "--force"]) == 0
    assert (place / "copy.old/a/notes.txt").read_text() == "mine"
    assert "a/notes.txt" in capsys.readouterr().err
    assert not (place / "copy/a/notes.txt").exists()


@pytest.mark.parametrize("words", [NPZ_AGAIN, FOLDER_AGAIN], ids=["npz", "folder"])
def test_what_is_no_mask_is_not_replaced(words, place):
    mask = place / ("copy.mask.npy" if words is NPZ_AGAIN else "copy.mask.csv")
    for change in (lambda: mask.write_text("mine"), mask.unlink):
        change()
        before = contents(place)
        assert main([*words, "--force"]) == 2
        assert contents(place) == before


@pytest.mark.parametrize("out", ["new", "above/new", "empty"])
@pytest.mark.parametrize(
    "words",
    [
        ["scan", "data", *QUICK, "--backbone", "resnet81"],
        [*POISON, "data", "--target", "z"],
        [*BENCH, "--datasets", "missing.npz"],
    ],
    ids=["scan", "poison", "bench"],
)
def test_nothing_is_left_of_a_refused_call_nor_removed(words, out, place):
    (place / "empty").mkdir()
    before = contents(place)
    assert main([*words, "--out", out]) == 2
    assert contents(place) == before


# A process that was killed -----------------------------------------------------------------------


def test_what_a_killed_run_had_begun_is_put_away(place, capsys):
    before = contents(place)
    staging = Staging(place, ["copy", "copy.mask.csv"])
    (staging.new / "copy").mkdir()
    (place / ".copy.antibackdoor-mine1234").mkdir()
    (place / ".copy.antibackdoor-mine1234" / "x").write_text("somebody's own")
    assert main([*FOLDER_AGAIN, "--force"]) == 0
    assert "removed what a killed run had left" in capsys.readouterr().err
    hidden = [path.name for path in place.iterdir() if path.name.startswith(".")]
    assert hidden == [".copy.antibackdoor-mine1234"]
    assert len(contents(place)) == len(before) + 2


@pytest.mark.parametrize("moves", range(5))
def test_killed_while_it_puts_results_in_place(moves, tmp_path, monkeypatch, capsys):
    """After any number of moves: the next to hold the lock finds all of the new in place."""
    from pathlib import Path

    for name in ("a", "b"):
        (tmp_path / name).write_text("old")
    killed = Staging(tmp_path, ["a", "b"])
    for name in ("a", "b"):
        (killed.new / name).write_text("new")
    (killed.new.parent / "old").mkdir()
    with monkeypatch.context() as patch:
        fail_at(patch, (Path, "rename"), FULL, moves)
        try:
            killed._forward(killed.new.parent)
        except OSError:
            assert moves < 4
    Staging(tmp_path, ["a", "b"]).recover()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}
    assert "in place now" in capsys.readouterr().err


# Two at a time -----------------------------------------------------------------------------------

USERS = [
    ("old", SCAN_AGAIN),
    ("old", [*SCAN_AGAIN, "--resume"]),
    ("old", [*SCAN_AGAIN, "--force"]),
    ("new", ["scan", "data", "--out", "new", *QUICK]),
    ("new", ["scan", "data", "--out", "data/../new", *QUICK]),
    ("copy", [*FOLDER_AGAIN, "--force"]),
    ("copy.npz", [*NPZ_AGAIN, "--force"]),
    ("new", [*POISON, "data", "--out", "new", "--target", "a"]),
    ("new.npz", [*POISON, "data.npz", "--out", "new.npz", *ARRAYS]),
    ("table", [*BENCH, "--out", "table"]),
]


@pytest.mark.parametrize(("out", "words"), USERS)
def test_a_second_user_is_refused_and_changes_nothing(out, words, place, capsys):
    with only_user("--out", place / out):
        before = contents(place)
        assert main(words) == 2
        assert contents(place) == before
    assert "in use" in capsys.readouterr().err or words is SCAN_AGAIN
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def without_locks(monkeypatch, number):
    import fcntl

    def flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.skipif(sys.platform == "win32", reason="there are locks of another kind")
@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_locks_of_the_file_system(number, tmp_path, monkeypatch):
    without_locks(monkeypatch, number)
    # Who holds it lives, and so would for longer.
    monkeypatch.setattr("antibackdoor.cli._output_lock._LOOKS_FOR", 0.2)
    with only_user("--out", tmp_path / "out"):
        with pytest.raises(ValueError, match="in use"), only_user("--out", tmp_path / "out"):
            pass
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are locks of another kind")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_without_locks_a_killed_process_is_in_nobodys_way(tmp_path, monkeypatch):
    without_locks(monkeypatch, errno.ENOSYS)
    forked = multiprocessing.get_context("fork")
    held = forked.Event()

    def hold():
        with only_user("--out", tmp_path / "out"):
            held.set()
            signal.pause()

    other = forked.Process(target=hold)
    other.start()
    assert held.wait(60)
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(ValueError, match="in use"), only_user("--out", tmp_path / "out"):
        pass
    other.kill()
    other.join()
    with only_user("--out", tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


# How it ends -------------------------------------------------------------------------------------


def test_a_signal_waits_for_the_end_of_a_block():
    reached = []
    with stoppable():
        with pytest.raises(Terminated), undisturbed():
            signal.raise_signal(signal.SIGTERM)
            reached.append("end")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert reached == ["end"]


def test_a_signal_that_comes_too_late_says_so(place, monkeypatch, capsys):
    original = Staging.put_in_place

    def put(self):
        with undisturbed():
            original(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Staging, "put_in_place", put)
    assert main([*FOLDER_AGAIN, "--force"]) == 143
    said = capsys.readouterr().err
    assert "the copy is whole" in said
    assert "nothing was written" not in said


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full_device():
    return os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")


@pytest.mark.parametrize("words", [["--help"], ["--version"], FOLDER_AGAIN, ["scan", "--help"]])
@pytest.mark.parametrize("kind", ["pipe", "full", "closed"])
def test_a_standard_output_that_takes_nothing(words, kind, place, monkeypatch, capsys):
    if kind == "full" and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    outputs = {"pipe": closed_pipe, "full": full_device, "closed": lambda: None}
    names = sorted(os.listdir(place))
    stream = outputs[kind]()
    monkeypatch.setattr(sys, "stdout", stream)
    assert main([*words, "--force"] if words is FOLDER_AGAIN else words) == 1
    if stream is not None:
        stream.close()  # does not fail: nothing is left to be written
    assert "the standard output" in capsys.readouterr().err
    assert sorted(os.listdir(place)) == names


def test_an_error_stream_that_takes_nothing(place, monkeypatch):
    for stream in (None, closed_pipe()):
        monkeypatch.setattr(sys, "stderr", stream)
        assert main([*FOLDER_AGAIN, "--force"]) == 0
        assert main(["scan", "absent", "--out", "new"]) == 2
        sys.stderr.close()


@pytest.mark.parametrize(
    "words",
    [
        ["scan", "data", "--out", "~nobody-here/out"],
        ["scan", "~nobody-here/data", "--out", "out"],
        ["scan", "a.npy", "~nobody-here/y.npy", "--out", "out"],
        [*POISON, "data", "--out", "~nobody-here/out", "--target", "a"],
        [*POISON, "~nobody-here/data", "--out", "out", "--target", "a"],
        [*BENCH, "--out", "~nobody-here/out"],
        [*BENCH, "--data-root", "~nobody-here"],
        [*BENCH, "--datasets", "~nobody-here/a.npz"],
        [*BENCH, "--dry-run", "--data-root", "~nobody-here"],
    ],
)
def test_a_home_that_is_not_there(words, place, capsys):
    before = contents(place)
    (place / "a.npy").touch()
    assert main(words) == 2
    assert "no such home folder" in capsys.readouterr().err
    (place / "a.npy").unlink()
    assert contents(place) == before


@pytest.mark.parametrize("number", ["100000", "0", "-1"])
@pytest.mark.parametrize("words", [SCAN_AGAIN[:4], BENCH], ids=["scan", "bench"])
def test_threads(words, number, place, capsys):
    before = contents(place)
    assert main([*words, "--threads", number]) == 2
    assert f"--threads {number}" in capsys.readouterr().err
    assert contents(place) == before


@pytest.mark.parametrize("words", [["--n-jobs", "0"], ["--n-jobs", "100000"], ["--device", "no"]])
def test_a_bench_that_could_run_no_cell(words, place):
    before = contents(place)
    assert main([*BENCH, *words]) == 2
    assert contents(place) == before


# Bench -------------------------------------------------------------------------------------------


def test_bench_writes_over_nothing_of_others(place, capsys):
    before = contents(place)
    assert main([*BENCH, "--out", "old"]) == 2
    assert "holds no rows of an earlier run" in capsys.readouterr().err
    assert contents(place) == before


def test_tables_are_replaced_together_or_not_at_all(place, monkeypatch):
    assert main([*BENCH, "--out", "table"]) == 0
    before = contents(place)
    for target in ("save_tradeoff", "Staging.put_in_place"):
        with monkeypatch.context() as patch:
            patch.setattr(f"antibackdoor.cli._bench_output.{target}", _full)
            assert main([*BENCH, "--out", "table"]) == 1
        assert contents(place) == before
    row = json.loads((place / "table/rows.jsonl").read_text())
    assert row["error"] is None


def _full(*_):
    raise FULL


# While it is loaded ------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_command_is_loaded(number):
    script = (
        "import sys; sys.orig_argv = ['python', '-m', 'antibackdoor']\n"
        "import importlib.util as util\n"
        "spec = util.spec_from_file_location('start', sys.argv[1])\n"
        "spec.loader.exec_module(util.module_from_spec(spec))\n"
        f"import signal; signal.raise_signal({int(number)})\n"
    )
    from antibackdoor import _start

    words = [sys.executable, "-c", script, _start.__file__]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + number, "interrupted: nothing was written\n")
