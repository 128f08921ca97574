"""Backbones that begin from weights in a file."""

import pickle

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from sklearn.base import clone

from antibackdoor import UndefendedClassifier, load_model
from antibackdoor.backbones import Pretrained, build_network
from antibackdoor.cli import main

NAME = "shufflenet_v2_x0_5"


def module(n_classes=5):
    torch.manual_seed(7)
    return torchvision.models.get_model(NAME, num_classes=n_classes)


@pytest.fixture(scope="module")
def state():
    own = module().state_dict()
    return {
        name: 0.9 * value if value.is_floating_point() else value for name, value in own.items()
    }


def save(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("kind", ["a.safetensors", "a.pth", "nested.pth", "parallel.pth"])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_begins_from_the_weights(state, tmp_path, kind, channels):
    given = dict(state)
    if kind == "nested.pth":
        given = {"state_dict": given, "epoch": 3}
    elif kind == "parallel.pth":
        given = {f"module.{name}": value for name, value in given.items()}
    built = Pretrained(NAME, save(given, tmp_path / kind))((channels, 32, 32), 5)
    found = (built if channels == 3 else built[1]).state_dict()
    for name, value in state.items():
        torch.testing.assert_close(found[name], value)


def test_a_last_layer_of_other_classes_is_drawn_anew(state, tmp_path):
    path = save(state, tmp_path / "a.safetensors")
    built = Pretrained(NAME, path)((3, 32, 32), 3).state_dict()
    changed = [name for name in state if built[name].shape != state[name].shape]
    assert changed == ["fc.weight", "fc.bias"]
    assert all(torch.equal(built[n], state[n]) for n in state if n not in changed)


def test_it_is_a_parameter_like_another(state, tmp_path):
    backbone = Pretrained(NAME, str(save(state, tmp_path / "a.safetensors")))
    clf = UndefendedClassifier(backbone=backbone, epochs=1, learning_rate=1e-4, random_state=0)
    assert clone(clf).backbone == pickle.loads(pickle.dumps(backbone)) == backbone
    X = np.random.RandomState(0).randint(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    clf.fit(X, np.arange(12) % 3)
    first = clf.module_.state_dict()
    # One epoch of few steps: the weights are still near those that they began from.
    (near,) = (v for n, v in first.items() if n.endswith("conv1.0.weight"))
    assert (near - state["conv1.0.weight"]).abs().mean() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.1.bias"}, "lacks conv1.1.bias"),
        (lambda s: {**s, "conv1.1.bias": torch.zeros(3)}, r"has conv1.1.bias \(3,\) and not"),
        (lambda s: {**s, "more": torch.zeros(3)}, "has too more"),
        (lambda s: {"lists": [1, 2]}, "holds no state dict"),
        (lambda s: b"nothing", "no state dict of torch"),
    ],
)
def test_weights_that_do_not_fit(state, tmp_path, change, message):
    path, changed = tmp_path / "a.pth", change(state)
    if isinstance(changed, bytes):
        path.write_bytes(changed)
    else:
        torch.save(changed, path)
    with pytest.raises(ValueError, match=message):
        Pretrained(NAME, path)((3, 32, 32), 5)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        Pretrained(NAME, tmp_path / "a.pth")((3, 32, 32), 5)
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no file of safetensors"):
        Pretrained(NAME, tmp_path / "a.safetensors")((3, 32, 32), 5)
    with pytest.raises(ValueError, match="torchvision has none for backbone='small-cnn'"):
        Pretrained("small-cnn", "DEFAULT")((3, 32, 32), 5)


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


def test_nothing_in_a_file_is_run(tmp_path):
    torch.save({"a": Runs()}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="no state dict of torch"):
        Pretrained(NAME, tmp_path / "a.pth")((3, 32, 32), 5)


def test_a_whole_network_is_refused_in_our_words(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"Wanted what torch.save\(network.state_dict") as refused:
        Pretrained(NAME, tmp_path / "a.pth")((3, 32, 32), 5)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="is a folder; wanted a file of weights"):
        Pretrained(NAME, tmp_path)((3, 32, 32), 5)


def test_without_a_network_it_says_what_to_give(tmp_path, monkeypatch):
    def offline(*arguments, **settings):
        raise OSError("no route")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(OSError, match=r"could not be downloaded \(no route\). Where there is no"):
        Pretrained(NAME, "DEFAULT")((3, 32, 32), 5)


def test_a_scan_begins_from_them(state, tmp_path, digits, capsys):
    X, y = digits
    few = np.flatnonzero(y < 4)[:96]
    images = np.repeat(np.repeat(np.repeat(X[few][..., None], 3, 3), 4, 1), 4, 2)
    np.savez(tmp_path / "data.npz", X=images, y=y[few])
    file = save(state, tmp_path / "a.safetensors")
    out = tmp_path / "out"
    words = ["scan", str(tmp_path / "data.npz"), "--out", str(out), "--epochs-scale", "0.01"]
    words += ["--device", "cpu", "--quiet", "--weights", str(file)]
    assert main(words) == 2
    assert "--weights without --backbone" in capsys.readouterr().err
    assert main([*words, "--backbone", "small-cnn"]) == 2
    assert "does not fit backbone='small-cnn'" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--backbone", NAME]) in (0, 3)
    # The name is enough to read the classifier back.
    clf = load_model(out / "model.safetensors")
    assert clf.backbone == NAME
    assert clf.predict(images).shape == (96,)


def test_the_network_keeps_its_place_in_the_registry(state, tmp_path):
    path = save(state, tmp_path / "a.safetensors")
    shape = {"mean": torch.zeros(3), "scale": torch.ones(3)}
    network = build_network(Pretrained(NAME, path), (3, 32, 32), 5, **shape)
    assert network.head.out_features == 5
