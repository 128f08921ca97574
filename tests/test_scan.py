"""`antibackdoor scan` and `antibackdoor poison`, in this process as far as that goes."""

import csv
import shlex
import shutil
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from antibackdoor import load_model
from antibackdoor.cli import main
from antibackdoor.cli._text import printable
from antibackdoor.datasets import load_image_folder

QUICK = ["--epochs-scale", "0.4", "--device", "cpu", "--quiet"]
QUICKEST = ["--epochs-scale", "0.01"]
RESULTS = ["log.txt", "model.safetensors", "report.html", "suspects.csv"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory, digits):
    """Folder of 240 images of four digits."""
    root = tmp_path_factory.mktemp("clean") / "digits"
    X, y = digits
    for row in np.flatnonzero(y < 4)[:240]:
        path = root / f"d{y[row]}" / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[row]).save(path)
    return root


@pytest.fixture(scope="module")
def few(clean):
    """Folder of 25 images of each of the digits: about as few as are searched."""
    root = clean.parent / "few"
    for label in ("d0", "d1", "d2", "d3"):
        (root / label).mkdir(parents=True)
        for path in sorted((clean / label).iterdir())[:25]:
            shutil.copy(path, root / label)
    return root


@pytest.fixture(scope="module")
def poisoned(clean):
    """The same, of which a tenth bears a patch and the label d0."""
    out = clean.parent / "poisoned"
    words = ["poison", str(clean), "--out", str(out), "--attack", "badnets", "--rate", "0.1"]
    assert main([*words, "--target", "d0"]) == 0
    return out


@pytest.fixture(scope="module")
def scanned(poisoned):
    """Folder of the results, and the exit code."""
    out = poisoned.parent / "scanned"
    return out, main(["scan", str(poisoned), "--out", str(out), *QUICK])


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scan(*words):
    return main(["scan", *QUICK, *map(str, words)])


def poison(*words, attack="badnets", rate=0.1):
    return main(["poison", *map(str, words), "--attack", attack, "--rate", str(rate)])


def contents(folder):
    """What lies in a folder, hidden or not: names, and of files the bytes."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def told(capsys):
    """What was printed: standard output and error together."""
    return "".join(capsys.readouterr())


# A scan ------------------------------------------------------------------------------------------


def test_it_finds_the_poison(scanned, poisoned):
    out, code = scanned
    assert code == 3
    truth = {row["file_name"]: row["poisoned"] for row in table(out.parent / "poisoned.mask.csv")}
    flagged = [row for row in table(out / "suspects.csv") if row["flagged"] == "1"]
    found = sum(truth[row["file_name"]] == "1" for row in flagged)
    assert sum(mark == "1" for mark in truth.values()) == 24
    assert found == len(flagged) >= 20


def test_what_is_written(scanned, poisoned):
    out, _ = scanned
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    images = load_image_folder(poisoned)
    rows = table(out / "suspects.csv")
    assert list(rows[0]) == ["rank", "row", "file_name", "label", "score", "flagged"]
    assert [int(row["rank"]) for row in rows] == list(range(1, 241))
    assert sorted(int(row["row"]) for row in rows) == list(range(240))
    for row in rows:
        assert images.file_names[int(row["row"])] == row["file_name"]
        assert images.y[int(row["row"])] == row["label"]
    marks = [row["flagged"] for row in rows]
    assert marks == sorted(marks, reverse=True)
    others = [float(row["score"]) for row in rows if row["flagged"] == "0"]
    assert others == sorted(others, reverse=True)
    model = load_model(out / "model.safetensors")
    assert [int(row["row"]) for row in rows if row["flagged"] == "1"] == model.isolate_.tolist()
    assert set(model.predict(images.X)) <= set(images.y)
    assert rows[0]["file_name"] in (out / "report.html").read_text(encoding="utf-8")
    log = (out / "log.txt").read_text(encoding="utf-8")
    for word in ("scan", "torch ", "threads: 1", "240 images of 4 classes", "Signs of poison"):
        assert word in log
    assert "search" in log


def test_only_a_list(scanned, poisoned, tmp_path, capsys):
    """No classifier is trained: the list is that of the search inside a whole scan."""
    out = tmp_path / "out"
    assert scan(poisoned, "--out", out, "--list-only") == 3
    said = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted({*RESULTS} - {"model.safetensors"})
    assert "Signs of poison" in said
    assert "Clean classifier:" not in said
    log = (out / "log.txt").read_text(encoding="utf-8")
    assert "search" in log and "finetune" not in log
    one, whole = (table(folder / "suspects.csv") for folder in (out, scanned[0]))
    assert list(one[0]) == list(whole[0])
    one, whole = ({row["row"]: row for row in rows} for rows in (one, whole))
    assert one.keys() == whole.keys()
    # A classifier judges the doubtful rows beside.
    flagged, more = ({r for r in rows if rows[r]["flagged"] == "1"} for rows in (one, whole))
    assert flagged and flagged <= more
    assert all(one[row]["score"] == whole[row]["score"] for row in flagged)
    shown = (out / "report.html").read_text(encoding="utf-8")
    assert "PoisonSearch" in shown


@pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")
def test_the_power_is_told_at_the_end_and_on_the_page(poisoned, tmp_path, capsys):
    words = ["--list-only", "--power", "1", *QUICKEST]
    assert scan(poisoned, "--out", tmp_path / "out", *words) in (0, 3)
    told = "Detection power: of 1 known trigger planted in"
    assert told in capsys.readouterr().out
    assert told in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_what_is_said(few, tmp_path, capsys):
    (few / "notes.txt").write_text("x")
    words = ["scan", str(few), "--out", str(tmp_path / "out"), *QUICKEST]
    code = main([*words, "--device", "cpu"])
    said = capsys.readouterr()
    (few / "notes.txt").unlink()
    assert "100 images of 4 classes, as 8 x 8 pixels, grey" in said.err
    assert "notes.txt: it is in no class folder" in said.err
    assert "estimated time, from a few steps: about " in said.err
    assert "  0 %: phase 1, search, 1 epoch, about " in said.err
    assert "100 %: done, after " in said.err
    assert "note: notes.txt" in (tmp_path / "out/log.txt").read_text(encoding="utf-8")
    assert code in (0, 3)
    head = "No sign of poison: nothing is flagged in 100 rows."
    head = head if code == 0 else "Signs of poison in "
    assert said.out.startswith(head)
    assert "a false alarm on 5 % of clean data sets" in said.out
    assert "not at 0.01" in said.out
    assert str(tmp_path / "out" / "report.html") in said.out


@pytest.mark.parametrize(
    ("flagged", "head"),
    [
        ([], "No sign of poison: nothing is flagged in 4 rows."),
        ([0, 1], "Signs of poison in 1 class: 2 of 4 rows are flagged (50.0 %)."),
    ],
)
def test_the_verdict(flagged, head):
    from types import SimpleNamespace

    from antibackdoor.cli._verdict import tell_verdict

    y = np.array(["a", "a", "a", "b\x1b[2J"])
    mask = np.isin(np.arange(4), flagged)
    found = SimpleNamespace(
        isolate_=np.array(flagged),
        isolate_mask_=mask,
        isolate_classes_=np.unique(y[mask]),
        isolate_pvalue_=1e-9 if flagged else 0.5,
        isolate_signs_={},
        classes_=np.unique(y),
        input_shape_=(4, 4),
        false_alarm_rate=0.05,
    )
    lines = tell_verdict(found, y)
    assert lines[0] == head
    assert ("Suspect class a: 2 of its 3 images." in lines) == bool(flagged)
    assert ("p-value below 0.0001" if flagged else "p-value 0.5") in " ".join(lines)


@pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")
def test_arrays(digits, tmp_path):
    X, y = digits
    rows = np.flatnonzero(y < 3)[:120]
    np.savez(tmp_path / "data.npz", X_train=X[rows], y_train=y[rows])
    words = [tmp_path / "data.npz", "--out", tmp_path / "bad.npz", "--target", "0"]
    assert poison(*words) == 0
    np.save(tmp_path / "X.npy", np.load(tmp_path / "bad.npz")["X_train"])
    np.save(tmp_path / "y.npy", np.load(tmp_path / "bad.npz")["y_train"])
    cbd = ["--defense", "cbd", *QUICKEST]
    assert scan(tmp_path / "bad.npz", "--out", tmp_path / "one", *cbd) in (0, 3)
    assert scan(tmp_path / "X.npy", tmp_path / "y.npy", "--out", tmp_path / "two", *cbd) in (0, 3)
    one, other = ((tmp_path / name / "suspects.csv").read_bytes() for name in ("one", "two"))
    assert one == other
    assert {row["file_name"] for row in table(tmp_path / "one/suspects.csv")} == {""}


# Stopped and gone on -----------------------------------------------------------------------------


def stop_after(n_epochs, monkeypatch):
    """Let Ctrl-C be pressed in the epoch after some epochs."""
    from antibackdoor.training import Training

    run_epoch, left = Training.run_epoch, [n_epochs]

    def run(self):
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)
        left[0] -= 1
        return run_epoch(self)

    monkeypatch.setattr(Training, "run_epoch", run)


def test_interrupted_it_goes_on_to_the_same_end(scanned, poisoned, tmp_path, monkeypatch, capsys):
    out = tmp_path / "it's out"
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert scan(poisoned, "--out", out) == 130
    said = capsys.readouterr().err
    command = said.partition("To go on: ")[2]
    assert sorted(path.name for path in out.iterdir()) == ["checkpoints", "log.txt"]
    assert scan(poisoned, "--out", out) == 2
    assert "--resume" in told(capsys)
    program, *words = shlex.split(command)
    assert program == "antibackdoor"
    assert main(words) == scanned[1]
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    assert (out / "suspects.csv").read_bytes() == (scanned[0] / "suspects.csv").read_bytes()
    X = load_image_folder(poisoned).X
    one, other = (load_model(path / "model.safetensors") for path in (out, scanned[0]))
    for name, weights in one.module_.state_dict().items():
        np.testing.assert_array_equal(weights, other.module_.state_dict()[name])
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
    # It is finished: there is nothing to go on with.
    assert main(words) == 2
    assert "no scan was stopped there" in told(capsys)


def test_interrupted_before_anything_was_finished(poisoned, tmp_path, monkeypatch, capsys):
    stop_after(0, monkeypatch)
    assert scan(poisoned, "--out", tmp_path / "out") == 130
    assert "nothing is kept" in told(capsys)
    assert list(tmp_path.iterdir()) == []


def test_with_other_settings_it_begins_anew(few, tmp_path, monkeypatch):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert scan(few, "--out", out) == 130
    words = ["--seed", "1", "--list-only", *QUICKEST]
    assert scan(few, "--out", out, "--resume", *words) in (0, 3)
    assert scan(few, "--out", fresh, *words) in (0, 3)
    assert (out / "suspects.csv").read_bytes() == (fresh / "suspects.csv").read_bytes()
    assert not (out / "checkpoints").exists()


@pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")
def test_a_disk_that_fills(tmp_path, monkeypatch, capsys):
    data, out = image_folder(tmp_path / "data", a=20, b=20), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("antibackdoor.cli._scan.save_model", _full)
        assert scan(data, "--out", out, *QUICKEST) == 1
    said = told(capsys)
    assert "No space left" in said
    assert "--resume goes on" in said
    stop_after(0, monkeypatch)  # no epoch is missing
    assert scan(data, "--out", out, "--resume", *QUICKEST) in (0, 3)
    assert sorted(path.name for path in out.iterdir()) == RESULTS


def test_a_disk_that_is_full_from_the_start(poisoned, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("antibackdoor.cli._scan_folder.ScanFolder.write_log", _full)
    assert scan(poisoned, "--out", tmp_path / "out") == 1
    assert "No space left" in told(capsys)
    assert list(tmp_path.iterdir()) == []


def _full(*_):
    raise OSError(28, "No space left on device")


# What cannot be scanned --------------------------------------------------------------------------


def image_folder(root, **classes):
    for label, count in classes.items():
        for number in range(count):
            path = root / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(path)
    return root


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "holds no image in a class folder"),
        ({"a": 30}, "one class, 'a'"),
        ({"a": 1, "b": 1}, "2 images, at most 1 of a class; wanted 20 or more"),
    ],
)
def test_too_little(classes, message, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert scan(image_folder(tmp_path / "data", **classes), "--out", tmp_path / "out") == 2
    assert message in told(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent", "--out", "out"], "'absent': there is no such folder"),
        (["data", "data", "--out", "out"], "one .npz file or two .npy files"),
        (["file.txt", "--out", "out"], "one .npz file or two .npy files"),
        (["data.npz", "--out", "out", "--size", "8"], "--size and --no-crop are for folders"),
        (["data.npz", "--out", "out", "--no-crop"], "--size and --no-crop are for folders"),
        (["table.npz", "--out", "out"], "rows of 3 features; wanted images"),
        (["data", "--out", "data/out"], "lies in the data"),
        (["data", "--out", "file.txt"], "is a file; wanted a folder"),
        (["data", "--out", "full"], "is there and not empty"),
        (["data", "--out", "full", "--resume"], "holds no checkpoints"),
        (["data", "--out", "out", "--threads", "0"], "--threads 0"),
        (["data", "--out", "out", "--epochs-scale", "0"], "--epochs-scale 0"),
        (["data", "--out", "out", "--epochs-scale", "nan"], "--epochs-scale nan"),
        (["data", "--out", "out", "--size", "0"], "--size 0"),
        (["data", "--out", "out", "--power", "-1"], "--power -1"),
        (["data", "--out", "out", "--power", "1", "--decisions", "x.csv"], "not searched then"),
        (["data", "--out", "out", "--backbone", "no-such"], "backbone='no-such'"),
        (["data", "--out", "out", "--device", "no-such"], "no-such"),
        (["data", "--out", "out", "--seed", "-1"], "random_state"),
    ],
)
def test_what_cannot_be_scanned(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "data", a=20, b=20)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    np.savez("data.npz", X=np.zeros((40, 4, 4)), y=np.arange(40) % 2)
    np.savez("table.npz", X=np.zeros((40, 3)), y=np.arange(40) % 2)
    before = sorted(tmp_path.rglob("*"))
    assert main(["scan", *words, "--quiet"]) == 2
    assert message in told(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_without_rights(poisoned, tmp_path, capsys, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("antibackdoor.datasets._image_files.os.scandir", refuse)
    assert scan(poisoned, "--out", tmp_path / "out") == 1
    assert "Permission denied" in told(capsys)
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_not_there_is_missed_at_once(poisoned, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert scan(poisoned, "--out", tmp_path / "out") == 2
    assert "'.[persist]'" in told(capsys)


def test_force_touches_nothing_of_others(poisoned, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "checkpoints").mkdir(parents=True)
    (out / "mine.txt").write_text("x")
    (out / "checkpoints/epoch-3.pt").write_text("x")
    (out / f"checkpoints/search-{7:032x}.safetensors").write_text("x")
    (out / "report.html").write_text("mine too: there is no log of a scan")
    before = contents(tmp_path)
    assert scan(poisoned, "--out", out, "--force") == 2
    assert "(checkpoints/epoch-3.pt, mine.txt, report.html)" in told(capsys)
    assert contents(tmp_path) == before


# Names -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="files there have no such names")
def test_names_that_would_break_a_table_a_page_or_a_terminal(tmp_path, capsys):
    root = image_folder(tmp_path / "data", **{"=1+1": 20, "b": 20})
    odd = ["=SUM(A1).png", 'a"b.png', "a\nb.png", "</script><script>alert(1).png", "\x1b[2J.png"]
    (root / "b/<").mkdir()
    for number, name in enumerate(odd):
        (root / "b" / f"{number}.png").rename(root / "b" / name)
    (root / "b" / "\x1b[31mnotes").write_text("x")
    out = tmp_path / "out"
    words = ["scan", str(root), "--out", str(out), *QUICKEST, "--device", "cpu"]
    assert main(words) in (0, 3)
    said = told(capsys)
    assert "\x1b" not in said
    assert "'b/\\x1b[31mnotes'" in said
    rows = table(out / "suspects.csv")
    assert {f"b/{name}" for name in odd} <= {row["file_name"] for row in rows}
    assert "'=1+1" in {row["label"] for row in rows}
    assert not any(row["file_name"].startswith("=") for row in rows)
    assert "\x1b" not in (out / "log.txt").read_text(encoding="utf-8")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert load_model(out / "model.safetensors").classes_.tolist() == ["=1+1", "b"]


def test_printable():
    assert printable("Zürich 東京") == "Zürich 東京"
    assert printable("a\nb") == "'a\\nb'"
    assert printable("") == "''"


# Poison ------------------------------------------------------------------------------------------


def test_the_mask_tells_what_was_done(clean, poisoned):
    rows = table(poisoned.parent / "poisoned.mask.csv")
    assert len(rows) == len(list(poisoned.rglob("*.png"))) == 240
    bad = [row for row in rows if row["poisoned"] == "1"]
    assert len(bad) == 24
    for row in bad:
        assert row["file_name"].startswith("d0/")
        assert row["original_label"] != "d0"
        before = np.asarray(Image.open(clean / row["original_name"]))
        after = np.asarray(Image.open(poisoned / row["file_name"]))
        assert (before[:5, :5] == after[:5, :5]).all()
        assert after[-1, -1] == 255
    assert sorted(path.name for path in poisoned.iterdir()) == [f"d{n}" for n in range(4)]


def test_poisoned_arrays(digits, tmp_path, capsys):
    X, y = digits
    arrays = {"X_train": X[:100], "y_train": y[:100], "X_test": X[100:120], "y_test": y[100:120]}
    np.savez(tmp_path / "data.npz", **arrays)
    words = [tmp_path / "data.npz", "--out", tmp_path / "bad.npz", "--target", "3"]
    assert poison(*words, attack="badnets(size=2)") == 0
    assert "Poisoned 10 of 100 images (10.0 %)" in told(capsys)
    bad, mask = np.load(tmp_path / "bad.npz"), np.load(tmp_path / "bad.mask.npy")
    assert mask.sum() == 10
    np.testing.assert_array_equal(bad["X_test"], arrays["X_test"])
    np.testing.assert_array_equal(bad["X_train"][~mask], arrays["X_train"][~mask])
    assert (bad["y_train"][mask] == 3).all()
    assert (bad["X_train"][mask] != arrays["X_train"][mask]).any(axis=(1, 2)).all()
    assert poison(*words) == 2
    assert "there already" in told(capsys)
    assert poison(*words, "--force") == 0


def test_a_poisoned_copy_is_replaced_only_if_it_is_one(tmp_path, capsys):
    data = image_folder(tmp_path / "data", a=5, b=5)
    words = [data, "--out", tmp_path / "out", "--target", "a"]
    assert poison(*words, rate=0.2) == 0
    assert poison(*words, rate=0.2) == 2
    assert poison(*words, "--seed", "1", "--force", rate=0.4) == 0
    assert "Poisoned 4 of 10" in told(capsys)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 10
    (tmp_path / "out.mask.csv").unlink()
    assert poison(*words, "--force", rate=0.2) == 2
    assert "was not written by this command" in told(capsys)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 10


def test_the_format_tells(tmp_path, capsys):
    data = image_folder(tmp_path / "data", a=5, b=5)
    Image.open(data / "a/0.png").save(data / "a/9.jpg")
    (data / "a/notes.txt").write_text("x")
    assert poison(data, "--out", tmp_path / "out", "--target", "a", rate=0.2) == 0
    said = told(capsys)
    assert "the format tells" in said
    assert "a/notes.txt" in said
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent", "--out", "out", "--target", "a"], "'absent': there is no such"),
        (["data", "--out", "out", "--target", "z"], "target_label='z'"),
        (["data", "--out", "data/out", "--target", "a"], "lie in one another"),
        (["data/a", "--out", "data", "--target", "a"], "lie in one another"),
        (["data.npz", "--out", "out", "--target", "0"], "two folders or two .npz files"),
        (["data.npz", "--out", "out.npz", "--target", "7"], "--target '7' is none of"),
        (["data", "--out", "out", "--target", "a", "--attack", "bandits"], "attack='bandits'"),
        (["data", "--out", "out", "--target", "a", "--attack", "badnets(target_label=1)"], "alone"),
        (["data", "--out", "out", "--target", "a", "--rate", "2"], "poison_rate=2.0"),
    ],
)
def test_what_cannot_be_poisoned(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "data", a=5, b=5)
    np.savez("data.npz", X=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2)
    before = sorted(tmp_path.rglob("*"))
    assert main(["poison", "--attack", "badnets", "--rate", "0.2", *words]) == 2
    assert message in told(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_interrupted_poison_leaves_nothing(tmp_path, capsys, monkeypatch):
    data = image_folder(tmp_path / "data", a=5, b=5)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("antibackdoor.datasets._poison_folder.shutil.copyfile", stop)
    assert poison(data, "--out", tmp_path / "out", "--target", "a", rate=0.2) == 130
    assert "nothing was written" in told(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_help_has_examples_and_exit_codes(capsys):
    for command in ("scan", "poison"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"antibackdoor {command} photos" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "antibackdoor scan photos --out scanned" in said
    assert "3    a scan has flagged something" in said
