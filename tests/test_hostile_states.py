"""What a file may say of a model, and how much memory that takes, whatever kind of file it is.

States are dictionaries of plain values and arrays; `to_file` of benchmarks/_hostile_files.py, which
writes them, is all that knows of the container.
"""

from __future__ import annotations

import importlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from antibackdoor import load_model
from antibackdoor.attacks import LearnedAttack, OneToOne
from antibackdoor.datasets import load_arrays, load_dataset
from antibackdoor.persistence import _build
from antibackdoor.persistence._types import MODELS
from antibackdoor.training._sealed import seal

MIB = 2**20


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a child")

#: Without a network, with one, with several, and with generators; detectors.
KINDS = ["UndefendedClassifier", "FinePruningClassifier", "BadNets", "Blend", "WaNet", "Composite"]
KINDS += ["AdaptivePoison", "SampleSpecific", "FeatureCollision", "Trojan", "DBDClassifier", "DFST"]
KINDS += ["PoisonSearch", "ActivationClustering"]


@pytest.fixture(scope="module")
def fuzz():
    if sys.platform == "win32":
        pytest.skip("forks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module("fuzz_files")


@pytest.fixture(scope="module")
def hostile(fuzz):
    return sys.modules["_hostile_files"]


@pytest.fixture(scope="module")
def states(fuzz, tmp_path_factory):
    """The states of some models, by the name of the class."""
    kinds = [kind for kind in MODELS.values() if kind.__name__ in KINDS]
    states = {kind.__name__: (kind, state) for kind, state in fuzz.good_states(kinds)}
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    for kind, state in states.values():  # what is imported at the first use counts for nobody
        path.write_bytes(fuzz.to_file(kind, state))
        fuzz.load_and_use(path)
    return states


@pytest.fixture
def build(states):
    """Function that builds a model of a good state with changes to it."""

    def build(name, /, max_bytes=2**32, without=(), **changes):
        kind, state = states[name]
        changed = {**state, **changes}
        for attribute in without:
            del changed[attribute]
        return _build.build_model(kind, changed, None, max_bytes)

    return build


# --- which attributes there are


@pytest.mark.parametrize("name", KINDS)
def test_what_a_fit_leaves_is_what_a_file_may_hold(name, states, build):
    build(name)
    kind, state = states[name]
    kept = set(state) - set(kind._get_param_names())
    for attribute in kept - {"classes_"} if not issubclass(kind, LearnedAttack) else kept:
        with pytest.raises(ValueError, match=attribute):
            build(name, without=[attribute])
    for attribute in ("extra_", "_extra", "module", "n_iter_"):
        with pytest.raises(ValueError, match=f"{attribute!r}, which no fitted {name} has"):
            build(name, **{attribute: 1})


@pytest.mark.parametrize("kind", MODELS.values(), ids=lambda kind: kind.__name__)
def test_every_class_lists_what_it_says_that_it_keeps(kind):
    """A new attribute that is annotated and not listed could not be loaded, or not be checked."""
    shared = {"classes_", "history_", "input_shape_", "layout_", "module_", "n_features_in_"}
    shared |= {"value_range_", "isolate_", "isolate_classes_", "isolate_mask_"}
    shared |= {"isolate_scores_", "isolate_threshold_", "isolate_pvalue_", "isolate_signs_"}
    noted = {name for part in kind.__mro__ for name in vars(part).get("__annotations__", {})}
    noted = {name for name in noted if name.endswith("_") and not name.startswith("_")}
    listed = {*kind._fitted_constraints, *getattr(kind, "_modules", ())}
    assert noted - shared <= listed


# --- values that become an index, a place, a shape or a size


def spoiled(array, value):
    array = np.array(array)
    array.reshape(-1)[-1] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-9, 7.0001, 8, 400, 1e7, -1e300])
@pytest.mark.parametrize("axis", [0, 1])
def test_points_outside_of_the_image(value, axis, states, build):
    grid = np.array(states["WaNet"][1]["grid_"])
    grid[axis, 3, 4] = value
    with pytest.raises(ValueError, match="its grid_ holds"):
        build("WaNet", grid_=grid)
    # A pickle and an attribute that is set are not looked at by anyone before.
    attack = build("WaNet")
    attack.grid_ = grid
    row = np.full((1, 8, 8), attack.value_range_[0]).astype(attack._fit_dtype)
    for use in (attack.transform, lambda X: attack.transform_cover(X, random_state=0)):
        with pytest.raises(ValueError, match="^grid_ holds"):
            use(row)


def test_the_edges_of_the_image_are_points_of_it(build):
    build("WaNet", grid_=np.full((2, 8, 8), 7.0))
    build("WaNet", grid_=np.zeros((2, 8, 8)))


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("FinePruningClassifier", "pruned_", np.array([64])),
        ("FinePruningClassifier", "pruned_", np.array([-1])),
        ("FinePruningClassifier", "pruned_", np.array([0.5])),
        ("FinePruningClassifier", "pruned_", np.arange(64)),
        ("SampleSpecific", "message_", 4),
        ("SampleSpecific", "message_", -1),
        ("SampleSpecific", "message_", True),
        ("SampleSpecific", "recovered_", np.nan),
        ("Trojan", "neuron_", -1),
        ("Trojan", "neuron_", 1.0),
        ("Trojan", "activations_", (1.0,)),
        ("Trojan", "pattern_", np.zeros((1, 9, 2))),
        ("Trojan", "pattern_", np.zeros((3, 2, 2))),
        ("BadNets", "pattern_", np.zeros((9, 3))),
        ("BadNets", "pattern_", np.zeros((0, 3))),
        ("BadNets", "pattern_", np.full((3, 3), 1e9)),
        ("BadNets", "pattern_", np.zeros((3, 3), dtype="f4")),
        ("Blend", "pattern_", np.zeros((8, 9))),
        ("Blend", "pattern_", np.full((8, 8), np.inf)),
        ("Composite", "donors_", np.zeros((0, 8, 8))),
        ("Composite", "donors_", np.zeros((65, 8, 8))),
        ("Composite", "donors_", np.zeros((2, 8, 7))),
        ("AdaptivePoison", "pattern_", np.zeros((3, 3))),
        ("AdaptivePoison", "_fitted_n_surrogates", -1),
        ("AdaptivePoison", "_fitted_n_surrogates", 10**9),
        ("AdaptivePoison", "_fitted_n_surrogates", 3),
        ("FeatureCollision", "sources_", np.zeros((3, 63), dtype="f4")),
        ("FeatureCollision", "sources_", np.zeros((257, 64), dtype="f4")),
        ("FeatureCollision", "classes_", np.arange(4)),
        ("DFST", "style_", np.zeros((2, 2))),
        ("DFST", "style_", np.full((1, 2), 256.0)),
        ("DBDClassifier", "credible_mask_", np.ones(23, bool)),
        ("DBDClassifier", "credible_mask_", np.ones(24)),
        ("UndefendedClassifier", "classes_", np.array(["", "a", None], dtype=object)),
        ("UndefendedClassifier", "classes_", np.arange(4)),
        ("UndefendedClassifier", "input_shape_", (8, 8.0)),
        ("UndefendedClassifier", "input_shape_", (8, True)),
        ("UndefendedClassifier", "input_shape_", (8, 2**62)),
        ("UndefendedClassifier", "isolate_threshold_", 10**400),
        ("UndefendedClassifier", "feature_names_in_", np.arange(8)),
        ("UndefendedClassifier", "history_", [{"phase": "train", "epoch": -1}]),
        ("UndefendedClassifier", "history_", [{"phase": "a" * 10**4}]),
        ("WaNet", "_fit_dtype", "float128x"),
        ("WaNet", "value_range_", (0.0, 10**400)),
        ("WaNet", "label_map", OneToOne([1])),
        ("WaNet", "grid_", np.zeros((2, 8, 8), dtype="i8")),
    ],
    ids=lambda value: str(value)[:20].replace("\n", " "),
)
def test_values_that_no_fit_leaves(name, attribute, value, build):
    with pytest.raises(ValueError):
        build(name, **{attribute: value})


@pytest.mark.parametrize("part", ["mean", "scale"])
def test_a_mean_that_would_be_broadcast(part, states, build):
    weights = dict(states["UndefendedClassifier"][1]["module_weights"])
    weights[f"standardise.{part}"] = np.ones(10**5, dtype="f4")
    with pytest.raises(ValueError, match=rf"standardise.{part} has shape \(100000,\)"):
        build("UndefendedClassifier", module_weights=weights)


def test_a_label_map_with_fields_of_its_own(build):
    odd = OneToOne(1)
    vars(odd)["accepts"] = 3
    with pytest.raises(ValueError, match=r"label_map has the fields .*accepts"):
        build("BadNets", label_map=odd)


# --- memory, measured


@pytest.fixture
def outcome(fuzz, tmp_path):
    """Function that loads bytes with max_bytes and a quarter, and says what came of it."""

    def outcome(content, max_bytes, suffix=".safetensors", load=load_model):
        path = tmp_path / f"hostile{suffix}"
        path.write_bytes(content)
        return fuzz.in_child(path, lambda p: load(p, max_bytes=max_bytes), max_bytes * 5 // 4)

    return outcome


@needs_linux
@pytest.mark.parametrize("name", ["UndefendedClassifier", "Blend", "WaNet", "SampleSpecific"])
def test_a_large_image_is_refused_or_fits_into_what_is_allowed(name, states, hostile, outcome):
    kind, state = states[name]
    content = hostile.to_file(kind, hostile.claim_size(state, 300, 200))
    said = [outcome(content, n * MIB) for n in (16, 64, 1024)]
    assert "more than max_bytes" in said[0] or said[0] == "used"
    assert all(word == "used" or "more than max_bytes" in word for word in said)
    assert said[-1] == "used"


@needs_linux
@pytest.mark.parametrize("side", [2048, 6000])
@pytest.mark.parametrize("name", ["UndefendedClassifier", "SampleSpecific"])
def test_feature_maps_of_a_claimed_shape(name, side, states, hostile, outcome):
    kind, state = states[name]
    claimed = hostile.claim_size(state, side, side)
    assert "more than max_bytes" in outcome(hostile.to_file(kind, claimed), 64 * MIB)


@needs_linux
@pytest.mark.parametrize("name", ["UndefendedClassifier", "SampleSpecific", "DFST"])
def test_a_row_goes_through_the_network_in_what_is_allowed(name, states, hostile, fuzz, tmp_path):
    """A fuzz run found one that loaded, and had no memory left for the row itself."""
    kind, state = states[name]
    path = tmp_path / "wide.safetensors"
    for width in (30_000, 68_071):
        path.write_bytes(hostile.to_file(kind, hostile.claim_size(state, 3, width)))
        said = fuzz.in_child(path, fuzz.load_and_use)
        assert said == "used" or "more than max_bytes" in said


def _header(descr, shape):
    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": descr, "fortran_order": False, "shape": shape})
    return head.getvalue()


@needs_linux
def test_a_long_array_of_labels(states, fuzz, outcome):
    kind, state = states["Blend"]
    labels = np.arange(10**6).astype("S7")
    content = fuzz.to_file(kind, {**state, "classes_": np.sort(labels)})
    assert "more than max_bytes" in outcome(content, 16 * MIB)


@needs_linux
@pytest.mark.parametrize("text", ["[],", "{},", "0.5,", '"",', '\\"\\",', "[[[]]],"])
def test_a_head_of_many_values(text, outcome):
    for before, after in ((b'{"a":[', b"0]}"), (b'{"__metadata__":{"content":"[', b'0]"}}')):
        head = before + text.encode() * 100_000 + after
        content = len(head).to_bytes(8, "little") + head
        assert "more than max_bytes" in outcome(content, 2 * len(content))
        said = outcome(content, 80 * len(content))
        assert "does not begin" in said or "save_model did not write" in said


@needs_linux
def test_a_state_of_many_values(states, outcome):
    """What is counted for a text is more than its values take, whatever they are."""
    for value in ("[]", "0.5", '{"list": []}', '{"dict": []}', '{"float": "nan"}', '["a"]'):
        text = '{"dict": [["extra_", [' + ", ".join([value] * 70_000) + "]]]}"
        told = {"format": "2", "antibackdoor": "0", "model": "Blend"}
        content = seal(text, {}, told)
        assert "its Blend lacks" in outcome(content, 70 * len(content))


@needs_linux
def test_a_tree_of_many_nodes(states, fuzz, outcome):
    kind, state = states["Blend"]
    content = fuzz.to_file(kind, {**state, "pattern": [[0.5] * 10] * 10_000})
    assert "more than max_bytes" in outcome(content, MIB)


@needs_linux
def test_a_file_is_not_read_by_the_size_that_is_allowed(states, fuzz, tmp_path):
    path = tmp_path / "good.safetensors"
    path.write_bytes(fuzz.to_file(*states["Blend"]))
    assert fuzz.in_child(path, load_model, 64 * MIB) == "used"


@needs_linux
def test_a_quick_fuzz(states, fuzz):
    """A part of benchmarks/fuzz_files.py, which has ten thousand of all classes."""
    said = []
    fuzz.fuzz(list(states.values()), range(60), 5, lambda *row: said.append(row))
    assert [row for row in said if "OFFENCE" in row[2]] == []
    assert len({row[2][:60] for row in said}) > 20


# --- data sets


@needs_linux
@pytest.mark.parametrize("load", [load_arrays, lambda path, max_bytes: load_dataset(path)])
def test_a_small_file_that_unpacks_to_much(load, fuzz, outcome, tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, descr, shape in (("X", "|u1", (2**28, 8, 8)), ("y", "|u1", (2**28,))):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(_header(descr, shape))
                # As much as is needed to be believed by who reads the beginning alone.
                member.write(bytes(2**20))
    content = path.read_bytes()
    assert "claims the shape" in outcome(content, 16 * MIB, ".npz", load)


@needs_linux
def test_an_archive_that_unpacks_to_more_than_is_allowed(outcome, tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, X=np.zeros((2**19, 8, 8), "u1"), y=np.arange(2**19) % 2)
    assert "more than max_bytes" in outcome(path.read_bytes(), 16 * MIB, ".npz", load_arrays)
    # Without compression a file is as long as what it holds, and is read.
    np.savez(path, X=np.zeros((2**19, 8, 8), "u1"), y=np.arange(2**19) % 2)
    assert load_arrays(path, max_bytes=MIB)["X"].shape == (2**19, 8, 8)


@pytest.mark.parametrize(
    ("descr", "shape", "n_bytes", "message"),
    [
        ("|S0", (10**10,), 0, "no width"),
        ("<U0", (10**10,), 0, "no width"),
        ("<f8", (-1, 8), 0, "claims the shape"),
        ("<f8", (2**40, 2**40), 16, "claims the shape"),
        ("<f8", (4, 4), 8, "claims the shape"),
        ("<f8", (4, 4), 136, "claims the shape"),
        ("|O", (4,), 32, "pickle"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_arrays_that_lie(descr, shape, n_bytes, message, suffix, tmp_path):
    content = _header(descr, shape) + bytes(n_bytes)
    paths = [tmp_path / "a.npz"]
    if suffix == ".npy":
        paths = [tmp_path / "X.npy", tmp_path / "y.npy"]
        for path in paths:
            path.write_bytes(content)
    else:
        with zipfile.ZipFile(paths[0], "w") as archive:
            archive.writestr("X.npy", content)
            archive.writestr("y.npy", content)
    with pytest.raises(ValueError, match=message):
        load_arrays(*paths)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None, "x"])
def test_max_bytes_of_arrays(wrong, tmp_path):
    with pytest.raises((TypeError, ValueError), match="max_bytes"):
        load_arrays(tmp_path / "a.npz", max_bytes=wrong)
