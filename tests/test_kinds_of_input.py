"""The same values in another kind of array, list or number are the same values, everywhere."""

import inspect
import mmap
import os
import pickle
import sys
from fractions import Fraction
from numbers import Integral, Real

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from conftest import tiny as tiny_settings
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.utils._param_validation import Interval

import antibackdoor
from antibackdoor import UndefendedClassifier, make_asr_scorer, make_poisoned, write_report
from antibackdoor.attacks import ATTACKS, BadNets, LearnedAttack
from antibackdoor.benchmark import Cell
from antibackdoor.datasets import load_dataset, load_image_folder
from antibackdoor.defenses import BaseDefense
from antibackdoor.detection import BaseDetector
from antibackdoor.inspection import TriggerDisplay
from antibackdoor.training import Samples, TrainingEstimator
from antibackdoor.utils import LazyRows, resolve_layout

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


def quick(**changes):
    return UndefendedClassifier(
        **{"epochs": 1, "backbone": "mlp", "batch_size": 16, "random_state": 0, **changes}
    )


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


# X -----------------------------------------------------------------------------------------------


KINDS_OF_X = {
    "tensor": torch.tensor,
    "tensor-view": lambda X: torch.tensor(X.transpose(0, 3, 1, 2)).permute(0, 2, 3, 1),
    "list-of-arrays": list,
    "tuple-of-arrays": tuple,
    "list-of-tensors": lambda X: [torch.tensor(row) for row in X],
    "list-of-pillow": lambda X: [Image.fromarray(row) for row in X],
    "objects": objects,
    "objects-of-pillow": lambda X: objects([Image.fromarray(row) for row in X]),
    "objects-of-tensors": lambda X: objects([torch.tensor(row) for row in X]),
    "objects-in-a-column": lambda X: objects(list(X)).reshape(-1, 1),
    "pandas-column": lambda X: pd.Series(list(X), index=range(100, 100 + len(X))),
    "pandas-column-of-pillow": lambda X: pd.Series([Image.fromarray(row) for row in X]),
    "pandas-table": lambda X: pd.DataFrame({"image": list(X)}),
}


@pytest.fixture(scope="module")
def from_array():
    return quick().fit(PIXELS, LABELS)


@pytest.mark.parametrize("kind", KINDS_OF_X)
def test_images_of_any_kind_are_the_pixels_of_the_array(kind, from_array):
    X = KINDS_OF_X[kind](PIXELS)
    fitted = quick().fit(X, LABELS)
    wanted = from_array.predict_proba(PIXELS)
    for classifier in (fitted, from_array):
        np.testing.assert_array_equal(classifier.predict_proba(X), wanted)
        np.testing.assert_array_equal(classifier.predict_proba(PIXELS), wanted)
        assert classifier.score(X, LABELS) == from_array.score(PIXELS, LABELS)
    for got, expected in zip(
        make_poisoned(X, LABELS, random_state=0),
        make_poisoned(PIXELS, LABELS, random_state=0),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected, strict=True)
    stamped = BadNets().fit(X, LABELS).transform(X)
    np.testing.assert_array_equal(stamped, BadNets().fit(PIXELS).transform(PIXELS), strict=True)
    scorer = make_asr_scorer("badnets")
    assert scorer(from_array, X, LABELS) == scorer(from_array, PIXELS, LABELS)


@pytest.mark.parametrize("kind", KINDS_OF_X)
def test_images_of_any_kind_are_split_as_the_array(kind):
    X = KINDS_OF_X[kind](PIXELS)
    for scoring in (None, make_asr_scorer("badnets")):
        scores = (
            cross_val_score(quick(), rows, LABELS, cv=2, scoring=scoring, error_score="raise")
            for rows in (X, PIXELS)
        )
        np.testing.assert_array_equal(*scores)


def test_the_page_takes_what_fit_takes(from_array, tmp_path):
    for kind, make in KINDS_OF_X.items():
        pages = [
            write_report(from_array, rows, LABELS, tmp_path / f"{kind}.html").read_bytes()
            for rows in (make(PIXELS), PIXELS)
        ]
        assert pages[0] == pages[1], kind


def test_lists_of_rows_keep_their_type():
    table = np.random.default_rng(0).random((40, 6)).astype(np.float32)
    wanted = quick(backbone="mlp").fit(table, LABELS).predict_proba(table)
    for rows in (list(table), torch.tensor(table), [torch.tensor(row) for row in table]):
        np.testing.assert_array_equal(
            quick(backbone="mlp").fit(rows, LABELS).predict_proba(rows), wanted
        )
    # Numbers of Python's have no type of their own: they are float64, as ever.
    listed = quick(backbone="mlp").fit(table.tolist(), LABELS)
    assert next(listed.module_.parameters()).dtype == torch.float64


REFUSED_X = {
    "sizes": ([*PIXELS[:39], PIXELS[0, :6]], r"sizes.*\(8, 8, 3\).*\(6, 8, 3\)"),
    "modes": ([*map(Image.fromarray, PIXELS[:39]), Image.new("L", (8, 8))], "sizes"),
    "types": ([*PIXELS[:39], PIXELS[0] / 255], "types.*uint8.*float64"),
    "one-image": (Image.fromarray(PIXELS[0]), "one image"),
    "palette": ([Image.fromarray(row).convert("P") for row in PIXELS], "mode 'P'.*row 0"),
    "other-colours": ([Image.fromarray(row).convert("CMYK") for row in PIXELS], "mode 'CMYK'"),
    "images-and-none": ([*PIXELS[:39], None], "X"),
    "images-and-numbers": (objects([*PIXELS[:39], 3]), "X"),
    "gradients": (torch.zeros(40, 8, 8, 3, requires_grad=True), "X"),
    "bfloat16": (torch.zeros(40, 8, 8, 3, dtype=torch.bfloat16), "X"),
    "sparse-tensor": (torch.zeros(40, 6).to_sparse(), "X"),
}


@pytest.mark.parametrize("kind", REFUSED_X)
def test_images_that_do_not_go_together_are_one_clear_error(kind, from_array, monkeypatch):
    X, message = REFUSED_X[kind]
    monkeypatch.setattr("antibackdoor.training._run.Training", None)  # none begins
    for refuse in (
        lambda: quick().fit(X, LABELS),
        lambda: from_array.predict(X),
        lambda: BadNets().fit(X, LABELS),
        lambda: make_poisoned(X, LABELS),
    ):
        with pytest.raises((ValueError, TypeError), match=rf"\bX\b.*{message}|{message}"):
            refuse()


# y -----------------------------------------------------------------------------------------------


NAMES = np.array(["cat", "dog", "owl", "elk"])[LABELS]

KINDS_OF_Y = {
    "objects-int": (LABELS.astype(object), LABELS),
    "objects-numpy-int": (objects(LABELS.astype(np.int8)), LABELS),
    "objects-bool": ((LABELS > 1).astype(object), LABELS > 1),
    "objects-float": (LABELS.astype(float).astype(object), LABELS.astype(float)),
    "objects-int-and-float": (objects([*LABELS[:20], *LABELS[20:].astype(float)]), LABELS * 1.0),
    "objects-str": (NAMES.astype(object), NAMES.astype(object)),
    "series-objects": (pd.Series(LABELS, dtype=object, index=range(9, 49)), LABELS),
    "Int64": (pd.Series(LABELS, dtype="Int64"), LABELS),
    "boolean": (pd.Series(LABELS > 1, dtype="boolean"), LABELS > 1),
    "category": (pd.Series(LABELS).astype("category"), LABELS),
    "category-of-str": (pd.Categorical(NAMES), NAMES.astype(object)),
    "string": (pd.Series(NAMES, dtype="string"), NAMES.astype(object)),
    "list": (LABELS.tolist(), LABELS),
    "list-of-bools": ((LABELS > 1).tolist(), LABELS > 1),
    "list-of-str": (NAMES.tolist(), NAMES),
    "tensor": (torch.tensor(LABELS), LABELS),
    "tensor-of-bools": (torch.tensor(LABELS > 1), LABELS > 1),
    "list-of-tensors": (list(torch.tensor(LABELS)), LABELS),
}


@pytest.mark.parametrize("kind", KINDS_OF_Y)
def test_labels_of_any_kind_are_those_of_the_plain_array(kind):
    y, native = KINDS_OF_Y[kind]
    target = native[0]
    ours, expected = quick().fit(PIXELS, y), quick().fit(PIXELS, native)
    np.testing.assert_array_equal(ours.classes_, expected.classes_, strict=True)
    np.testing.assert_array_equal(ours.predict(PIXELS), expected.predict(PIXELS), strict=True)
    assert ours.score(PIXELS, y) == expected.score(PIXELS, native)
    scores = (
        cross_val_score(quick(), PIXELS, labels, cv=[(np.arange(30), np.arange(30, 40))])
        for labels in (y, native)
    )
    np.testing.assert_array_equal(*scores)
    for got, wanted in zip(
        make_poisoned(PIXELS, y, target_label=target, random_state=0),
        make_poisoned(PIXELS, native, target_label=target, random_state=0),
        strict=True,
    ):
        np.testing.assert_array_equal(got, wanted, strict=True)
    attack = BadNets(target_label=target).fit(PIXELS, y)
    np.testing.assert_array_equal(attack.classes_, expected.classes_, strict=True)
    np.testing.assert_array_equal(attack.eligible(y), native != target)
    scorer = make_asr_scorer("badnets", target_label=target)
    assert scorer(ours, PIXELS, y) == scorer(expected, PIXELS, native)


MISSING = {
    "objects-none": objects([None, *LABELS[1:]]),
    "objects-nan": objects([np.nan, *LABELS[1:]]),
    "str-none": objects([None, *NAMES[1:]]),
    "str-nan": objects([np.nan, *NAMES[1:]]),
    "bool-none": objects([None, *(LABELS[1:] > 1)]),
    "list-none": [None, *LABELS[1:].tolist()],
    "list-str-nan": [np.nan, *NAMES[1:].tolist()],
    "list-nan": [np.nan, *LABELS[1:].tolist()],
    "nan": np.where(np.arange(40) == 0, np.nan, LABELS),
    "tensor-nan": torch.tensor([np.nan, *LABELS[1:]]),
    "Int64": pd.Series([None, *LABELS[1:]], dtype="Int64"),
    "boolean": pd.Series([None, *(LABELS[1:] > 1)], dtype="boolean"),
    "string": pd.Series([None, *NAMES[1:]], dtype="string"),
    "str": pd.Series([None, *NAMES[1:]]),
    "category": pd.Series([None, *NAMES[1:]]).astype("category"),
    "category-int": pd.Series([None, *LABELS[1:]]).astype("category"),
    "mixed": objects([True, *LABELS[1:]]),
    "mixed-text": [0, *NAMES[1:].tolist()],
    "huge": objects([10**30, *LABELS[1:]]),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_label_is_an_error(kind, monkeypatch):
    y = MISSING[kind]
    monkeypatch.setattr("antibackdoor.training._run.Training", None)  # none begins
    for refuse in (lambda: quick().fit(PIXELS, y), lambda: make_poisoned(PIXELS, y)):
        with pytest.raises(ValueError, match=r"\by\b"):
            refuse()


# Numbers -----------------------------------------------------------------------------------------


CLASSES = [
    *(
        member
        for _, member in inspect.getmembers(antibackdoor, inspect.isclass)
        if issubclass(member, TrainingEstimator) and not inspect.isabstract(member)
    ),
    *ATTACKS.values(),
]

#: Of each parameter the constraint that asks for a number, where one does.
NUMBERS = {
    (cls, name): constraint
    for cls in CLASSES
    for name, constraints in cls._parameter_constraints.items()
    for constraint in constraints
    if isinstance(constraint, Interval)
}

SHORT = {
    "epochs": 1,
    "steps": 1,
    "n_surrogates": 1,
    "batch_size": 16,
    "n_messages": 2,
    "self_supervised_batch_size": 16,
}


def tiny(cls):
    made = cls(random_state=0) if "random_state" in cls._parameter_constraints else cls()
    epochs = {name: 1 for name in made.get_params() if name.endswith("epochs")}
    short = {name: value for name, value in SHORT.items() if name in made.get_params()}
    return made.set_params(
        **{**(tiny_settings(cls.__name__) if cls.__name__ in TINY else {}), **epochs, **short}
    )


def outcome(estimator, X, y):
    """All numbers that come of an estimator: predictions, or stamped rows."""
    if isinstance(estimator, BaseDetector):
        return [estimator.fit(X, y).isolate_scores_]
    if isinstance(estimator, BaseDefense):
        masks = "clean_mask" in inspect.signature(type(estimator).fit).parameters
        fitted = estimator.fit(X, y, **({"clean_mask": np.ones(len(y), bool)} if masks else {}))
        return [fitted.predict_proba(X), fitted.isolate_scores_]
    fitted = estimator.fit(X, y)
    stamped = [fitted.transform(X), fitted.transform_training(X, y, random_state=0)]
    if fitted.cover_ratio:
        stamped.append(fitted.transform_cover(X, y, random_state=0))
    return stamped


@pytest.mark.parametrize(
    "cls", dict.fromkeys(cls for cls, _ in NUMBERS), ids=lambda cls: cls.__name__
)
def test_numbers_of_any_kind_are_numbers(cls):
    """All parameters at once, each in the smallest type of numpy's that holds it."""
    X, y = (PIXELS[..., 0] if issubclass(cls, TrainingEstimator) else PIXELS), LABELS
    if issubclass(cls, BaseDetector):  # enough to be searched
        X, y = np.tile(X, (4, 1, 1)), np.tile(y, 4)
    estimator = tiny(cls)
    wanted = outcome(estimator, X, y)
    given = estimator.get_params()
    names = {name for owner, name in NUMBERS if owner is cls}
    numbers = {name: value for name in names if isinstance(value := given[name], int | float)}
    assert numbers
    for whole, real in (
        (np.int64, np.float64),
        (np.uint8, lambda value: value if float(np.float32(value)) != value else np.float32(value)),
        (np.int32, Fraction),
    ):
        changed = {
            name: whole(value) if isinstance(value, int) else real(value)
            for name, value in numbers.items()
        }
        again = tiny(cls).set_params(**changed)
        for got, expected in zip(outcome(again, X, y), wanted, strict=True):
            np.testing.assert_array_equal(got, expected, strict=True)
        # What was given stays: scikit-learn's clones compare it.
        assert all(again.get_params()[name] is value for name, value in changed.items())


def test_integers_of_one_byte_do_not_wrap():
    X, y = np.tile(PIXELS[:, :6, :6], (8, 1, 1, 1)), np.tile(LABELS, 8)
    small, plain = (
        quick(epochs=number(3), batch_size=number(100), lr_schedule=(number(1), number(2)))
        .fit(X, y)
        .predict_proba(X)
        for number in (np.uint8, int)
    )
    np.testing.assert_array_equal(small, plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"lr_schedule": np.array([1, 2])},
        {"lr_schedule": (np.uint8(1), np.int64(2))},
        {"image_shape": np.array([8, 8, 3])},
        {"image_shape": (np.uint8(8), np.int32(8), np.int64(3))},
        {"random_state": np.uint8(0)},
        {"backbone": np.str_("mlp")},
        {"compile": np.False_},
    ],
    ids=str,
)
def test_sequences_and_words_of_numpy_are_pythons(changes):
    def listed(value):
        return tuple(value.tolist()) if isinstance(value, np.ndarray) else value

    X = PIXELS.reshape(40, -1) if "image_shape" in changes else PIXELS
    ours = quick(epochs=3, **changes).fit(X, LABELS)
    plain = {name: listed(value) for name, value in changes.items()}
    np.testing.assert_array_equal(
        ours.predict_proba(X), quick(epochs=3, **plain).fit(X, LABELS).predict_proba(X)
    )
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.predict_proba(X), ours.predict_proba(X))


def test_what_is_kept_knows_a_number_by_its_value(tmp_path):
    settings = {"cache_dir": tmp_path / "here", "epochs": 2}
    first = quick(**settings).fit(PIXELS, LABELS)
    again = quick(**{**settings, "epochs": np.int64(2), "momentum": np.float64(0.9)})
    np.testing.assert_array_equal(
        again.fit(PIXELS, LABELS).predict_proba(PIXELS), first.predict_proba(PIXELS)
    )


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_], ids=repr)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_bool_is_no_number(cls, value):
    names = [name for owner, name in NUMBERS if owner is cls]
    names += ["random_state"] * ("random_state" in cls._parameter_constraints)
    for name in names:
        estimator = cls(**{name: value})
        before = dict(vars(estimator))
        with pytest.raises(ValueError, match=rf"\b{name}=(np\.)?{bool(value)}.*wanted"):
            estimator.fit(PIXELS, LABELS)
        assert vars(estimator) == before


def test_where_a_bool_is_wanted_it_is_taken():
    kinds = [
        (owner, name)
        for owner in CLASSES
        for name, constraints in owner._parameter_constraints.items()
        if "boolean" in [wanted for wanted in constraints if isinstance(wanted, str)]
    ]
    assert len(kinds) >= 10
    for owner, name in kinds:
        for value in (True, np.False_):
            owner(**{name: value})._validate_params()
    BadNets(target_label=True)._validate_params()


class Rows(LazyRows):
    def decode(self, numbers):
        return PIXELS[numbers]


@pytest.mark.parametrize("value", [True, np.True_], ids=repr)
@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda value: make_poisoned(PIXELS, LABELS, poison_rate=value), "poison_rate"),
        (lambda value: BadNets(value_range=(False, value)).fit(PIXELS / 255), "value_range"),
        (
            lambda value: BadNets(image_shape=(value, 192)).fit(PIXELS.reshape(40, -1)),
            "image_shape",
        ),
        (lambda value: quick(lr_schedule=(value, 3)).fit(PIXELS, LABELS), "lr_schedule"),
        (lambda value: Rows(PIXELS.shape, n_jobs=value), "n_jobs"),
        (lambda value: Rows((value, 8, 8, 3)), "shape"),
        (lambda value: load_image_folder("nowhere", size=value), "size"),
        (lambda value: load_dataset("gtsrb", image_size=value), "image_size"),
        (
            lambda value: TriggerDisplay.from_predictions(PIXELS, PIXELS, n_images=value),
            "n_images",
        ),
        (lambda value: Cell("digits", "badnets", value, "undefended"), "poison_rate"),
        (lambda value: Cell("digits", "badnets", 0.1, "undefended", schedule=value), "schedule"),
    ],
)
def test_a_bool_is_no_number_in_a_function(call, argument, value):
    with pytest.raises((ValueError, TypeError), match=rf"\b{argument}\b"):
        call(value)


def test_numbers_of_any_kind_in_functions(tmp_path):
    for rate in (np.float32(0.25), np.float64(0.25), Fraction(1, 4)):
        for got, expected in zip(
            make_poisoned(PIXELS, LABELS, poison_rate=rate, random_state=np.int64(0)),
            make_poisoned(PIXELS, LABELS, poison_rate=0.25, random_state=0),
            strict=True,
        ):
            np.testing.assert_array_equal(got, expected)
    lazy = Rows(PIXELS.shape, n_jobs=np.int64(1))
    assert type(lazy.n_jobs) is int
    plain = Cell("digits", "badnets", 0.25, "undefended", seed=3)
    assert (
        Cell("digits", "badnets", np.float32(0.25), "undefended", seed=np.int64(3)).key == plain.key
    )


# Mapped files that were cut short ----------------------------------------------------------------


VIEWS = {
    "itself": lambda M: M,
    "transposed": lambda M: M.transpose(0, 3, 1, 2),
    "sliced": lambda M: M[::2, 1:],
    "reversed": lambda M: M[::-1],
    "reshaped": lambda M: M.reshape(40, -1),
    "array-of-it": np.asarray,
    "view-of-a-view": lambda M: np.asarray(M[:, :, ::-1])[::-1].swapaxes(1, 2)[5:],
    "of-a-memoryview": lambda M: np.asarray(memoryview(M)),
    "list-of-rows": list,
    "objects-of-rows": objects,
    "table": lambda M: pd.DataFrame(M.reshape(40, -1), copy=False),
    "other-type": lambda M: M.view(np.int8),
    "strides": lambda M: np.lib.stride_tricks.as_strided(M, writeable=False),
}


def cut_in(path, mode, size=5000):
    """A mapping of the pixels whose file ends before they do."""
    np.save(path, PIXELS)
    mapped = np.load(path, mmap_mode=mode)
    os.truncate(path, size)
    return mapped


needs_cuts = pytest.mark.skipif(
    sys.platform == "win32", reason="a mapped file cannot be cut short there"
)


@needs_cuts
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("view", VIEWS)
def test_any_view_of_a_file_cut_short_is_an_error(view, mode, from_array, tmp_path):
    X = VIEWS[view](cut_in(tmp_path / "X.npy", mode))
    y = LABELS[: len(X)]
    for refuse in (
        lambda: quick().fit(X, y),
        lambda: from_array.predict(X),
        lambda: BadNets().fit(X, y),
        lambda: BadNets().fit(PIXELS).transform(X),
        lambda: make_poisoned(X, y),
        lambda: make_asr_scorer("badnets")(from_array, X, y),
    ):
        with pytest.raises(ValueError, match=r"X.*cut short.* 5,000 bytes"):
            refuse()


@needs_cuts
@pytest.mark.parametrize("by", ["frombuffer", "ndarray", "memoryview"])
def test_a_file_that_others_mapped_and_was_cut_short_is_an_error(by, tmp_path):
    # From the second page on, as none of the numbers of the first is to be read.
    (tmp_path / "X").write_bytes(bytes(mmap.ALLOCATIONGRANULARITY) + PIXELS.tobytes())
    with (tmp_path / "X").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), PIXELS.nbytes, offset=mmap.ALLOCATIONGRANULARITY)
    X = {
        "frombuffer": lambda: np.frombuffer(mapped, np.uint8).reshape(PIXELS.shape),
        "ndarray": lambda: np.ndarray(PIXELS.shape, np.uint8, mapped),
        "memoryview": lambda: np.asarray(memoryview(mapped)).reshape(PIXELS.shape),
    }[by]()
    quick().fit(X, LABELS)
    os.truncate(tmp_path / "X", PIXELS.nbytes)  # as long as the mapping, but not as X reaches
    for refuse in (lambda: quick().fit(X, LABELS), lambda: make_poisoned(X, LABELS)):
        with pytest.raises(ValueError, match=r"X is mapped from a file.*cut short"):
            refuse()


@needs_cuts
def test_what_is_left_of_a_file_cut_short_is_read(tmp_path):
    mapped = cut_in(tmp_path / "X.npy", "r", size=128 + PIXELS[:20].nbytes)
    quick().fit(mapped[:20].transpose(0, 3, 1, 2), LABELS[:20]).predict(mapped[:20].swapaxes(1, 3))


@needs_cuts
def test_the_file_that_is_mapped_counts_and_not_its_name(tmp_path):
    np.save(tmp_path / "X.npy", PIXELS)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    (tmp_path / "X.npy").rename(tmp_path / "elsewhere.npy")
    np.save(tmp_path / "X.npy", PIXELS)
    os.truncate(tmp_path / "elsewhere.npy", 5000)
    with pytest.raises(ValueError, match=r"cut short"):
        quick().fit(mapped, LABELS)


@needs_cuts
def test_labels_and_masks_are_mapped_too(tmp_path):
    np.save(tmp_path / "y.npy", np.tile(LABELS, 1000))
    np.save(tmp_path / "mask.npy", np.ones(40000, bool))
    y, mask = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("y", "mask"))
    X = np.zeros((40000, 1))
    for name in ("y", "mask"):
        os.truncate(tmp_path / f"{name}.npy", 200)
    with pytest.raises(ValueError, match="y is mapped from .*cut short"):
        quick().fit(X, y)
    with pytest.raises(ValueError, match="clean_mask is mapped from .*cut short"):
        antibackdoor.NADClassifier().fit(X, np.arange(40000) % 2, clean_mask=mask)


@needs_cuts
@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_view_whose_file_is_cut_short_in_mid_fit_is_an_error(mode, tmp_path):
    np.save(tmp_path / "X.npy", PIXELS)
    X = np.load(tmp_path / "X.npy", mmap_mode=mode).transpose(0, 3, 1, 2)
    samples = Samples(
        X, resolve_layout(X.shape[1:]), torch.device("cpu"), torch.float32, resident=False
    )
    samples.stored(torch.arange(40))
    os.truncate(tmp_path / "X.npy", 5000)
    with pytest.raises(ValueError, match="cut short"):
        samples.stored(torch.arange(40))


def test_learned_attacks_are_among_those_tried():
    assert sum(issubclass(cls, LearnedAttack) for cls in CLASSES) >= 5
    assert {Integral, Real} == {constraint.type for constraint in NUMBERS.values()}
