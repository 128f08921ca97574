"""Images of too few classes cannot be searched: nothing is flagged, and it is said plainly."""

import warnings
from itertools import combinations

import numpy as np
import pytest

from antibackdoor import ABLClassifier, CBDClassifier, LossRank, PoisonSearch, Retrain, write_report
from antibackdoor.cli import main
from antibackdoor.cli._verdict import tell_verdict
from antibackdoor.inspection import describe_verdict

SAYS = "has not searched for poison, and flags nothing: y has {} classes of 20 rows or more"


def quick(cls, **changes):
    settings = {"epochs": 1, "backbone": "mlp", "random_state": 0}
    if cls is not PoisonSearch:
        settings["detector"] = PoisonSearch(epochs=1)
    return cls(**{**settings, **changes})


def nothing_searched(clf):
    """Tell whether no network of a search was trained."""
    return not {"search", "probe"} & {row["phase"] for row in clf.history_}


def of_classes(digits, labels, n_rows=30):
    """The first rows of some classes."""
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == label)[:n_rows] for label in labels])
    return X[rows], y[rows]


def assert_nothing_flagged(clf):
    assert len(clf.isolate_) == len(clf.isolate_classes_) == 0
    assert not clf.isolate_mask_.any()
    assert np.isnan(clf.isolate_pvalue_)
    assert clf.isolate_signs_ == {}
    assert "probe" not in {row["phase"] for row in clf.history_}


@pytest.mark.parametrize("cls", [PoisonSearch, ABLClassifier, CBDClassifier])
def test_no_pair_of_digits_is_flagged(cls, digits):
    """At the default schedule 8 of 12 fits were flagged before. Of all 45, whole.

    A classifier trains its network besides, whatever the pair: six of them tell.
    """
    of_all = cls is PoisonSearch
    for pair in combinations(range(10) if of_all else (1, 3, 7, 8), 2):
        with pytest.warns(UserWarning, match=SAYS.format(2)):
            clf = quick(cls).fit(*of_classes(digits, pair))
        assert_nothing_flagged(clf)
        assert nothing_searched(clf)


@pytest.mark.parametrize("cls", [ABLClassifier, CBDClassifier])
def test_a_pair_that_a_trained_network_tells_well_is_not_flagged(cls, digits):
    X, y = of_classes(digits, (3, 8), n_rows=200)
    with pytest.warns(UserWarning, match=SAYS.format(2)):
        assert_nothing_flagged(quick(cls, detector=PoisonSearch(epochs=8)).fit(X, y))


@pytest.mark.parametrize(
    ("sizes", "n_large"),
    [((30, 30, 30), 3), ((30, 30, 30, 19), 3), ((30, 30, 30, 5, 5, 5), 3), ((10,) * 10, 0)],
)
def test_classes_of_few_rows_do_not_count(sizes, n_large, digits):
    parts = [of_classes(digits, [label], n_rows) for label, n_rows in enumerate(sizes)]
    X, y = (np.concatenate(values) for values in zip(*parts, strict=True))
    with pytest.warns(UserWarning, match=SAYS.format(n_large)):
        assert_nothing_flagged(quick(ABLClassifier).fit(X, y))


def test_four_classes_are_searched_and_the_rest_is_said_to_be_untested(digits):
    parts = [of_classes(digits, [label], n_rows) for label, n_rows in enumerate((30,) * 4 + (6, 6))]
    X, y = (np.concatenate(values) for values in zip(*parts, strict=True))
    clf = quick(ABLClassifier).fit(X, y)
    assert 0 <= clf.isolate_pvalue_ <= 1
    n_untested = int(np.isnan(clf.isolate_signs_["transplant"]).sum())
    assert n_untested >= 2
    assert f"Not tested: {n_untested} of 6 classes" in describe_verdict(clf, y)["caveats"][0]


def test_images_without_two_parts_say_so(digits):
    X, y = of_classes(digits, range(5))
    with pytest.warns(UserWarning, match="no class of this data has two parts"):
        clf = quick(ABLClassifier).fit(np.full_like(X, 7), y)
    assert_nothing_flagged(clf)
    assert "needs images" not in describe_verdict(clf, y)["assurance"]


def test_a_list_that_was_cleared_blames_no_classes(digits):
    X, y = of_classes(digits, range(5))
    clf = quick(ABLClassifier).fit(X, y, suspects=np.zeros(len(y), dtype=bool))
    told = describe_verdict(clf, y)["assurance"]
    assert told == "The data was not searched, so it may hold poison."


def test_a_table_is_said_to_be_no_images(digits):
    X, y = of_classes(digits, range(5))
    X = X.reshape(len(X), -1) / 16
    with pytest.warns(UserWarning, match="X is a table"):
        search = PoisonSearch(epochs=1).fit(X, y)
    assert "needs images" in describe_verdict(search, y)["assurance"]


def test_another_rule_needs_no_classes(digits):
    X, y = of_classes(digits, (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fixed = quick(ABLClassifier, detector=LossRank(ratio=0.1, epochs=1), cure=Retrain())
        assert len(fixed.fit(X, y).isolate_) > 0
        quick(CBDClassifier, detector=LossRank(ratio=None, epochs=1)).fit(X, y)
        quick(ABLClassifier, detector=None).fit(X.reshape(len(X), -1) / 16, y)  # a table


def test_what_the_store_recalls_is_said_again(digits, tmp_path):
    X, y = of_classes(digits, (0, 1))
    for _ in range(2):
        with pytest.warns(UserWarning, match=SAYS.format(2)):
            quick(ABLClassifier, cache_dir=tmp_path).fit(X, y)


def test_page_and_command_line_say_that_nothing_was_searched(digits, tmp_path):
    X, y = of_classes(digits, (0, 1))
    with pytest.warns(UserWarning, match=SAYS.format(2)):
        clf = quick(ABLClassifier).fit(X, y)
    page = write_report(clf, X, y, tmp_path / "page.html").read_text()
    said = "\n".join(tell_verdict(clf, y))
    for text in (page, said):
        assert "Not searched for poison: nothing is flagged in 60 rows." in text
        assert "the search needs images of 4 classes or more" in text
        assert "LossRank(ratio=0.05)" in text
    assert "No sign of poison" not in page + said
    assert "false alarm" not in page + said


@pytest.mark.filterwarnings("default:.*has not searched for poison:UserWarning")
def test_a_scan_of_two_classes_says_so_once(digits, tmp_path, capsys):
    np.savez(tmp_path / "two.npz", X=(data := of_classes(digits, (0, 1)))[0], y=data[1])
    words = ["--epochs-scale", "0.05", "--backbone", "mlp"]
    code = main(["scan", str(tmp_path / "two.npz"), "--out", str(tmp_path / "out"), *words])
    said = capsys.readouterr()
    assert code == 0
    assert said.err.count("warning: PoisonSearch has not searched for poison") == 1
    assert "Not searched for poison: nothing is flagged in 60 rows." in said.out
