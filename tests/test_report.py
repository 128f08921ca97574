"""The review page: what is in it, and what it does in a browser."""

import base64
import csv
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import Flagging, Page
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from antibackdoor import (
    ABLClassifier,
    FinePruningClassifier,
    Retrain,
    SpectralSignatures,
    UndefendedClassifier,
)
from antibackdoor.inspection import read_decisions, write_report

# Text that would run, break out of its place, or turn the text around it.
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(2)>",
    "]]>&amp;&lt;\u2028\u2029'\"\\u003cb>",
    "$data ${data} $$",
    '=HYPERLINK("http://example.org"), "x"',
    "\u202egnp.exe",
    "-1",
]


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:60], y[:60]


@pytest.fixture
def page(tmp_path):
    """Function that writes a report and reads it."""

    def write(*arguments, **settings):
        path = write_report(*arguments, tmp_path / "report.html", **settings)
        assert path == tmp_path / "report.html"
        assert os.listdir(tmp_path) == ["report.html"]
        return Page(path)

    return write


# --- what is in it


def test_rows_most_suspect_first(few, page):
    X, y = few
    report = page(Flagging(30).fit(X, y), X, y, file_names=[f"{row}.png" for row in range(60)])
    data = report.data
    assert data["rows"] == list(range(30))
    assert [data["labels"][code] for code in data["codes"]] == [str(label) for label in y[:30]]
    assert data["scores"] == sorted(data["scores"], reverse=True)
    assert data["files"] == [f"{row}.png" for row in range(30)]
    np.testing.assert_array_equal(report.tiles(), X[:30])
    assert data["headline"].startswith("30 of 60 rows are flagged (50.0 %), in 10 classes.")
    assert sum(found["n_flagged"] for found in data["classes"]) == 30
    assert sum(found["n_rows"] for found in data["classes"]) == 60
    assert sum(data["histogram"]["flagged"]) == sum(data["histogram"]["others"]) == 30
    assert len(data["histogram"]["edges"]) == len(data["histogram"]["flagged"]) + 1


def test_more_than_a_sheet(digits, page):
    X, y = digits
    report = page(Flagging(600).fit(X, y), X, y, max_images=555)
    assert len(report.data["sheets"]["uris"]) == 3
    np.testing.assert_array_equal(report.tiles(), X[:555])
    assert "Only the 555 most suspect of the 600 flagged rows are shown." in report.data["remarks"]


@pytest.mark.parametrize(
    "kind", ["channels first", "channels last", "flat", "unit", "signed", "list"]
)
def test_layouts_and_units(few, page, kind):
    X, y = few
    colour = np.stack([X, X // 2, X // 4], axis=-1)
    settings, given, shown = {
        "channels first": ({}, np.moveaxis(colour, -1, 1), colour),
        "channels last": ({}, colour, colour),
        "flat": ({"image_shape": (8, 8)}, X.reshape(60, 64), X),
        "unit": ({}, X / 255, X),
        "signed": ({}, X.astype(np.float32) / 51 - 2, X),
        "list": ({}, X, X),
    }[kind]
    classifier = Flagging(9, **settings).fit(given, y)
    report = page(classifier, given.astype(float).tolist() if kind == "list" else given, y)
    np.testing.assert_array_equal(report.tiles(), shown[:9])


def test_rows_mapped_from_a_file(few, page, tmp_path_factory):
    X, y = few
    mapped = np.memmap(tmp_path_factory.mktemp("rows") / "X", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    np.testing.assert_array_equal(page(Flagging(9).fit(X, y), mapped, y).tiles(), X[:9])


def test_large_images_are_shown_smaller(page):
    X = np.zeros((6, 300, 600, 3), dtype=np.uint8)
    X[:, :, :300] = 200
    y = np.arange(6) % 2
    report = page(Flagging(2).fit(X, y), X, y)
    sheets = report.data["sheets"]
    assert (sheets["width"], sheets["height"]) == (256, 128)
    assert (sheets["full_width"], sheets["full_height"]) == (600, 300)
    tiles = report.tiles()
    assert (tiles[:, :, :127] == 200).all() and (tiles[:, :, 129:] == 0).all()


def test_tables(page):
    X = np.arange(600.0).reshape(10, 60) / 7
    y = np.arange(10) % 2
    report = page(Flagging(4).fit(X, y), X, y)
    table = report.data["table"]
    assert report.data["sheets"] is None
    assert table["n_features"] == 60 and len(table["features"]) == 50
    np.testing.assert_allclose(table["values"], X[:4, :50], rtol=1e-5)


def test_nothing_flagged(few, page):
    X, y = few
    nothing = Flagging(0).fit(X, y)
    nothing.isolate_pvalue_ = 0.4
    data = page(nothing, X, y, max_images=7).data
    assert data["headline"] == "No sign of poison: nothing is flagged in 60 rows."
    assert data["rows"] == list(range(7))
    assert data["classes"] == [] and data["histogram"]["threshold"] is None
    assert any("NOT flagged" in remark for remark in data["remarks"])
    nothing.isolate_scores_ = np.zeros(60)
    data = page(nothing, X, y).data
    assert data["rows"] == [] and data["sheets"] is None
    assert "No row is more suspect than another, so none is shown." in data["remarks"]


def test_verdicts(few, page):
    X, y = few
    tested = Flagging(3, false_alarm_rate=0.01).fit(X, y)
    tested.isolate_pvalue_ = 0.0021
    tested.isolate_signs_ = {"transplant": np.arange(10) / 10, "diversity": np.full(10, np.nan)}
    data = page(tested, X, y).data
    assert data["headline"] == "Signs of poison in 3 classes: 3 of 60 rows are flagged (5.0 %)."
    assert "about once in 480 times (p-value 0.0021:" in data["remarks"][0]
    assert "1 % of clean data sets" in data["remarks"][0]
    assert [found["signs"] for found in data["classes"]] == [
        {"transplant": 0.0},
        {"transplant": 0.1},
        {"transplant": 0.2},
    ]
    tested.isolate_pvalue_ = 1e-9
    assert "less than once in 10,000 times" in page(tested, X, y).data["remarks"][0]
    tested.isolate_pvalue_ = 0.2
    assert "in 20 of 100 cases" in page(tested, X, y).data["remarks"][0]
    tested.isolate_pvalue_ = np.nan
    assert "was not tested" in page(tested, X, y).data["remarks"][0]


def test_real_classifiers(few, page):
    X, y = few
    settings = {"backbone": "small-cnn", "random_state": 0}
    detector = SpectralSignatures(epochs=1)
    spectral = ABLClassifier(detector=detector, cure=Retrain(), epochs=1, **settings).fit(X, y)
    data = page(spectral, X, y).data
    assert len(data["rows"]) > 0
    assert data["rows"] == spectral.isolate_.tolist()
    assert data["facts"]["Method"].startswith("ABLClassifier(backbone='small-cnn'")
    plain = UndefendedClassifier(epochs=1, **settings).fit(X, y)
    assert page(plain, X, y).data["rows"] == []
    cleansing = FinePruningClassifier(epochs=1, finetune_epochs=1, **settings)
    data = page(cleansing.fit(X, y, clean_mask=np.ones(60, dtype=bool)), X, y).data
    assert "does not look for poisoned rows" in data["remarks"][0]


def test_texts_never_become_markup(few, page):
    X, _ = few
    labels = np.array(HOSTILE)[np.arange(60) % len(HOSTILE)]
    names = HOSTILE * 7 + ["\udcff.png", "ü.png", "a\nb.png", ""]
    report = page(Flagging(60 - 1).fit(X, labels), X, labels, file_names=names)
    assert [report.data["labels"][code] for code in report.data["codes"]] == labels[:59].tolist()
    assert report.data["files"] == names[:59]
    quiet = page(Flagging(60 - 1).fit(X, np.arange(60) % 8), X, np.arange(60) % 8)
    assert report.tags == quiet.tags
    assert [tag for tag, _ in report.tags].count("script") == 2
    embedded = report.texts["script", "data"]
    assert embedded.isascii() and not set("<>&") & set(embedded)


def test_the_policy_allows_what_is_on_the_page_and_no_network(few, page):
    import hashlib

    X, y = few
    report = page(Flagging().fit(X, y), X, y)
    (policy,) = (a["content"] for _, a in report.tags if "http-equiv" in a)
    assert "default-src 'none'" in policy
    for kind in ("script", "style"):
        digest = hashlib.sha256(report.texts[kind, None].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "unsafe" not in policy
    links = {"src", "href", "style"} | {"onclick", "onload", "onerror"}
    assert not any(links & attributes.keys() for _, attributes in report.tags)
    code = report.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|innerHTML|insertAdjacentHTML|document\.write|\beval\b", code)


def test_the_same_fit_gives_the_same_file(few, tmp_path):
    X, y = few
    first, second = (
        write_report(Flagging().fit(X, y), X, y, tmp_path / name).read_bytes() for name in "ab"
    )
    assert first == second


# --- what it refuses


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"classifier": Flagging()}, NotFittedError, "Flagging"),
        ({"classifier": ABLClassifier()}, NotFittedError, "ABLClassifier"),
        ({"classifier": Flagging}, TypeError, "classifier"),
        ({"classifier": BaseEstimator()}, TypeError, "classifier"),
        ({"X": np.zeros((59, 8, 8))}, ValueError, "X has 59 rows"),
        ({"X": np.zeros((60, 8, 9))}, ValueError, r"X has rows of shape \(8, 9\)"),
        ({"X": np.full((60, 8, 8), np.nan)}, ValueError, "X holds NaN"),
        ({"X": np.full((60, 8, 8), "a")}, ValueError, "X"),
        ({"y": np.zeros(59)}, ValueError, "y has 59 rows"),
        ({"y": np.full(60, 11)}, ValueError, "y gives the flagged rows"),
        ({"y": np.zeros((60, 2))}, ValueError, "y"),
        ({"file_names": ["a"] * 59}, ValueError, "file_names holds 59"),
        ({"file_names": "a" * 60}, TypeError, "file_names"),
        ({"file_names": [1] * 60}, TypeError, "file_names"),
        ({"folder": "."}, ValueError, "folder='.' without file_names"),
        ({"folder": ".", "file_names": ["a"] * 60}, ValueError, "'a' cannot be read"),
        ({"remarks": "cropped"}, TypeError, "remarks='cropped'"),
        ({"remarks": [1]}, TypeError, r"remarks=\[1\]"),
        ({"max_images": 0}, ValueError, "max_images=0"),
        ({"max_images": 2.5}, TypeError, "max_images=2.5"),
        ({"max_images": True}, TypeError, "max_images=True"),
        ({"path": "missing/report.html"}, FileNotFoundError, "path='missing/report.html'"),
        ({"path": "."}, IsADirectoryError, "path='.'"),
        ({"path": 3}, TypeError, "path"),
    ],
)
def test_bad_input_writes_nothing(few, tmp_path, monkeypatch, changes, error, message):
    X, y = few
    monkeypatch.chdir(tmp_path)
    fitted = Flagging().fit(X, y)
    given = {"classifier": fitted, "X": X, "y": y, "path": "report.html", **changes}
    with pytest.raises(error, match=message):
        write_report(**given)
    assert os.listdir(tmp_path) == []


def test_an_unclear_layout_is_asked_for(few, tmp_path):
    X, y = np.zeros((60, 5, 5, 5)), few[1]
    with pytest.raises(ValueError, match="layout='auto' cannot tell"):
        write_report(Flagging().fit(X, y), X, y, tmp_path / "report.html")
    write_report(
        Flagging(layout="channels_last").fit(X, y), X, y, tmp_path / "report.html"
    )  # five channels: their mean is shown


def test_a_report_that_fails_leaves_the_one_before(few, tmp_path, monkeypatch):
    X, y = few
    path = write_report(Flagging().fit(X, y), X, y, tmp_path / "report.html")
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_report(Flagging(5).fit(X, y), X, y, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.html"]


# --- in a browser


def find_chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    return None if found is None else Path(found)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("there is no Chromium here; CHROMIUM=/path names one")
    with playwright.sync_playwright() as running:
        # Its own sandbox needs rights that a container does not have.
        opened = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Function that opens a report; afterwards nothing must have gone wrong or out."""
    troubles, requests, contexts = [], [], []

    def opened(*arguments, **settings):
        path = write_report(*arguments, tmp_path / "report.html", **settings)
        context = browser.new_context(accept_downloads=True, **VIEW)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: troubles.append(message.text))
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []
    inside = ((tmp_path / "report.html").as_uri(), "data:", "blob:")
    assert requests
    assert [url for url in requests if not url.startswith(inside)] == []


NOT_COVERED = """() => {
    const card = document.activeElement.closest(".card");
    const { left, right, top, bottom } = card.getBoundingClientRect();
    return [top + 5, bottom - 5].every(
        (height) => card.contains(document.elementFromPoint((left + right) / 2, height)));
}"""

VIEW = {"viewport": {"width": 1000, "height": 800}}


def saved(tab, tmp_path):
    """Return what the download holds."""
    with tab.expect_download() as download:
        tab.click("#download")
    assert download.value.suggested_filename == "decisions.csv"
    path = tmp_path / "decisions.csv"
    download.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def focused_row(tab):
    return int(tab.evaluate("document.activeElement.closest('.card').dataset.number"))


def test_review(few, visit, tmp_path):
    X, y = few
    names = [f"img/{row}, of 60.png" for row in range(60)]
    tab = visit(Flagging(40).fit(X, y), X, y, file_names=names)
    assert tab.locator(".card:visible").count() == 40
    assert tab.inner_text("#headline").startswith("40 of 60 rows are flagged")
    assert tab.locator("#classes-body tr").count() == 10
    assert tab.locator("#histogram rect.flagged").count() > 10

    # Filter by class.
    tab.select_option("#class-filter", label=f"3 ({np.sum(y[:40] == 3)})")
    threes = np.flatnonzero(y[:40] == 3)
    seen = tab.locator(".card:visible").evaluate_all("(all) => all.map((c) => +c.dataset.number)")
    assert seen == threes.tolist()

    # Tick: a row is confirmed or cleared, never both.
    tab.get_by_label(f"Confirm row {threes[0]}", exact=True).check()
    tab.get_by_label(f"Clear row {threes[1]}", exact=True).check()
    tab.get_by_label(f"Confirm row {threes[2]}", exact=True).check()
    tab.get_by_label(f"Clear row {threes[2]}", exact=True).check()
    assert not tab.get_by_label(f"Confirm row {threes[2]}", exact=True).is_checked()
    assert tab.inner_text("#status") == "1 confirmed, 2 cleared, 37 undecided"

    # The average of what is shown.
    tab.click("#average")
    canvas = tab.wait_for_selector("#average-figure canvas")
    pixels = canvas.evaluate("(c) => [...c.getContext('2d').getImageData(0, 0, 8, 8).data]")
    mean = np.array(pixels).reshape(8, 8, 4)[..., 0]
    np.testing.assert_allclose(mean, X[threes].mean(axis=0), atol=1)

    # What was decided by hand outlives a bulk decision.
    tab.click("#confirm-all")
    tab.select_option("#class-filter", "")
    tab.select_option("#decision-filter", "cleared")
    assert tab.locator(".card:visible").count() == 2
    tab.select_option("#decision-filter", "")

    # By keyboard: from a tile on, with the arrows and letters.
    tab.locator(".tile").first.focus()
    tab.keyboard.press("End")
    assert focused_row(tab) == 39
    tab.keyboard.press("Home")
    for _ in range(3):
        tab.keyboard.press("ArrowDown")
        # The bar below does not cover the card that one comes to, nor its boxes.
        assert tab.evaluate(NOT_COVERED)
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("c")
    tab.keyboard.press("ArrowDown")
    below = focused_row(tab)
    first, other = (tab.locator(f"[data-number='{n}']").bounding_box() for n in (1, below))
    assert first["x"] == other["x"] and other["y"] > first["y"]
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert tab.locator("#zoom").is_visible()
    assert tab.inner_text("#zoom-facts").startswith("Row 2, suspicion")
    tab.keyboard.press("x")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("c")
    tab.keyboard.press("u")
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#zoom-facts").startswith("Row 4, suspicion")
    tab.get_by_label("Confirm", exact=True).check()
    tab.keyboard.press("Escape")
    assert not tab.locator("#zoom").is_visible()
    assert focused_row(tab) == 4

    expected = ["undecided"] * 40
    for row in threes:
        expected[row] = "confirmed"
    expected[threes[1]] = expected[threes[2]] = "cleared"
    for row, decision in {1: "confirmed", 2: "cleared", 3: "undecided", 4: "confirmed"}.items():
        expected[row] = decision
    lines = saved(tab, tmp_path)
    assert [line["line"] for line in lines] == [f"{number} of 40" for number in range(1, 41)]
    assert {line["flagged"] for line in lines} == {"1"}
    assert [int(line["row"]) for line in lines] == list(range(40))
    assert [line["label"] for line in lines] == [str(label) for label in y[:40]]
    assert [line["decision"] for line in lines] == expected
    assert [line["file_name"] for line in lines] == names[:40]
    np.testing.assert_allclose(
        [float(line["suspicion"]) for line in lines], np.linspace(1, 0, 60)[:40], rtol=1e-5
    )
    # What was saved is read back, and the browser has kept it for the next time.
    read = read_decisions(tmp_path / "decisions.csv", X, y, file_names=names)
    for word in ("confirmed", "cleared", "undecided"):
        rows = np.flatnonzero(getattr(read, word))
        assert rows.tolist() == [row for row, what in enumerate(expected) if what == word]
    status = tab.inner_text("#status")
    tab.reload()
    tab.wait_for_selector("html[data-ready]", state="attached")
    assert tab.inner_text("#status") == status
    assert tab.get_by_label("Confirm row 1", exact=True).is_checked()


def test_pictures_are_those_of_their_rows(few, visit):
    """What is drawn in a card is the row it says, to the pixel."""
    from PIL import Image

    X, y = few
    tab = visit(Flagging(20).fit(X, y), X, y)
    tab.eval_on_selector(".foot", "(foot) => { foot.style.position = 'static'; }")
    for number in (0, 7, 17):
        drawn = Image.open(io.BytesIO(tab.locator(".tile .picture").nth(number).screenshot()))
        assert set(drawn.size) <= {96, 97}  # a card may stand between two pixels of the screen
        centres = np.asarray(drawn.convert("L"))[6::12, 6::12]
        np.testing.assert_allclose(centres, X[number], atol=1)


def test_cards_that_are_filled_later(digits, visit, tmp_path):
    """Of many rows those off the screen are filled when one comes to them, or in a while."""
    X, y = digits
    tab = visit(Flagging(900).fit(X, y), X, y)
    assert tab.locator(".card").count() == 900
    tab.locator(".tile").first.focus()
    tab.keyboard.press("End")
    tab.keyboard.press("c")
    assert tab.locator(".card").last.locator(".label").inner_text() == str(y[899])
    tab.wait_for_selector("html[data-complete]", state="attached")
    labels = tab.locator(".facts .label").evaluate_all("(all) => all.map((e) => e.textContent)")
    assert labels == [str(label) for label in y[:900]]
    assert [line["decision"] for line in saved(tab, tmp_path)] == ["undecided"] * 899 + [
        "confirmed"
    ]


def test_hostile_texts_are_shown_as_they_are(few, visit, tmp_path):
    X, _ = few
    labels = np.array(HOSTILE)[np.arange(60) % len(HOSTILE)]
    names = [f"{text}{row}" for row, text in enumerate(labels)]
    tab = visit(Flagging(32).fit(X, labels), X, labels, file_names=names)
    shown = tab.locator(".facts .label").evaluate_all("(spans) => spans.map((s) => s.textContent)")
    assert shown == labels[:32].tolist()
    assert tab.locator(".card img, .card script").count() == 0
    tab.locator(".tile").first.click()
    assert tab.locator("#zoom-title").text_content() == f"Label {labels[0]}"
    tab.keyboard.press("Escape")
    lines = saved(tab, tmp_path)
    # A spreadsheet must not compute a text; a number stays one.
    for line, label, name in zip(lines, labels, names, strict=False):
        quote = "'" if label.startswith("=") else ""
        assert (line["label"], line["file_name"]) == (quote + label, quote + name)


def test_a_table_and_nothing_flagged(visit):
    X = np.arange(120.0).reshape(20, 6)
    y = np.arange(20) % 2
    tab = visit(Flagging(0).fit(X, y), X, y)
    assert tab.inner_text("#headline") == "Nothing is flagged in 20 rows."
    assert tab.inner_text("#review-title") == "Most suspect rows, not flagged"
    assert tab.locator(".card").nth(2).locator("td").all_inner_texts() == [
        str(value) for value in range(12, 18)
    ]
    tab.click("#average")
    means = tab.locator("#average-figure td").all_inner_texts()
    np.testing.assert_allclose([float(mean) for mean in means], X.mean(axis=0))


def test_flagged_beside_unflagged(few, page):
    """The averages of both kinds of rows of a class, and what sets them apart."""
    X, y = few
    X = X.copy()
    X[:9, 6:, 6:] = 255
    y = np.where(np.arange(60) < 9, 3, y)
    found = page(Flagging(9).fit(X, y), X, y).data["pairs"]
    assert [pair["label"] for pair in found] == ["3"]
    flagged, others, difference = (decoded(one["uri"]) for one in found[0]["averages"])
    rest = np.flatnonzero((y == 3) & (np.arange(60) >= 9))
    np.testing.assert_allclose(flagged, X[:9].mean(axis=0), atol=1)
    np.testing.assert_allclose(others, X[rest].mean(axis=0), atol=1)
    assert difference[6:, 6:].min() > 200
    np.testing.assert_array_equal(decoded(found[0]["others"]), np.hstack(X[rest]))
    apart = np.where(np.arange(60) < 9, 10, y)  # a class that is flagged whole has no others
    assert page(Flagging(9).fit(X, apart), X, apart).data["pairs"] == []


def decoded(uri):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_what_a_scan_adds(few, page):
    """Remarks stand with what was found, facts at the end."""
    X, y = few
    shown = page(Flagging().fit(X, y), X, y, remarks=["2 skipped"], facts={"Data": "a\tb"}).data
    assert shown["remarks"][-1] == "2 skipped"
    assert shown["facts"]["Data"] == "a\tb" and list(shown["facts"])[:2] == ["Method", "Version"]


def test_labels_for_screen_readers_and_a_phone(few, visit):
    X, y = few
    tab = visit(Flagging(12).fit(X, y), X, y)
    unnamed = tab.evaluate(
        """() => [...document.querySelectorAll("button, select, input, [role=img]")]
            .filter((e) => !e.ariaLabel && !e.textContent.trim() && !(e.labels && e.labels.length))
            .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.locator(".card:visible").count() == 12
