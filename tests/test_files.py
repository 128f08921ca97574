"""Files are there whole or not at all, whoever else writes, and however a writer ends."""

import errno
import multiprocessing
import os
import signal
import stat
import sys
import threading
import time

import pytest

from antibackdoor.utils import remove_abandoned, write_whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and locks of POSIX")

SIZES = (30_000, 500_000)


def write_many(path, size, n_times=15):
    for _ in range(n_times):
        write_whole(path, bytes([size % 251]) * size)


def is_whole(content):
    return len(content) in SIZES and content == bytes([len(content) % 251]) * len(content)


@pytest.mark.parametrize(
    "start", [threading.Thread, multiprocessing.get_context("fork").Process], ids=["thread", "fork"]
)
def test_of_many_writers_each_file_is_whole(start, tmp_path):
    path = tmp_path / "shared.bin"
    writers = [start(target=write_many, args=(path, size)) for size in SIZES * 2]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        remove_abandoned(tmp_path)  # which must not take what is being written
        if path.exists():
            assert is_whole(path.read_bytes())
            seen += 1
    for writer in writers:
        writer.join()
        assert getattr(writer, "exitcode", 0) == 0
    assert seen > 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("old_mode", [None, 0o600, 0o644, 0o664, 0o444])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_mode_is_that_of_open(old_mode, umask, tmp_path):
    before = os.umask(umask)
    try:
        path, other = tmp_path / "file", tmp_path / "opened"
        other.write_text("")
        if old_mode is not None:
            path.write_text("old")
            path.chmod(old_mode)
        write_whole(path, "new")
    finally:
        os.umask(before)
    wanted = stat.S_IMODE(other.stat().st_mode) if old_mode is None else old_mode
    assert stat.S_IMODE(path.stat().st_mode) == wanted
    assert path.read_text() == "new"


def test_names_as_long_as_a_file_may_have(tmp_path):
    for name in ("n" * 255, "é" * 127, "\N{SNOWMAN}" * 85):
        write_whole(tmp_path / name, "here")
        assert (tmp_path / name).read_text() == "here"


def parts(folder):
    return [path for path in folder.iterdir() if path.suffix == ".part"]


def plant(kind, part, victim):
    {
        "link": lambda: part.symlink_to(victim),
        "folder": part.mkdir,
        "pipe": lambda: os.mkfifo(part),
    }[kind]()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_planted_is_neither_followed_nor_destroyed(kind, tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "model"
    plant(kind, tmp_path / f"model.{os.getpid()}.part", victim)
    # The name that would be next, too.
    monkeypatch.setattr("secrets.randbelow", lambda n: 7)
    plant(kind, tmp_path / "model.7.part", victim)
    with pytest.raises(FileExistsError):
        write_whole(path, "new")
    monkeypatch.undo()
    write_whole(path, "new")
    remove_abandoned(tmp_path)
    assert path.read_text() == "new"
    assert victim.read_text() == "mine"
    assert len(parts(tmp_path)) == 2


def test_a_link_at_the_path_is_replaced(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "model"
    victim.write_text("mine")
    path.symlink_to(victim)
    write_whole(path, "new")
    assert (victim.read_text(), path.read_text(), path.is_symlink()) == ("mine", "new", False)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    for name, error in (("folder", "folder"), ("to-folder", "folder"), ("pipe", "pipe")):
        with pytest.raises(OSError, match=f"a .*{error} is there, wanted a file"):
            write_whole(tmp_path / name, "new")
    assert not parts(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_locks_it_is_written_and_nothing_is_swept_up(number, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    left = tmp_path / "row.json.1.part"
    left.write_text("{")
    write_whole(tmp_path / "row.json", "{}")
    remove_abandoned(tmp_path)
    assert left.exists()  # its writer may live
    monkeypatch.undo()
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["row.json"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    pid = os.fork()
    if pid == 0:
        os.fsync = lambda number: time.sleep(60)
        write_whole(tmp_path / "row.json", "{}")
        os._exit(0)
    while not parts(tmp_path) or parts(tmp_path)[0].stat().st_size == 0:
        time.sleep(0.001)
    remove_abandoned(tmp_path)
    assert len(parts(tmp_path)) == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
