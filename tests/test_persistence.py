"""Models in files: what comes back, what stays out, and what is not written."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import zipfile
from importlib.metadata import version

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from torch import nn

import antibackdoor
from antibackdoor import UndefendedClassifier, load_model, save_model
from antibackdoor.attacks import (
    ATTACKS,
    DFST,
    AdaptivePoison,
    BadNets,
    Dynamic,
    LabelConsistent,
    LearnedAttack,
    OneToMany,
    Trojan,
)
from antibackdoor.backbones import BACKBONES, build_network
from antibackdoor.defenses import CBDClassifier, Mixed, RelativeLoss
from antibackdoor.detection import (
    ActivationClustering,
    BaseDetector,
    LossRank,
    PoisonSearch,
    SpectralSignatures,
)
from antibackdoor.persistence import _build
from antibackdoor.persistence._types import MODELS
from antibackdoor.persistence._values import to_node
from antibackdoor.training._pack import pack
from antibackdoor.training._sealed import seal, unseal

TRAINED_TWICE = {"epochs": 1, "finetune_epochs": 1}
LISTED = {"epochs": 1, "detector": LossRank(epochs=1, ratio=0.1)}
CLASSIFIERS = {
    "UndefendedClassifier": {"epochs": 1},
    "ABLClassifier": {**LISTED, "cure": Mixed(epochs=1, recovery_epochs=1)},
    "CBDClassifier": {**LISTED, "weighting": RelativeLoss(compare="last")},
    "DBDClassifier": {"self_supervised_epochs": 1, "head_epochs": 1, "finetune_epochs": 1},
    "FinePruningClassifier": TRAINED_TWICE,
    "NADClassifier": TRAINED_TWICE,
    "ModeConnectivityClassifier": TRAINED_TWICE,
}
DETECTORS = [PoisonSearch, LossRank, SpectralSignatures, ActivationClustering]
TOLD_CLEAN = ("FinePruningClassifier", "NADClassifier", "ModeConnectivityClassifier")

#: Of each kind of state that an attack can have, one; and every label map that is a type.
FITTED_ATTACKS = [
    BadNets(label_map=OneToMany(1, target_labels=[0, 2]), target_label=0),
    AdaptivePoison(surrogate="small-cnn", surrogate_epochs=1, steps=1, n_surrogates=2),
    Dynamic(surrogate="small-cnn", surrogate_epochs=1, generator_epochs=1),
    DFST(surrogate="small-cnn", surrogate_epochs=1, random_state=np.random.RandomState(0)),
    LabelConsistent(surrogate="small-cnn", surrogate_epochs=1, steps=1),
    Trojan(surrogate="small-cnn", surrogate_epochs=1, steps=1, device=torch.device("cpu")),
]

LABELS = np.arange(40) % 4


def images(n=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8)).astype(np.uint8)


def quick(**changes):
    settings = {"backbone": "small-cnn", "epochs": 1, "batch_size": 20, "random_state": 0}
    return UndefendedClassifier(**{**settings, **changes})


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(images(), LABELS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


class TinyNet(nn.Module):
    """A network of a user's, with a buffer that is infinite on purpose."""

    def __init__(self, n_classes=4):
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.linear = nn.Linear(64, n_classes)

    def forward(self, x):
        return self.linear(x.flatten(1))


def tiny_net(input_shape, n_classes):
    return TinyNet(n_classes)


def same(one, other):
    """Whether two attributes are equal, down to type and dtype; networks by their weights."""
    if isinstance(one, nn.Module):
        one, other = one.state_dict(), other.state_dict()
    if isinstance(one, np.random.RandomState):
        one, other = one.get_state(legacy=False), other.get_state(legacy=False)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, BaseEstimator):
        return type(one) is type(other) and same(one.get_params(), other.get_params())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=one.dtype.kind == "f"
        )
    return type(one) is type(other) and (one == other or one != one)


def assert_same(loaded, model, but=()):
    assert type(loaded) is type(model)
    assert set(vars(loaded)) == set(vars(model))
    different = [name for name in vars(model) if not same(vars(model)[name], vars(loaded)[name])]
    assert different == list(but)


# --- there and back


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_comes_back(name, path):
    X = images()
    told = {"clean_mask": np.arange(40) < 20} if name in TOLD_CLEAN else {}
    settings = {"backbone": "small-cnn", "batch_size": 20, "random_state": 0}
    classifier = getattr(antibackdoor, name)(**settings, **CLASSIFIERS[name]).fit(X, LABELS, **told)
    before = pickle.dumps(classifier)
    save_model(classifier, path)
    assert pickle.dumps(classifier) == before
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert_same(loaded, classifier)
    assert not loaded.module_.training


def test_no_classifier_or_detector_is_left_out():
    public = {name for name in antibackdoor.__all__ if name.endswith("Classifier")}
    assert set(CLASSIFIERS) == public
    detectors = {kind for kind in MODELS.values() if issubclass(kind, BaseDetector)}
    assert set(DETECTORS) == detectors


@pytest.mark.filterwarnings("ignore:PoisonSearch has not searched")
@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_every_detector_comes_back(kind, path):
    detector = kind(backbone="small-cnn", epochs=1, batch_size=20, random_state=0)
    detector.fit(images(), LABELS)
    if kind is PoisonSearch:  # as where it has searched
        detector.isolate_signs_ = {"diversity": np.array([0.5, np.nan, 0.1, 0.2])}
    save_model(detector, path)
    loaded = load_model(path)
    assert_same(loaded, detector)
    kept, _ = loaded.fit_resample(images(), LABELS)
    np.testing.assert_array_equal(kept, images()[~detector.isolate_mask_])


def test_a_detector_with_a_backbone_of_ones_own(path, tmp_path):
    detector = LossRank(backbone=tiny_net, epochs=1, ratio=0.1, cache_dir=tmp_path / "cache")
    save_model(detector.fit(images(), LABELS), path)
    with pytest.raises(ValueError, match="give the module or callable again"):
        load_model(path)
    loaded = load_model(path, backbone=tiny_net)
    assert_same(loaded, detector, but=["cache_dir"])
    assert loaded.cache_dir is None


@pytest.mark.parametrize("attack", FITTED_ATTACKS, ids=lambda attack: type(attack).__name__)
def test_attacks_come_back(attack, path):
    X = images()
    attack.fit(X, LABELS)
    save_model(attack, path)
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.transform(X), attack.transform(X))
    np.testing.assert_array_equal(
        loaded.transform_training(X[:4], LABELS[:4], random_state=0),
        attack.transform_training(X[:4], LABELS[:4], random_state=0),
    )
    np.testing.assert_array_equal(loaded.transform_target(LABELS), attack.transform_target(LABELS))
    # A device object is written by its name.
    assert_same(loaded, attack, but=["device"] if isinstance(attack, Trojan) else [])


@pytest.mark.parametrize(
    "name", [name for name in ATTACKS if not issubclass(ATTACKS[name], LearnedAttack)]
)
def test_attacks_that_train_nothing_come_back(name, path):
    X = images()
    attack = ATTACKS[name]().fit(X, LABELS)
    save_model(attack, path)
    np.testing.assert_array_equal(load_model(path).transform(X), attack.transform(X))


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [False, True], np.array(["a", "b"], dtype=object), [-1.0, 1.0]]
)
def test_tables_and_labels_of_any_type(labels, path):
    X = np.random.default_rng(0).normal(size=(40, 5))
    y = np.asarray(labels)[np.arange(40) % 2]
    classifier = quick(backbone="auto").fit(X, y)
    save_model(classifier, str(path))
    loaded = load_model(str(path))
    assert loaded.module_.head.weight.dtype == torch.float64
    assert_same(loaded, classifier)
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))


def test_a_loaded_model_can_be_fitted_on(fitted, path):
    save_model(fitted, path)
    assert_same(load_model(path).fit(images(), LABELS).module_, fitted.module_)


def test_no_trace_in_the_global_generators(fitted, path):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    save_model(fitted, path)
    load_model(path)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize("name", [*BACKBONES, "wrn-10-1", "regnet_y_400mf", "swin_v2_t"])
def test_rehearsal_takes_no_memory_for_weights(name):
    with _build._WithoutMemory():
        network = build_network(name, (3, 32, 32), 4, mean=torch.zeros(3), scale=torch.ones(3))
    assert all(parameter.is_meta for parameter in network.parameters())


# --- a network of the user's own


@pytest.mark.parametrize("backbone", [TinyNet(), tiny_net], ids=["module", "callable"])
def test_own_backbone_is_left_out_and_given_again(backbone, path):
    X = images()
    classifier = quick(backbone=backbone).fit(X, LABELS)
    save_model(classifier, path)
    assert b"tiny" not in path.read_bytes().lower()
    assert b"load_model(path, backbone=...)" in path.read_bytes()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*of your own.*backbone="):
        load_model(path)
    loaded = load_model(path, backbone=backbone)
    assert loaded.backbone is backbone
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(loaded)).predict_proba(X), classifier.predict_proba(X)
    )


def test_own_surrogate_of_an_attack(path):
    attack = LabelConsistent(surrogate=tiny_net, surrogate_epochs=1, steps=1).fit(images(), LABELS)
    save_model(attack, path)
    with pytest.raises(ValueError, match="of your own"):
        load_model(path)
    loaded = load_model(path, backbone=tiny_net)
    made = [
        model.transform_training(images(4), LABELS[:4], random_state=0)
        for model in (loaded, attack)
    ]
    np.testing.assert_array_equal(*made)


def test_backbone_is_refused_where_it_is_not_wanted(fitted, path):
    save_model(fitted, path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*leave backbone=None"):
        load_model(path, backbone=tiny_net)
    for wrong in ("small-cnn", 3):
        with pytest.raises(TypeError, match=rf"{re.escape(str(path))}: backbone={wrong!r}"):
            load_model(path, backbone=wrong)


def test_another_backbone_than_the_fitted_one_does_not_fit(path):
    save_model(quick(backbone=tiny_net).fit(images(), LABELS), path)
    for wrong in (nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), nn.Identity()):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_model(path, backbone=wrong)


def test_own_backbone_set_after_fit_is_not_written(path):
    classifier = quick(backbone=tiny_net).fit(images(), LABELS).set_params(backbone=TinyNet())
    with pytest.raises(ValueError, match="UndefendedClassifier.*after fit"):
        save_model(classifier, path)
    assert not path.exists()


# --- what is not written


@pytest.mark.parametrize(
    "model",
    [LogisticRegression(), Mixed(), UndefendedClassifier, None, "model.safetensors"],
    ids=repr,
)
def test_only_models_of_this_package_are_written(model, path):
    with pytest.raises(
        TypeError, match="^model is .*; wanted a fitted classifier, detector or attack"
    ):
        save_model(model, path)


def test_a_subclass_is_not_of_this_package(path):
    class Mine(BadNets):
        pass

    with pytest.raises(TypeError, match="^model is Mine"):
        save_model(Mine().fit(images()), path)


def test_unfitted_is_not_written(path):
    for model in (UndefendedClassifier(), BadNets(), Trojan()):
        with pytest.raises(NotFittedError):
            save_model(model, path)


def test_a_label_map_with_code_is_not_written(path):
    attack = BadNets(label_map=lambda codes, classes, target: 0 * codes).fit(images(), LABELS)
    with pytest.raises(TypeError, match="^label_map=<function.*OneToOne or OneToMany"):
        save_model(attack, path)


def test_other_objects_are_not_written(path):
    attack = BadNets().fit(images(), LABELS)
    attack.note_ = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="BadNets cannot be written.*torch.nn"):
        save_model(attack, path)


def test_what_could_not_be_loaded_is_not_written(fitted, path):
    broken = pickle.loads(pickle.dumps(fitted))
    with torch.no_grad():
        broken.module_.head.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"not written.*head.bias of module_ hold 1 values"):
        save_model(broken, path)
    with pytest.raises(ValueError, match="not written.*'epochs' parameter"):
        save_model(pickle.loads(pickle.dumps(fitted)).set_params(epochs=-1), path)
    assert not path.exists()


def test_what_belongs_to_the_process_stays_there(tmp_path, path):
    folder = str(tmp_path / "phases")
    classifier = CBDClassifier(epochs=1, detector=LossRank(ratio=None, epochs=1), cache_dir=folder)
    classifier.set_callbacks(ScoringMonitor(scoring="accuracy")).fit(images(), LABELS)
    classifier.set_params(
        detector__cache_dir=tmp_path / "more", detector__device=torch.device("cpu")
    )
    save_model(classifier, path)
    loaded = load_model(path)
    assert (loaded.cache_dir, loaded.detector.cache_dir) == (None, None)
    assert loaded.detector.device == "cpu"
    assert classifier.detector.cache_dir == tmp_path / "more"
    assert set(vars(classifier)) - set(vars(loaded)) == {"_skl_callbacks"}
    assert str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(failing, fitted, path, monkeypatch):
    path.write_bytes(b"what was there")

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="the disk is full"):
        save_model(fitted, path)
    monkeypatch.undo()
    assert path.read_bytes() == b"what was there"
    assert os.listdir(path.parent) == [path.name]
    save_model(fitted, path)
    assert load_model(path).n_features_in_ == 8


def test_without_the_extra(fitted, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for use in (lambda: save_model(fitted, path), lambda: load_model(path)):
        with pytest.raises(ImportError, match=r"safetensors.*\.\[persist\]"):
            use()


# --- files that save_model did not write


def retold(path, **changes):
    """Change what a file says, and give it the digest that fits."""
    content, tensors = unseal(path.read_bytes())
    told = {"format": "2", "antibackdoor": "0.1", "model": "UndefendedClassifier"}
    text = changes.pop("text", content)
    path.write_bytes(seal(text, tensors, {**told, **changes}))


def test_a_parameter_that_is_newer_than_the_file_has_its_default(fitted, path):
    older = pickle.loads(pickle.dumps(fitted))
    older.augment = 17
    text, tensors = pack(older.__getstate__(), to_node)
    save_model(fitted, path)
    retold(path, text=text.replace('["augment", 17], ', ""))
    loaded = load_model(path)
    assert loaded.augment == UndefendedClassifier().augment
    np.testing.assert_array_equal(loaded.predict(images()), fitted.predict(images()))


def test_files_of_before_are_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", "{}")
    message = "is not loaded: it is a zip archive, such as the files of skops.*fit again"
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} {message}"):
        load_model(path)


def test_what_a_file_says_is_read_without_this_package(fitted, path):
    save_model(fitted, path)
    with safetensors.safe_open(path, "np") as file:
        told = file.metadata()
    sizes = [array.size for array in safetensors.numpy.load_file(path).values()]
    assert (told["format"], told["model"]) == ("2", "UndefendedClassifier")
    assert told["antibackdoor"] == version("antibackdoor")
    assert isinstance(json.loads(told["content"], parse_constant=pytest.fail), dict)
    assert sum(sizes) > sum(parameter.numel() for parameter in fitted.module_.parameters())


def test_weights_alone_through_safetensors(fitted, path):
    safetensors.torch.save_model(fitted.module_, path)
    other = quick(random_state=1).fit(images(seed=1), LABELS)
    assert not np.array_equal(other.predict_proba(images()), fitted.predict_proba(images()))
    safetensors.torch.load_model(other.module_, path)
    np.testing.assert_array_equal(other.predict_proba(images()), fitted.predict_proba(images()))
    with pytest.raises(ValueError, match="save_model did not write, such as weights alone"):
        load_model(path)


# --- arguments


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(OSError, match=re.escape(tmp_path.name)):
        load_model(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*no regular file"):
        load_model(path)


def test_max_bytes(fitted, path):
    save_model(fitted, path)
    for wrong, error in ((0, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)):
        with pytest.raises(error, match=rf"{re.escape(str(path))}: max_bytes={wrong}"):
            load_model(path, max_bytes=wrong)
    size = path.stat().st_size
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*more than max_bytes"):
        load_model(path, max_bytes=size - 1)
    assert_same(load_model(path, max_bytes=size), fitted)
