"""What a model file can hold: values of all kinds, and detectors and cures in a parameter."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from test_persistence import LABELS, TinyNet, assert_same, images, same, tiny_net

from antibackdoor import ABLClassifier, load_model, save_model
from antibackdoor.defenses import CBDClassifier, Mixed, RelativeLoss
from antibackdoor.detection import (
    ActivationClustering,
    BaseDetector,
    LossRank,
    PoisonSearch,
    SpectralSignatures,
)
from antibackdoor.persistence._types import MODELS, PARTS, VALUES
from antibackdoor.persistence._values import make_reader, to_node
from antibackdoor.training._pack import pack, unpack
from antibackdoor.training._sealed import seal, unseal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# --- values


class Odd:
    pass


VALUES_OF_ALL_KINDS = [
    *(None, True, 0, -1, 10**30, 0.5, -0.0, math.nan, math.inf, -math.inf, "", "\ud800"),
    *((), (1, (2,)), [], [[1], (2, [3])], {}, {"a": {"b": 1}}, {0: "a", 1.5: "b", True: None}),
    *(np.float64(0.1), np.float32(np.nan), np.int8(-3), np.bool_(True)),
    *(np.str_("a"), np.bytes_(b"a"), np.longdouble(0.1)),
    *(np.zeros((0, 3), "f4"), np.array(3), np.arange(6.0).reshape(2, 3).T, np.arange(9)[::2]),
    *(np.ones(3, dtype) for dtype in ("u1", "u2", "u4", "u8", "i2", "f2", "g", ">f4", "?")),
    *(np.array(["a", "\u00e9\u4e2d"]), np.array([["a"], ["b"]]), np.array([b"a", b"bc"])),
    *(np.array(["a", "b"], dtype=object), np.array([], dtype=object)),
]


@pytest.mark.parametrize("value", VALUES_OF_ALL_KINDS, ids=repr)
def test_values_come_back_as_they_were(value):
    state = {"value": value, "again": [value]}
    text, tensors = pack(state, to_node)
    raw = seal(text, tensors, {})
    text, tensors = unseal(raw)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    found = unpack(text, arrays, make_reader(2**30, "a test"))
    assert same(found, state)
    assert getattr(found["value"], "shape", ()) == getattr(value, "shape", ())


def test_random_states_come_back():
    value = np.random.RandomState(3)
    value.standard_normal(3)
    text, tensors = pack(value, to_node)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    found = unpack(text, arrays, make_reader(2**30, "a test"))
    np.testing.assert_array_equal(found.standard_normal(5), value.standard_normal(5))


@pytest.mark.parametrize(
    "value",
    [
        *(np.zeros(2, complex), np.zeros(2, "i4,f4"), np.zeros(2, "M8[s]")),
        *(np.array([1, "a"], dtype=object), np.full((2, 2), "a", dtype=object)),
        *({1}, b"a", Odd(), Odd, len, 1j, TinyNet(), torch.float32),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_no_file_holds(value):
    with pytest.raises(TypeError):
        pack({"value": value}, to_node)


# --- detectors, cures and weightings


def test_all_that_can_stand_in_a_parameter_is_found():
    assert {"PoisonSearch", "LossRank", "Mixed", "Retrain", "RelativeLoss"} <= set(PARTS)
    assert not (set(MODELS) | set(PARTS)) & set(VALUES)
    # A detector is a model alone, and a part of a classifier.
    shared = {name: PARTS[name] for name in set(MODELS) & set(PARTS)}
    assert shared == {name: MODELS[name] for name in shared}
    assert all(issubclass(kind, BaseDetector) for kind in shared.values())
    assert all(kind.__name__ == name for name, kind in {**MODELS, **PARTS, **VALUES}.items())


@pytest.fixture(scope="module")
def cured():
    """A classifier whose list came from a person: any detector and cure can be named in it."""
    settings = {"backbone": "small-cnn", "epochs": 1, "batch_size": 20, "random_state": 0}
    return ABLClassifier(**settings).fit(images(), LABELS, suspects=np.arange(40) == 3)


@pytest.mark.parametrize("kind", PARTS.values(), ids=lambda kind: kind.__name__)
def test_every_part_comes_back(kind, cured, path):
    name = "detector" if hasattr(kind, "fit") else "cure"
    model = cured
    if kind is RelativeLoss:
        name, settings = "weighting", {"detector": LossRank(ratio=None, epochs=1)}
        model = CBDClassifier(backbone="small-cnn", epochs=1, batch_size=20, **settings)
        model.fit(images(), LABELS)
    part = kind(**({"random_state": np.random.RandomState(1)} if name == "detector" else {}))
    model = pickle.loads(pickle.dumps(model)).set_params(**{name: part})
    save_model(model, path)
    loaded = load_model(path)
    assert_same(loaded, model)
    assert type(getattr(loaded, name)) is kind
    clone(loaded)


def with_part(cured, **parameters):
    return pickle.loads(pickle.dumps(cured)).set_params(**parameters)


class MyDetector(LossRank):
    pass


def test_parts_that_are_not_written(cured, path):
    with pytest.raises(TypeError, match="ABLClassifier cannot be written: .*MyDetector"):
        save_model(with_part(cured, detector=MyDetector()), path)
    for wrong in ({"detector": LossRank(epochs=0)}, {"cure": Mixed(bound=-1)}):
        with pytest.raises(ValueError, match=r"not written.*(LossRank|Mixed)"):
            save_model(with_part(cured, **wrong), path)
    assert not path.exists()


@pytest.mark.parametrize("kind", [LossRank, PoisonSearch, SpectralSignatures, ActivationClustering])
def test_own_backbone_of_a_detector(kind, cured, path):
    model = with_part(cured, detector=kind(backbone=tiny_net))
    save_model(model, path)
    assert model.detector.backbone is tiny_net
    with pytest.raises(ValueError, match="of your own"):
        load_model(path)
    loaded = load_model(path, backbone=tiny_net)
    assert (loaded.detector.backbone, loaded.backbone) == (tiny_net, "small-cnn")
    np.testing.assert_array_equal(loaded.predict(images()), model.predict(images()))
    with pytest.raises(ValueError, match="two different networks of your own"):
        save_model(with_part(cured, detector=kind(backbone=tiny_net), backbone=TinyNet()), path)


def test_a_detector_that_is_fitted_is_written_as_a_clone(cured, path):
    detector = LossRank(backbone="small-cnn", epochs=1, ratio=0.1).fit(images(), LABELS)
    save_model(with_part(cured, detector=detector), path)
    assert not hasattr(load_model(path).detector, "isolate_")
