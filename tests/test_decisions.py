"""What a person has decided on the page, back in: read, trained by, dropped."""

import csv
import io
import re

import numpy as np
import pytest
from pages import Flagging, Page
from PIL import Image

from antibackdoor import load_model
from antibackdoor.cli import main
from antibackdoor.datasets import load_image_folder
from antibackdoor.inspection import drop_confirmed, read_decisions, write_report

DECIDED = {0: "confirmed", 2: "cleared", 3: "confirmed"}


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:60], y[:60]


@pytest.fixture
def saved(few, tmp_path):
    """The decisions about arrays: five rows flagged, three of them decided about."""
    X, y = few
    page = Page(write_report(Flagging(5).fit(X, y), X, y, tmp_path / "report.html"))
    return page.save(tmp_path / "decisions.csv", DECIDED)


@pytest.fixture
def folder(digits, tmp_path):
    """Folder of 30 images each of four digits, one of them with a name like a formula."""
    X, y = digits
    root = tmp_path / "photos"
    for label in range(4):
        (root / f"d{label}").mkdir(parents=True)
        for row in np.flatnonzero(y == label)[:30]:
            Image.fromarray(X[row]).save(root / f"d{label}" / f"{row}.png")
    Image.fromarray(X[0]).save(root / "d0" / "=1.png")
    (root / "=d").mkdir()
    for row in range(8):
        Image.fromarray(X[row]).save(root / "=d" / f"-{row},\n2.png")
    (root / "notes.txt").write_text("kept")
    return root


@pytest.fixture
def decided(folder, tmp_path):
    """The decisions about the folder."""
    images = load_image_folder(folder)
    fitted = Flagging(5).fit(images.X, images.y)
    path = tmp_path / "report.html"
    settings = {"file_names": images.file_names, "folder": folder}
    page = Page(write_report(fitted, images.X, images.y, path, **settings))
    return page.save(tmp_path / "decisions.csv", DECIDED)


def rows(mask):
    return np.flatnonzero(mask).tolist()


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def contents(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_of_arrays(few, saved):
    decisions = read_decisions(saved, *few)
    assert rows(decisions.confirmed) == [0, 3]
    assert rows(decisions.cleared) == [2]
    assert rows(decisions.undecided) == [1, 4]
    assert rows(decisions.suspects) == [0, 1, 3, 4]


def test_rows_that_were_not_flagged_are_suspects_if_they_are_confirmed(few, tmp_path):
    X, y = few
    page = Page(write_report(Flagging(0).fit(X, y), X, y, tmp_path / "report.html"))
    decisions = read_decisions(page.save(tmp_path / "decisions.csv", DECIDED), X, y)
    assert rows(decisions.suspects) == rows(decisions.confirmed) == [0, 3]
    assert not decisions.undecided.any()


@pytest.mark.parametrize("change", ["semicolons", "mark", "line ends", "order"])
def test_as_a_spreadsheet_saves_it(few, saved, change):
    text = saved.read_bytes().decode()
    head, *lines = text.splitlines()
    changed = {
        "semicolons": text.replace(",", ";"),
        "mark": f"\ufeff{text}",
        "line ends": text.replace("\r\n", "\n"),
        "order": "\n".join([head, *sorted(lines, reverse=True)]),
    }[change]
    saved.write_bytes(changed.encode())
    assert rows(read_decisions(saved, *few).confirmed) == [0, 3]


def test_of_a_folder(folder, decided):
    """By their names, whatever else has come into the folder since."""
    Image.new("L", (8, 8)).save(folder / "d0" / "000.png")
    images = load_image_folder(folder, size=16)
    decisions = read_decisions(
        decided, images.X, images.y, file_names=images.file_names, folder=folder
    )
    confirmed = [line for line in table(decided) if line["decision"] == "confirmed"]
    wanted = [line["file_name"].removeprefix("'") for line in confirmed]
    assert sorted(images.file_names[row] for row in rows(decisions.confirmed)) == sorted(wanted)


def test_trained_by_and_dropped(folder, decided, tmp_path, capsys):
    words = ["--epochs-scale", "0.01", "--device", "cpu", "--quiet"]
    code = main(
        ["scan", str(folder), "--decisions", str(decided), "--out", str(tmp_path / "out"), *words]
    )
    said = capsys.readouterr().out
    assert code == 3
    assert "The list is yours: 2 confirmed and 1 cleared." in said
    assert "2 flagged images are undecided, and taken for poison." in said
    assert load_model(tmp_path / "out" / "model.safetensors").isolate_.tolist() == [0, 1, 3, 4]
    shown = Page(tmp_path / "out" / "report.html").data
    assert any(remark.startswith("The list is yours") for remark in shown["remarks"])

    before = contents(folder)
    kept = tmp_path / "kept"
    assert main(["drop", str(folder), str(decided), "--out", str(kept)]) == 0
    told = capsys.readouterr()
    assert "Left out 2 images" in told.out and "2 flagged images are undecided" in told.err
    assert contents(folder) == before
    after = contents(kept)
    gone = before.keys() - after.keys()
    assert len(gone) == 2 and after == {name: before[name] for name in before.keys() - gone}
    assert "notes.txt" in after


def test_rows_are_dropped(few, saved, tmp_path, capsys):
    X, y = few
    np.savez(tmp_path / "data.npz", X_train=X, y_train=y, X_test=X[:2], y_test=y[:2])
    words = ["drop", str(tmp_path / "data.npz"), str(saved), "--out", str(tmp_path / "kept.npz")]
    assert main(words) == 0
    capsys.readouterr()
    with np.load(tmp_path / "kept.npz") as kept:
        kept = dict(kept)
    np.testing.assert_array_equal(kept["X_train"], np.delete(X, [0, 3], axis=0))
    np.testing.assert_array_equal(kept["y_train"], np.delete(y, [0, 3]))
    np.testing.assert_array_equal(kept["X_test"], X[:2])
    assert main(words) == 2  # it is there already
    assert "is there already" in capsys.readouterr().err


def test_rows_of_two_files_are_dropped(few, saved, tmp_path, capsys):
    X, y = few
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    data = [str(tmp_path / name) for name in ("X.npy", "y.npy")]
    words = ["drop", *data, str(saved), "--out"]
    assert main([*words, str(tmp_path / "kept.npz")]) == 0
    with np.load(tmp_path / "kept.npz") as kept:
        np.testing.assert_array_equal(kept["X"], np.delete(X, [0, 3], axis=0))
        np.testing.assert_array_equal(kept["y"], np.delete(y, [0, 3]))
    assert main([*words, str(tmp_path / "kept")]) == 2
    assert "wanted an .npz file, as DATA holds arrays" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["X.npy"], "wanted one folder, one .npz file or two .npy files"),
        (["X.npy", "photos"], "wanted one folder, one .npz file or two .npy files"),
        (["X.npy", "none.npy"], "none.npy': there is no such folder or file"),
        (["X.npy", "short.npy"], "X has 60 rows and y has 59|60.*59"),
    ],
)
@pytest.mark.parametrize("command", ["scan", "drop"])
def test_data_that_neither_command_takes(few, saved, tmp_path, capsys, command, data, message):
    X, y = few
    (tmp_path / "photos").mkdir()
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "short.npy", y[1:])
    words = [command, *(str(tmp_path / name) for name in data)]
    out = tmp_path / "kept.npz"
    words += [str(saved)] if command == "drop" else []
    assert main([*words, "--out", str(out)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


# What is refused


def cut(path, keep):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(keep(lines)), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:3], "holds 2 of 5 lines"),
        (lambda lines: lines[:1], "holds 0 of an unknown number of lines"),
        (lambda lines: [*lines[:-1], lines[-1][:9]], "line 6 is not whole"),
        (lambda lines: [*lines[:-1], lines[-1].strip() + ",more\n"], "line 6 is not whole"),
        (lambda lines: [*lines[:-1], lines[1]], "decides about 0 twice"),
        (lambda lines: [line.replace("sha256", "sha") for line in lines], "no column sha256"),
        (lambda lines: [line.replace("cleared", "clear") for line in lines], "decision 'clear'"),
        (lambda lines: [line.replace("1 of 5,0", "1 of 5,-1") for line in lines], "row '-1'"),
        (lambda lines: [line.replace("1 of 5,0", "1 of 5,99") for line in lines], "about row 99"),
        (lambda lines: [line.replace(",1,confirmed", ",yes,confirmed") for line in lines], "'yes'"),
        (lambda lines: ['"unclosed\n'], "is not whole|no column"),
        (lambda lines: [], "no column"),
    ],
)
def test_decisions_that_are_not_whole(few, saved, damage, message):
    cut(saved, damage)
    with pytest.raises(ValueError, match=message):
        read_decisions(saved, *few)


def test_decisions_about_other_data(few, saved, tmp_path):
    X, y = few
    with pytest.raises(ValueError, match=r"row 0 is not what was decided about"):
        read_decisions(saved, 255 - X, y)
    with pytest.raises(ValueError, match="is about an image of class '0', and row 0 is of '1'"):
        read_decisions(saved, X, y + 1)
    with pytest.raises(ValueError, match="X has 59 rows and y has 60"):
        read_decisions(saved, X[:59], y)
    with pytest.raises(ValueError, match="there is no image None"):
        read_decisions(saved, X, y, file_names=[str(row) for row in range(60)])
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_decisions(tmp_path / "missing.csv", X, y)
    with pytest.raises(ValueError, match="is a folder"):
        read_decisions(tmp_path, X, y)
    with pytest.raises(ValueError, match="folder='x' without file_names"):
        read_decisions(saved, X, y, folder="x")


@pytest.mark.parametrize("words", [["scan", "--decisions"], ["drop"]])
@pytest.mark.parametrize("change", ["changed", "gone", "other", "half"])
def test_decisions_about_another_folder(folder, decided, tmp_path, capsys, words, change):
    name = table(decided)[-1]["file_name"].removeprefix("'")
    if change == "changed":
        Image.new("L", (8, 8), 9).save(folder / name)
    elif change == "gone":
        (folder / name).unlink()
    elif change == "other":
        (folder / "=d").rename(folder / "e0")
    else:
        cut(decided, lambda lines: lines[:3])
    out = tmp_path / "out"
    assert main([words[0], str(folder), *words[1:], str(decided), "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("antibackdoor: path=") == 1
    assert not out.exists()


def test_where_a_copy_does_not_go(folder, decided, tmp_path):
    for out, error in ((folder / "in", ValueError), (tmp_path, FileExistsError)):
        with pytest.raises(error, match="out="):
            drop_confirmed(folder, decided, out)
    with pytest.raises(NotADirectoryError, match="is a file"):
        drop_confirmed(decided, decided, tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        drop_confirmed(tmp_path / "missing", decided, tmp_path / "kept")
