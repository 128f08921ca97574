"""Hostile calls on the public API: what may be raised is little, and nothing else may change.

    python benchmarks/fuzz.py --calls 10000 --seed 0 --out build/fuzz.json
    python benchmarks/fuzz.py --seed 0 --call 4711      # one of them again, with its traceback
    python benchmarks/fuzz.py --leaks                   # memory and threads over 100 fits
    python benchmarks/fuzz_files.py                     # files of models, under a memory limit

A call is drawn as text, so that what is reported can be pasted. It may return, or raise ValueError,
TypeError, NotFittedError or what its documentation names beside them. Its arguments must be the
same bytes before and after, an estimator whose fit failed must be as it was, and so must the open
files, the global generators and the global settings. Exit code 1 where one of the calls does not.
"""

from __future__ import annotations

import argparse
import collections
import gc
import inspect
import io
import json
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

# Before numpy is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import psutil
import sklearn
import torch
from _common import provenance
from scipy import sparse
from torch import nn

import antibackdoor
from antibackdoor import attacks, backbones, datasets, defenses, metrics, utils
from antibackdoor.attacks import ATTACKS, LearnedAttack
from antibackdoor.benchmark import Cell, Grid
from antibackdoor.persistence import load_model, save_model

ALLOWED = (ValueError, TypeError)  # NotFittedError is a ValueError
#: A call that takes longer has lost itself.
MOST_SECONDS = 60
#: Growth of memory and threads over 100 fits, as a share.
MOST_GROWTH = 0.05

CLASSIFIERS = {
    "UndefendedClassifier": {"epochs": "1"},
    "ABLClassifier": {
        "isolation_epochs": "1",
        "finetune_epochs": "1",
        "unlearning_epochs": "1",
        "recovery_epochs": "1",
    },
    "CBDClassifier": {"backdoor_epochs": "1", "clean_epochs": "1"},
    "DBDClassifier": {"self_supervised_epochs": "1", "head_epochs": "1", "finetune_epochs": "1"},
    "ActivationClusteringClassifier": {"epochs": "1", "finetune_epochs": "1"},
    "SpectralSignaturesClassifier": {"epochs": "1", "finetune_epochs": "1"},
    "FinePruningClassifier": {"epochs": "1", "finetune_epochs": "1"},
    "ModeConnectivityClassifier": {"epochs": "1", "finetune_epochs": "1"},
    "NADClassifier": {"epochs": "1", "finetune_epochs": "1"},
}
TAKES_MASK = ("FinePruningClassifier", "ModeConnectivityClassifier", "NADClassifier")
QUICK_ATTACKS = {
    "AdaptivePoison": {"steps": "1", "n_surrogates": "1"},
    "Dynamic": {"generator_epochs": "1"},
    "FeatureCollision": {"steps": "1", "size": "2"},
    "LabelConsistent": {"steps": "1", "size": "2"},
    "LatentBackdoor": {"steps": "1", "size": "2"},
    "Trojan": {"steps": "1", "size": "2"},
}

ROWS = 24
GOOD_X = [
    "images((24, 8, 8))",
    "images((24, 8, 8))",
    "images((24, 8, 8), 'float32')",
    "images((24, 6, 5, 3))",
    "images((24, 3, 5, 6), 'float64')",
    "images((24, 12), 'float64')",
    "images((24, 8, 8)).tolist()",
    "images((24, 8, 8), 'float16')",
    "images((24, 8, 8), 'int16')",
    "images((24, 8, 8), '>f4')",
    "images((24, 12), 'longdouble')",
    "images((24, 8, 8)) > 99",
    "images((24, 1, 1))",
    "np.full((24, 8, 8), 7, dtype=np.uint8)",
    "pd.DataFrame(images((24, 4), 'float64'), columns=list('abcd'))",
]
HOSTILE_X = [
    "np.empty((0, 8, 8))",
    "np.empty((24, 0))",
    "np.empty((24, 8, 0))",
    "np.array(3.0)",
    "3",
    "None",
    "'white'",
    "b'white'",
    "{}",
    "{'a': [1, 2]}",
    "{1, 2}",
    "object()",
    "int",
    "[]",
    "[[]]",
    "[[], []]",
    "[[1.0, 2.0], [3.0]]",
    "[images((8, 8)), images((7, 8))]",
    "[[10**400, 1.0]] * 24",
    "[[1j, 2.0]] * 24",
    "[[None, 1.0]] * 24",
    "(row for row in images((24, 12)))",
    "range(24)",
    "np.full((24, 4), object())",
    "np.full((24, 4), None)",
    "images((24, 12)).astype(object)",
    "images((24, 8, 8)).astype(object)",
    "np.array([[1, 'a', None, []]] * 24, dtype=object)",
    "images((24, 8, 8)).astype(str)",
    "images((24, 12)).astype('S')",
    "images((24, 12)).astype(str).tolist()",
    "np.full((24, 8, 8), np.nan)",
    "np.full((24, 12), np.inf)",
    "spoiled(images((24, 8, 8), 'float64'), np.nan)",
    "spoiled(images((24, 8, 8), 'float32'), -np.inf)",
    "spoiled(images((24, 12), 'float64'), 1e308)",
    "spoiled(images((24, 8, 8), 'float64'), -1.7e308)",
    "spoiled(images((24, 8, 8), 'float32'), 3e38)",
    "spoiled(images((24, 8, 8), 'float64'), 5e-324)",
    "spoiled(images((24, 8, 8), 'float16'), 65504)",
    "images((24, 8, 8), 'float64') * 1e300",
    "images((24, 12), 'longdouble') * np.longdouble('1e4000')",
    "images((24, 8, 8)).astype(np.uint64) * 2**56",
    "np.full((24, 12), np.iinfo(np.int64).min)",
    "images((24, 8, 8, 100))[..., ::-50][..., 0]",
    "images((24, 8, 80))[::-1, :, ::10]",
    "np.lib.stride_tricks.as_strided(images((8,)), (24, 8, 8), (0, 0, 1))",
    "np.broadcast_to(np.float32(0.5), (24, 8, 8))",
    "np.asfortranarray(images((24, 6, 5, 3)))",
    "locked(images((24, 8, 8)))",
    "locked(images((24, 12), 'float32'))",
    "images((24,))",
    "images((24, 2, 2, 2, 2))",
    "images((24, 1, 1, 1, 1, 1, 3))",
    "images((1, 8, 8))",
    "images((2, 8, 8))",
    "images((24, 4, 4, 4))",
    "images((24, 3, 4, 3))",
    "images((24, 7, 7, 2))",
    "images((24, 8, 8)) * 1j",
    "sparse.csr_array(images((24, 12)))",
    "sparse.coo_matrix(images((24, 12), 'float64'))",
    "np.ma.masked_array(images((24, 8, 8)), images((24, 8, 8)) > 99)",
    "np.ma.masked_all((24, 4))",
    "np.asmatrix(images((24, 12)))",
    "np.zeros((24, 4), dtype='M8[s]')",
    "np.zeros((24, 4), dtype='m8[s]')",
    "np.zeros((24, 4), dtype=[('a', float), ('b', int)])",
    "np.zeros((24, 4), dtype='V8')",
    "np.array([['a', 'b']] * 24, dtype=np.dtypes.StringDType())",
    "pd.DataFrame({'a': ['x', 'y'] * 12, 'b': range(24)})",
    "pd.DataFrame({'a': pd.array([1, None] * 12, dtype='Int64'), 'b': range(24)})",
    "pd.DataFrame({1: range(24), 'b': range(24)})",
    "pd.Series(range(24))",
    "torch.zeros(24, 8, 8)",
    "torch.zeros(24, 8, 8, requires_grad=True)",
    "torch.zeros(24, 8, 8, dtype=torch.bfloat16)",
    "[Decimal(1), Decimal(2)]",
    "[[Fraction(1, 3)] * 4] * 24",
]
GOOD_Y = [
    "np.arange(24) % 3",
    "np.arange(24) % 3",
    "np.arange(24) % 2 == 0",
    "np.array(['a', 'b', 'c'])[np.arange(24) % 3]",
    "np.array(['a', 'b', 'c'], dtype=object)[np.arange(24) % 3]",
    "(np.arange(24) % 3).tolist()",
    "np.arange(24) % 3 * 1.0",
    "np.arange(24)",
    "(np.arange(24) == 23).astype(np.int8)",
]
HOSTILE_Y = [
    "None",
    "0",
    "'abc'",
    "object()",
    "[]",
    "{}",
    "{0, 1}",
    "int",
    "np.array(1)",
    "np.arange(23)",
    "np.arange(25) % 3",
    "np.zeros(24)",
    "np.zeros(24, dtype=int)",
    "np.linspace(0, 1, 24)",
    "np.where(np.arange(24) % 3, 1.0, np.nan)",
    "np.where(np.arange(24) % 3, 1.0, np.inf)",
    "np.stack([np.arange(24) % 3] * 2, axis=1)",
    "(np.arange(24) % 3)[:, None]",
    "np.array([0, 'one', 2] * 8, dtype=object)",
    "np.array([0, None, 2] * 8, dtype=object)",
    "np.array([np.nan, 'b', 'c'] * 8, dtype=object)",
    "[[0], [1, 2]] * 12",
    "[[0, 1]] * 24",
    "[object()] * 24",
    "[(0, 1)] * 24",
    "[10**30, 1, 2] * 8",
    "[None] * 24",
    "np.arange(24) % 3 * 1j",
    "(np.arange(24) % 3).astype('M8[s]')",
    "(np.arange(24) % 3).astype('m8[s]')",
    "(np.arange(24) % 3).astype('S')",
    "(np.arange(24) % 3).astype('V8')",
    "np.zeros(24, dtype=[('a', int)])",
    "np.array(['a', 'b'] * 12, dtype=np.dtypes.StringDType())",
    "np.ma.masked_array(np.arange(24) % 3, np.arange(24) == 3)",
    "sparse.csr_array(np.arange(24)[None] % 3)",
    "(label for label in range(24))",
    "pd.Series(['a', None, 'c'] * 8)",
    "pd.Series(pd.Categorical(['a', 'b', 'c'] * 8))",
    "pd.Series(pd.array([1, None, 2] * 8, dtype='Int64'))",
    "pd.Series(range(24), index=range(24, 0, -1)) % 3",
    "pd.DataFrame({'y': np.arange(24) % 3})",
    "torch.arange(24) % 3",
    "np.array([2**63, 1, 2] * 8, dtype=np.uint64)",
    "np.array([-2**63, 2**63 - 1] * 12)",
    "locked(np.arange(24) % 3)",
    "(np.arange(48) % 3)[::-2]",
    "[True, 1, 2] * 8",
    "['', ' ', 'a'] * 8",
    "['\\x00', 'a\\x00', 'a'] * 8",
]
#: No large whole number among them: as a number of epochs it would be valid, and last.
HOSTILE_COUNTS = [
    *("None", "True", "False", "0", "-1", "1", "2", "1.0", "0.5", "-10**30", "np.nan", "-np.inf"),
    *("''", "'x'", "'auto'", "b'x'", "[]", "()", "{}", "[1]", "[[1]]", "object()", "int", "1j"),
    *("np.array(2)", "np.array([1, 2])", "np.array([])", "np.int8(1)", "np.float32(0.5)"),
    *("np.bool_(True)", "np.str_('x')", "Fraction(1, 2)", "Decimal('0.5')", "Decimal('nan')"),
    *("lambda *given: None", "np.zeros(3, dtype=object)", "slice(None)", "...", "NotImplemented"),
]
HOSTILE_VALUES = [
    *HOSTILE_COUNTS,
    *("10**30", "2**63", "10**400", "1e308", "-1e308", "1e-308", "1e38", "np.inf", "(8, 8)"),
    *("(8, 8, 1)", "(0, 8)", "(-1, -64)", "(2**40, 2**40)", "(1e308, 1e308)", "('8', '8')"),
    *(
        "(0, 255)",
        "(0, 1)",
        "(1, 0)",
        "(np.nan, 1)",
        "(0, np.inf)",
        "(0, 10**400)",
        "'channels_last'",
    ),
    *("'channels_first'", "'cpu'", "'cuda:99'", "'meta'", "'mlp'", "'small-cnn'", "'resnet-9000'"),
    *("('crop', 'flip', 'cutout')", "('crop', 3)", "[['crop']]", "(1, 2)", "(0.5,)", "(5, 3)"),
    *("nn.Flatten()", "nn.Linear(64, 3)", "flat(64, 3)", "flat(64, 2)", "flat(63, 3)"),
    *("lambda shape, n: flat(int(np.prod(shape)), n)", "lambda shape, n: nn.Identity()"),
    *("np.random.RandomState(0)", "np.random.default_rng(0)", "np.random"),
    *(
        "images((8, 8))",
        "images((8, 8), 'float64') * np.nan",
        "images((64,))",
        "'a'",
        "2",
        "np.nan",
    ),
    *("OneToOne(1)", "OneToMany(1)", "OneToMany(1, [1])", "OneToMany([1])", "OneToOne(None)"),
    *("np.zeros((8, 8), dtype='M8[s]')", "np.full((8, 8), 'x')", "[[0.5] * 8] * 8", "'all_to_all'"),
]
#: Some of them in range, for whatever has one.
NUMBERS = [
    *("0.0", "-0.0", "1e-320", "1e-30", "1e-9", "0.01", "0.5", "1 - 1e-16", "1.0", "2.0", "1e3"),
    *("1e30", "1e38", "1e39", "1e300", "10**30", "10**400", "np.inf", "np.nan", "-1e-30"),
    *("np.float16(0.1)", "np.float32(1e38)", "np.longdouble(0.3)", "Fraction(1, 3)"),
]
HOSTILE_MASKS = [
    *("None", "np.ones(24, dtype=bool)", "np.arange(24) < 12", "[True, False] * 12"),
    *("np.zeros(24, dtype=bool)", "np.arange(24)", "np.ones(23, dtype=bool)", "[]", "True", "'x'"),
    *("np.ones((24, 1), dtype=bool)", "[None] * 24", "np.ones(24)", "[[True], [True, False]]"),
    *("np.ma.masked_array(np.ones(24, dtype=bool), np.arange(24) < 3)", "object()"),
    *("pd.Series([True, False] * 12)", "sparse.csr_array(np.ones((1, 24), dtype=bool))"),
]


# --- what the text of a call is made of


def images(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Return random pixels: floats between 0 and 1, whole numbers to 255 or as far as they go."""
    values = np.random.default_rng(seed).integers(0, 256, shape)
    kind = np.dtype(dtype).kind
    return (values / 255 if kind == "f" else values).astype(dtype)


def spoiled(X: np.ndarray, value: float) -> np.ndarray:
    """Put a value into X."""
    X[(5,) + (-1,) * (X.ndim - 1)] = value
    return X


def locked(X: np.ndarray) -> np.ndarray:
    """Make X read-only."""
    X.setflags(write=False)
    return X


def flat(n_inputs: int, n_outputs: int) -> nn.Module:
    """Return a backbone of one layer, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, n_outputs))


_FITTED: dict[str, bytes] = {}
_STORED: dict[str, bytes] = {}


def fitted(name: str) -> Any:
    """Return an estimator fitted on ``images((24, 8, 8))`` and three classes, new every time."""
    if name not in _FITTED:
        quick = {key: int(value) for key, value in _quick(name).items() if value.isdigit()}
        if hasattr(antibackdoor, name):
            quick |= {"batch_size": 8, "random_state": 0}
        estimator = _class(name)(**quick).fit(images((ROWS, 8, 8)), np.arange(ROWS) % 3)
        _FITTED[name] = pickle.dumps(estimator)
    return pickle.loads(_FITTED[name])


def npz(damage: Callable[[bytes], bytes] | None = None, **arrays: Any) -> str:
    """Write an .npz file into the working directory and return its path."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.savez(written, **arrays)
    content = written.getvalue()
    Path("hostile.npz").write_bytes(content if damage is None else damage(content))
    return "hostile.npz"


def archive(**members: bytes) -> str:
    """Write a zip file with these members in place of arrays and return its path."""
    with zipfile.ZipFile("hostile.npz", "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return "hostile.npz"


def stored(name: str, damage: Callable[[bytes], bytes]) -> str:
    """Store ``fitted(name)``, damage the file and return its path."""
    path = Path("hostile.safetensors")
    if name not in _STORED:
        save_model(fitted(name), path)
        _STORED[name] = path.read_bytes()
    path.write_bytes(damage(_STORED[name]))
    return str(path)


def member(header: str) -> bytes:
    """Return an array file that ends after its header."""
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def flipped(content: bytes, where: float, by: int) -> bytes:
    """Change one byte of a file."""
    changed = bytearray(content)
    changed[int(where * len(changed))] ^= by
    return bytes(changed)


def _quick(name: str) -> dict[str, str]:
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    learned = {"surrogate": "'small-cnn'", "surrogate_epochs": "1"}
    return (learned if issubclass(_class(name), LearnedAttack) else {}) | QUICK_ATTACKS.get(
        name, {}
    )


def _class(name: str) -> type:
    return getattr(defenses, name, None) or getattr(attacks, name)


NAMESPACE = {
    **{name: getattr(part, name) for part in (metrics, datasets, attacks) for name in part.__all__},
    **{name: getattr(antibackdoor, name) for name in antibackdoor.__all__},
    **{name: getattr(utils, name) for name in ("resolve_layout", "resolve_device")},
    **{part.__name__: part for part in (save_model, load_model)},
    **{"build_network": backbones.build_network, "Cell": Cell, "Grid": Grid},
    **{"np": np, "pd": pd, "sparse": sparse, "torch": torch, "nn": nn, "pickle": pickle},
    **{"Decimal": Decimal, "Fraction": Fraction, "Path": Path},
    **{part.__name__: part for part in (images, spoiled, locked, flat, fitted)},
    **{part.__name__: part for part in (npz, archive, member, flipped, stored)},
}


# --- calls


@dataclass
class Call:
    """A call as text."""

    kind: str
    #: What is made before it, in order: name and expression.
    given: dict[str, str]
    call: str
    #: Which of `given` is the estimator: as it was unless its fit succeeds.
    estimator: str | None = None
    #: What it may raise beside the usual.
    allowed: tuple[type[BaseException], ...] = ()

    def __str__(self) -> str:
        return "\n".join([*(f"{name} = {text}" for name, text in self.given.items()), self.call])


def draw_call(rng: random.Random) -> Call:
    """Draw a call."""
    kinds = [fit_classifier, use_classifier, fit_attack, use_attack, poison, measure, score]
    kinds += [load_file, load_name, small_parts, store]
    return rng.choices(kinds, weights=[20, 16, 14, 16, 12, 8, 8, 6, 3, 7, 6])[0](rng)


def _choose(rng: random.Random, good: list[str], hostile: list[str], odds: float) -> str:
    return rng.choice(hostile if rng.random() < odds else good)


def _construct(rng: random.Random, name: str, settings: dict[str, str]) -> str:
    """Return the call of a constructor, with some parameters spoiled."""
    settings = dict(settings)
    names = list(inspect.signature(_class(name)).parameters)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        spoiled = rng.choice(names)
        counts = "epochs" in spoiled or "steps" in spoiled or spoiled.startswith("n_")
        pool = HOSTILE_COUNTS if counts else HOSTILE_VALUES
        if isinstance(inspect.signature(_class(name)).parameters[spoiled].default, float):
            pool = rng.choice([pool, NUMBERS])
        settings[spoiled] = rng.choice(pool)
    words = ", ".join(f"{key}={value}" for key, value in settings.items())
    if rng.random() < 0.2:
        return f"fitted({name!r}).set_params({words})"
    return f"{name}({words})"


def fit_classifier(rng: random.Random) -> Call:
    name = rng.choice(list(CLASSIFIERS))
    settings = {**CLASSIFIERS[name], "batch_size": "8", "random_state": "0"}
    given = {
        "X": _choose(rng, GOOD_X, HOSTILE_X, 0.5),
        "y": _choose(rng, GOOD_Y, HOSTILE_Y, 0.4),
        "clf": _construct(rng, name, settings),
    }
    call = "clf.fit(X, y)"
    if name in TAKES_MASK and rng.random() < 0.4:
        given["clean_mask"] = rng.choice(HOSTILE_MASKS)
        call = "clf.fit(X, y, clean_mask=clean_mask)"
    return Call("fit of a classifier", given, call, "clf", (FloatingPointError,))


def use_classifier(rng: random.Random) -> Call:
    name = rng.choice(list(CLASSIFIERS))
    made = f"{name}()" if rng.random() < 0.1 else f"fitted({name!r})"
    given = {"clf": made, "X": _choose(rng, GOOD_X, HOSTILE_X, 0.8)}
    method = rng.choice(["predict", "predict_proba", "decision_function", "score"])
    call = f"clf.{method}(X)"
    if method == "score":
        given["y"] = _choose(rng, GOOD_Y, HOSTILE_Y, 0.6)
        call = "clf.score(X, y)"
    if rng.random() < 0.05:
        call = "pickle.loads(pickle.dumps(clf))"
    return Call("use of a classifier", given, call, "clf")


def _draw_attack(rng: random.Random) -> str:
    """Name an attack, one that trains seldom."""
    learned = [kind.__name__ for kind in ATTACKS.values() if issubclass(kind, LearnedAttack)]
    others = [kind.__name__ for kind in ATTACKS.values() if not issubclass(kind, LearnedAttack)]
    return rng.choice(learned if rng.random() < 0.3 else others)


def fit_attack(rng: random.Random) -> Call:
    name = _draw_attack(rng)
    given = {
        "X": _choose(rng, GOOD_X, HOSTILE_X, 0.5),
        "y": _choose(rng, GOOD_Y, HOSTILE_Y, 0.4),
        "attack": _construct(rng, name, _quick(name)),
    }
    call = rng.choice(["attack.fit(X, y)", "attack.fit(X, y)", "attack.fit_transform(X, y)"])
    return Call("fit of an attack", given, call, "attack", (FloatingPointError,))


def use_attack(rng: random.Random) -> Call:
    name = _draw_attack(rng)
    made = f"{name}()" if rng.random() < 0.1 else f"fitted({name!r})"
    given = {
        "attack": made,
        "X": _choose(rng, GOOD_X, HOSTILE_X, 0.7),
        "y": _choose(rng, GOOD_Y, HOSTILE_Y, 0.5),
        "other": _choose(rng, GOOD_Y, HOSTILE_Y, 0.5),
        "state": rng.choice(["0", "None", "np.random.RandomState(1)", *HOSTILE_COUNTS]),
    }
    calls = {
        "attack.transform(X)": ["X"],
        "attack.transform_training(X, y, random_state=state)": ["X", "y", "state"],
        "attack.transform_cover(X, y, random_state=state)": ["X", "y", "state"],
        "attack.transform_target(y)": ["y"],
        "attack.transform_target(y, classes=other)": ["y", "other"],
        "attack.eligible(y, classes=other)": ["y", "other"],
        "attack.succeeded(y, other)": ["y", "other"],
    }
    call = rng.choice(list(calls))
    given = {key: text for key, text in given.items() if key in ["attack", *calls[call]]}
    documented = (NotImplementedError,) if "cover" in call else ()
    return Call("use of an attack", given, call, "attack", documented)


def poison(rng: random.Random) -> Call:
    name = _draw_attack(rng)
    given = {
        "X": _choose(rng, GOOD_X, HOSTILE_X, 0.5),
        "y": _choose(rng, GOOD_Y, HOSTILE_Y, 0.4),
        "attack": rng.choice(
            [
                repr(rng.choice(["badnets", "blend", "sig", "wanet", "lf", "cba"])),
                _construct(rng, name, _quick(name)),
                f"fitted({name!r})",
                rng.choice(HOSTILE_VALUES),
            ]
        ),
        "rate": _choose(rng, ["0.1", "0.3", "1 / 24"], HOSTILE_VALUES, 0.3),
        "state": _choose(rng, ["0", "None"], HOSTILE_VALUES, 0.2),
    }
    words = "attack=attack, poison_rate=rate, random_state=state"
    if rng.random() < 0.3:
        given["target"] = rng.choice([*HOSTILE_VALUES, "1", "2", "'a'", "True"])
        words += ", target_label=target"
    if rng.random() < 0.3:
        words += ", return_cover=True"
    return Call(
        "make_poisoned", given, f"make_poisoned(X, y, {words})", None, (FloatingPointError,)
    )


def measure(rng: random.Random) -> Call:
    given = {
        "y": _choose(rng, GOOD_Y, HOSTILE_Y, 0.5),
        "y_pred": _choose(rng, GOOD_Y, HOSTILE_Y, 0.5),
        "mask": rng.choice(HOSTILE_MASKS),
        "other_mask": rng.choice(HOSTILE_MASKS),
        "target": rng.choice([*HOSTILE_VALUES, *GOOD_Y, *HOSTILE_Y, "0", "'a'"]),
    }
    calls = {
        "clean_accuracy(y, y_pred, poison_mask=mask)": ["y", "y_pred", "mask"],
        "attack_success_rate(y, y_pred, target_label=target)": ["y", "y_pred", "target"],
        "robust_accuracy(y, y_pred, target_label=target)": ["y", "y_pred", "target"],
        "target_recall(y, y_pred, target_label=target)": ["y", "y_pred", "target"],
        "suspect_retention(y, y_pred)": ["y", "y_pred"],
        "isolation_precision(mask, other_mask)": ["mask", "other_mask"],
        "isolation_recall(mask, other_mask)": ["mask", "other_mask"],
        "isolation_f1(mask, other_mask)": ["mask", "other_mask"],
    }
    call = rng.choice(list(calls))
    return Call("metric", {key: given[key] for key in calls[call]}, call)


def score(rng: random.Random) -> Call:
    given = {
        "clf": f"fitted({rng.choice(list(CLASSIFIERS))!r})",
        "X": _choose(rng, ["images((24, 8, 8))"], GOOD_X + HOSTILE_X, 0.6),
        "y": _choose(rng, ["np.arange(24) % 3"], GOOD_Y + HOSTILE_Y, 0.5),
        "attack": rng.choice(
            ["'badnets'", "BadNets()", f"fitted({_draw_attack(rng)!r})", *HOSTILE_VALUES[::4]]
        ),
        "mask": _choose(rng, ["None"], HOSTILE_MASKS, 0.3),
        "other": rng.choice(HOSTILE_VALUES + NUMBERS),
    }
    makers = [
        "make_asr_scorer(attack)",
        "make_asr_scorer(attack, target_label=other)",
        "make_robust_accuracy_scorer(attack)",
        "make_clean_accuracy_scorer()",
        "make_retention_scorer(X, y)",
        "make_retention_scorer(X, y, accuracy_weight=other)",
    ]
    return Call("scorer", given, f"{rng.choice(makers)}(clf, X, y, poison_mask=mask)", "clf")


def _draw_damage(rng: random.Random) -> str:
    here, byte = rng.random(), rng.randrange(1, 256)
    damages = [
        f"content[: int({here:.4f} * len(content))]",
        f"content[int({here:.4f} * len(content)) :]",
        f"flipped(content, {here:.4f}, {byte})",
        f"flipped(content, {here:.4f}, {byte})",
        "b''",
        "content * 2",
    ]
    return f"lambda content: {rng.choice(damages)}"


def store(rng: random.Random) -> Call:
    name = rng.choice([rng.choice(list(CLASSIFIERS)), _draw_attack(rng)])
    made = _construct(rng, name, CLASSIFIERS.get(name, _quick(name)))
    paths = [
        "'a.safetensors'",
        "Path('a.safetensors')",
        "'.'",
        "'no/a'",
        "'\\x00'",
        *HOSTILE_COUNTS,
    ]
    given = {"model": rng.choice([made, f"fitted({name!r})", *HOSTILE_VALUES[::3]])}
    given["path"] = rng.choice(paths)
    call = "save_model(model, path)"
    if rng.random() < 0.6:
        given = {"path": f"stored({name!r}, {_draw_damage(rng)})"}
        given["backbone"] = _choose(rng, ["None"], HOSTILE_VALUES, 0.2)
        given["most"] = _choose(rng, ["10**8"], HOSTILE_COUNTS, 0.2)
        call = "load_model(path, backbone=backbone, max_bytes=most)"
    return Call("file of a model", given, call, None, (OSError,))


def load_file(rng: random.Random) -> Call:
    parts = {
        "X_train": _choose(rng, ["images((24, 8, 8))"], HOSTILE_X[:50], 0.3),
        "y_train": _choose(rng, ["np.arange(24) % 3"], HOSTILE_Y[:30], 0.3),
        "X_test": _choose(rng, ["images((24, 8, 8))"], HOSTILE_X[:50], 0.3),
        "y_test": _choose(rng, ["np.arange(24) % 3"], HOSTILE_Y[:30], 0.3),
    }
    if rng.random() < 0.4:
        parts = {"X": parts["X_train"], "y": parts["y_train"]}
    if rng.random() < 0.2:
        parts.pop(rng.choice(list(parts)))
    # What cannot be pickled cannot be in a file either.
    unpicklable = ("for row in", "for label in")
    parts = {key: text for key, text in parts.items() if not any(u in text for u in unpicklable)}
    arrays = ", ".join(f"{key}={text}" for key, text in parts.items())
    path = f"npz({rng.choice(['None', _draw_damage(rng)])}, {arrays})"
    if rng.random() < 0.15:
        content = rng.choice(
            ["b''", "b'\\x93NUMPY'", "b'\\x93NUMPY\\x01\\x00v\\x00{}'", "bytes(200)"]
        )
        shape = rng.choice(
            ["(9999999999, 99999)", "(10**400,)", "(-1, 2)", "(2, 2)", "(True, 2.0)"]
        )
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        header = rng.choice([header, header[:-5], header.replace("<f8", "<f9"), "{" * 99])
        content = rng.choice([content, f"member({header!r})"])
        path = f"archive(X={content}, y={content})"
    return Call("load_dataset of a file", {"path": path}, "load_dataset(path)", None, (OSError,))


def load_name(rng: random.Random) -> Call:
    given = {
        "name": _choose(rng, ["'digits'", "'imagefolder'", "'.npz'"], HOSTILE_VALUES, 0.5),
        "root": _choose(rng, ["'data'", "Path('.')"], ["'\\x00'", *HOSTILE_COUNTS], 0.5),
        "size": _choose(rng, ["None"], HOSTILE_VALUES, 0.4),
    }
    call = "load_dataset(name, data_root=root, image_size=size)"
    return Call("load_dataset by name", given, call, None, (OSError, ImportError))


def small_parts(rng: random.Random) -> Call:
    a, b, c = (rng.choice(HOSTILE_VALUES) for _ in range(3))
    calls = [
        ("resolve_layout(a, b, c)", {"a": rng.choice(["(8, 8)", "(64,)", "(8, 8, 3)", "()"])}),
        ("make_attack(a, target_label=b)", {}),
        ("make_attack('blend', alpha=a).fit(images((24, 8, 8)))", {}),
        ("lowest_asr_within(a)({'mean_test_ca': [0.9, 0.8], 'mean_test_neg_asr': b})", {}),
        ("lowest_asr_within(0.1, b, c)({'mean_test_ca': [0.9], 'mean_test_neg_asr': [-1]})", {}),
        ("resolve_device(a)", {}),
        ("OneToOne(a)(np.array([0, 1, 2]), np.array([4, 5, 6]), b)", {}),
        ("OneToMany(a, b)(np.array([0, 1, 2]), np.array([4, 5, 6]), c)", {}),
        ("Cell(dataset='digits', attack=a, poison_rate=b, defense='abl', seed=c)", {}),
        ("Cell(dataset='digits', attack='badnets', poison_rate=0.1, defense=a, schedule=b)", {}),
        ("Grid(datasets=a, attacks=b, defenses=c).cells()", {}),
        ("ABLClassifier.from_paper(a)", {}),
        ("CBDClassifier.from_paper(gamma=a)", {}),
    ]
    call, more = rng.choice(calls)
    used = {name: text for name, text in {"a": a, "b": b, "c": c, **more}.items()}
    return Call("small parts", used, call)


# --- what must be the same afterwards


def settings() -> dict[str, Any]:
    """Return the global generators and settings that nobody else may touch."""
    return {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "numpy's generator": pickle.dumps(np.random.get_state()),
        "python's generator": hash(random.getstate()),
        "threads of torch": torch.get_num_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch.is_grad_enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "numpy's errors": np.geterr(),
        "scikit-learn's configuration": sklearn.get_config(),
        "warnings": len(warnings.filters),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "recursion limit": sys.getrecursionlimit(),
        "threads": threading.active_count(),
    }


def open_files() -> int:
    """Count the file descriptors (on Windows the handles) of this process."""
    process = psutil.Process()
    return process.num_fds() if hasattr(process, "num_fds") else process.num_handles()


def frozen(value: Any) -> bytes:
    """Return the bytes of an argument; of what cannot be pickled its text."""
    if isinstance(value, pd.DataFrame | pd.Series):  # whose pickle holds what it has cached
        return repr((value.to_dict(), value.attrs)).encode() + pickle.dumps(value.index)
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    try:
        return pickle.dumps(value)
    except Exception:
        # Lambdas, generators and types made here: they have no content that a call could change.
        return repr(value).encode()


@dataclass
class Outcome:
    """What came of a call."""

    raised: str = "returned"
    offences: list[str] = field(default_factory=list)
    trace: str = ""


def make(call: Call) -> dict[str, Any]:
    """Evaluate what a call is given."""
    names: dict[str, Any] = dict(NAMESPACE)
    for name, text in call.given.items():
        names[name] = eval(text, names)
    return names


def run(call: Call) -> Outcome:
    """Make a call and see what it leaves behind."""
    outcome = Outcome()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            names = make(call)
        except ALLOWED as error:  # a constructor or set_params that refuses at once
            outcome.raised = f"{type(error).__name__} of what it is given"
            return outcome
        estimator = None if call.estimator is None else names[call.estimator]
        arguments = [name for name in call.given if name != call.estimator]
        before, was = {name: frozen(names[name]) for name in arguments}, settings()
        attributes = {} if estimator is None else dict(vars(estimator))
        content, files = frozen(estimator), open_files()
        try:
            with at_most(MOST_SECONDS):
                eval(call.call, names)
        except (*ALLOWED, *call.allowed) as error:
            outcome.raised = type(error).__name__
            outcome.trace = traceback.format_exc()
        except TooLongError:
            outcome.offences.append(f"takes more than {MOST_SECONDS} seconds")
            outcome.trace = traceback.format_exc()
        except Exception as error:
            outcome.raised = type(error).__name__
            outcome.offences.append(f"raises {type(error).__name__}: {error}"[:500])
            outcome.trace = traceback.format_exc()
        is_fit = ".fit" in call.call
        outcome.offences += changed_settings(was, call)
        outcome.offences += [f"changes {n}" for n in arguments if changed(names[n], before[n])]
        if estimator is not None:
            fitting = is_fit and outcome.raised == "returned"
            outcome.offences += changed_estimator(estimator, attributes, content, fitting)
        if open_files() != files:
            gc.collect()
            if open_files() > files:
                outcome.offences.append(f"leaves {open_files() - files} files open")
        if call.kind == "fit of a classifier" and outcome.raised == "returned":
            outcome.offences += cannot_predict(estimator, names["X"])
    return outcome


def changed_settings(was: dict[str, Any], call: Call) -> list[str]:
    # Whoever asks for numpy's own generator gets it; some parameters ask for it by None.
    asked = "np.random" in call.given.values() or "None" in str(call) or ".random" in str(call)
    left = {"numpy's generator"} if asked or "random_state" not in str(call) else set()
    now = settings()
    return [f"changes {name}" for name in was if now[name] != was[name] and name not in left]


def changed(value: Any, before: bytes) -> bool:
    # Generators of random numbers are drawn from: that is what they are given for.
    if isinstance(value, np.random.RandomState | np.random.Generator | torch.Generator):
        return False
    return not inspect.isgenerator(value) and frozen(value) != before


def changed_estimator(
    estimator: Any, before: dict[str, Any], content: bytes, fitting: bool
) -> list[str]:
    now = vars(estimator)
    if fitting:
        parameters = estimator.get_params(deep=False)
        return [f"changes the parameter {n}" for n in parameters if now[n] is not before[n]]
    moved = sorted(set(now) ^ set(before))
    moved += [name for name in before if name in now and now[name] is not before[name]]
    if moved:
        return [f"leaves {moved} changed on the estimator"]
    drawn_from = any(isinstance(value, np.random.RandomState) for value in now.values())
    if frozen(estimator) != content and not drawn_from:
        return ["changes the estimator in place"]
    return []


def cannot_predict(estimator: Any, X: Any) -> list[str]:
    """Tell whether a fit that succeeded gives an estimator that can be used."""
    try:
        predicted = estimator.predict(X)
        probabilities = estimator.predict_proba(X)
    except Exception as error:
        return [f"is fitted, but predict on the same X raises {type(error).__name__}: {error}"]
    if not np.isfinite(probabilities).all():
        return ["is fitted, but gives probabilities that are not finite"]
    flags = estimator.isolate_scores_ > estimator.isolate_threshold_
    if len(predicted) != len(estimator.isolate_mask_) or (flags != estimator.isolate_mask_).any():
        return ["is fitted, but its flags do not follow from its scores"]
    return []


class TooLongError(BaseException):
    """Time is up."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """End the block by an error when time is up; where the system has such an alarm."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: Any) -> None:
        raise TooLongError

    was = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, was)


# --- leaks


def leaks() -> dict[str, Any]:
    """Compare memory and threads before and after 100 fits, after a warm-up."""
    X, y = images((40, 8, 8)), np.arange(40) % 4
    measured = []
    for n_fits in (32, 100):
        for turn in range(n_fits):
            name = list(CLASSIFIERS)[turn % len(CLASSIFIERS)]
            quick = {key: int(value) for key, value in CLASSIFIERS[name].items()}
            X_bad, y_bad, _ = antibackdoor.make_poisoned(X, y, random_state=turn)
            clf = _class(name)(batch_size=8, random_state=turn, **quick).fit(X_bad, y_bad)
            pickle.loads(pickle.dumps(clf)).predict(X)
        del clf
        gc.collect()
        process = psutil.Process()
        megabytes = process.memory_info().rss / 1e6
        measured.append({"megabytes": megabytes, "threads": process.num_threads()})
    grown = {key: measured[1][key] / measured[0][key] - 1 for key in measured[0]}
    return {
        "after the warm-up": measured[0],
        "after 100 fits more": measured[1],
        "growth": grown,
        "within": MOST_GROWTH,
        "leaks": [key for key, growth in grown.items() if growth > MOST_GROWTH],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--call", type=int, help="only this one, with its traceback")
    parser.add_argument("--leaks", action="store_true", help="memory and threads over 100 fits")
    parser.add_argument("--out", type=Path, help="where the report goes, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = {"provenance": provenance(), "seed": arguments.seed}
    out = None if arguments.out is None else arguments.out.resolve()
    with tempfile.TemporaryDirectory() as directory:
        start = os.getcwd()
        os.chdir(directory)  # for what hostile calls write: files, a joblib memory
        try:
            if arguments.leaks:
                report |= leaks()
            elif arguments.call is not None:
                show(arguments.seed, arguments.call)
                return
            else:
                report |= fuzz(arguments.calls, arguments.seed)
        finally:
            os.chdir(start)
    text = json.dumps(report, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    sys.exit(bool(report.get("offences") or report.get("leaks")))


def numbered_call(seed: int, number: int) -> Call:
    return draw_call(random.Random(f"{seed} {number}"))


def show(seed: int, number: int) -> None:
    call = numbered_call(seed, number)
    outcome = run(call)
    print(call, outcome.trace, outcome.raised, *outcome.offences, sep="\n")


def fuzz(n_calls: int, seed: int) -> dict[str, Any]:
    """Make the calls and return what came of them."""
    for name in [*CLASSIFIERS, *(kind.__name__ for kind in ATTACKS.values())]:
        fitted(name)  # before the first call is watched: what is fitted here is not its doing
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    offences, started = [], time.perf_counter()
    for number in range(n_calls):
        call = numbered_call(seed, number)
        outcome = run(call)
        counts[call.kind][outcome.raised] += 1
        if outcome.offences:
            offences.append({"call": number, "offences": outcome.offences, "text": str(call)})
            print(f"call {number}: {'; '.join(outcome.offences)}", file=sys.stderr, flush=True)
        elif number % 1000 == 999:
            print(f"{number + 1} calls", file=sys.stderr, flush=True)
    return {
        "calls": n_calls,
        "seconds": round(time.perf_counter() - started),
        "counts": {kind: dict(counter.most_common()) for kind, counter in sorted(counts.items())},
        "offences": offences,
    }


if __name__ == "__main__":
    main()
