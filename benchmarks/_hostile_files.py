"""Files of models that no fit leaves: states with changes, and bytes with changes."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import random
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from antibackdoor import detection
from antibackdoor.defenses import Mixed, RelativeLoss
from antibackdoor.persistence._format import FORMAT
from antibackdoor.persistence._values import to_node
from antibackdoor.training._pack import pack
from antibackdoor.training._sealed import head_length, seal

NUMBERS = [
    *(0, -1, 1, 2, 3, 7, 8, 9, 64, 255, 624, 10**4, 10**6, 2**31, -(2**31), 2**40, 2**63, -(2**63)),
    *(
        10**18,
        10**30,
        10**400,
        0.5,
        -0.5,
        7.0,
        1e-320,
        1e38,
        1e300,
        -1e300,
        np.nan,
        np.inf,
        -np.inf,
    ),
    *(True, False),
]
OTHERS = [
    *(None, "", "x", "a" * 10**5, [], {}, (), [1], [[1], [2, 3]], (8, 8), {"a": 1}, [None] * 3),
    *("mlp", "small-cnn", "wrn-16-1", "wrn-10-5000", "wrn-40004-1", "resnet18", "vit_b_16"),
    *("squeezenet1_0", "swin_v2_t", "maxvit_t", "auto", "float64", "channels_last", "none"),
    *(np.zeros(0), np.zeros((0, 8)), np.array(3), np.arange(5), np.full(3, "x"), np.zeros((8, 8))),
    *(np.array(["a", "b", "c"], dtype=object), np.float64(2), np.int8(3), np.random.RandomState(0)),
    *(detection.PoisonSearch(), detection.LossRank(epochs=-1), detection.LossRank(cache_dir="x")),
    *(Mixed(epochs=10**30), RelativeLoss(rejection="x"), detection.LossRank(ratio=np.zeros(3))),
]
DTYPES = ["u1", "i1", "i4", "i8", "f2", "f4", "f8", "g", ">f4", ">i8", "?", "U3", "S3"]
#: Parts of a head that become others; the second may be longer or shorter.
HEADERS = [
    (b'"shape":[', b'"shape":[9'),
    (b'"shape":[', b'"shape":[-'),
    (b'"shape":[', b'"shape":[0,'),
    (b'"shape":[8,8]', b'"shape":[64]'),
    (b'"data_offsets":[0,', b'"data_offsets":[1,'),
    (b'"data_offsets":[0,', b'"data_offsets":[1e400,'),
    (b'"F64"', b'"I64"'),
    (b'"F64"', b'"BF16"'),
    (b'"F32"', b'"I32"'),
    (b'"F32"', b'"F8_E4M3"'),
    (b'"I64"', b'"U64"'),
    (b'"U8"', b'"I8"'),
    (b'"1":{', b'"0":{'),
    (b'\\"tensor\\"', b'\\"texts\\"'),
    (b'\\"tuple\\"', b'\\"list\\"'),
    (b'\\"dict\\"', b'\\"LossRank\\"'),
    (b"null", b"[[[[]]]]"),
]


State = dict[str, Any]


def to_file(kind: type, state: State) -> bytes:
    """Write a state into a file, whether or not a model can have it.

    The only place that knows what files are made of.
    """
    text, tensors = pack(state, to_node)
    told = {"format": str(FORMAT), "antibackdoor": "0", "model": kind.__name__}
    return seal(text, tensors, told)


# --- mutations of a state


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where there is something in a state: keys, positions and names of fields."""
    found = [path] if path else []
    for key, part in parts(value).items():
        found += places(part, (*path, key))
    return found


def parts(value: Any) -> dict[Any, Any]:
    """Return what a value is made of."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dict(vars(value))
    if isinstance(value, BaseEstimator):
        return value.get_params(deep=False)
    return {}


def get(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = parts(value)[key]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a value with something else in one place."""
    if not path:
        return new
    changed = put(parts(value)[path[0]], path[1:], new)
    if isinstance(value, tuple):
        return (*value[: path[0]], changed, *value[path[0] + 1 :])
    copied = copy.copy(value)
    if isinstance(copied, dict | list):
        copied[path[0]] = changed
    else:
        vars(copied)[path[0]] = changed
    return copied


def change(value: Any, rng: random.Random) -> Any:
    """Return something in the place of a value."""
    if isinstance(value, np.ndarray) and value.dtype != object and rng.random() < 0.8:
        return change_array(value, rng)
    if isinstance(value, list | tuple) and rng.random() < 0.5:
        longer = rng.choice([value[:-1], value + value, value[::-1], value * 1000, value[:0]])
        return longer if len(longer) < 20_000 else value[:-1]
    if isinstance(value, dict) and value and rng.random() < 0.5:
        key = rng.choice(list(value))
        rest = {name: entry for name, entry in value.items() if name != key}
        return rng.choice([rest, {**rest, f"{key}x": value[key]}, {**value, "extra": 1}])
    return rng.choice(NUMBERS if rng.random() < 0.6 else OTHERS)


def change_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Return another array: of other values, another type or another shape."""
    how = rng.randrange(9)
    if array.ndim == 0:
        return np.array(rng.choice([0, -1, 10**9, np.nan]))
    with np.errstate(all="ignore"):
        if how == 0:
            return array.astype(rng.choice(DTYPES))
        if how == 1:
            return rng.choice([array.ravel(), array[None], array.T, array[..., None], array[:0]])
        if how == 2:
            return np.repeat(array, rng.choice([2, 3, 1000]), axis=0)
        if how == 3:
            return np.zeros(rng.choice([(1,), (10**6,), (0, 10**9), (3, 3), (1000, 1000), ()]))
        if how == 4:
            return array[::-1].copy()
        numbers = [float(n) for n in NUMBERS if abs(n) < 10**300 or n != n]
        changed = array.astype(
            rng.choice([array.dtype, np.dtype("f8")]) if how == 5 else array.dtype
        )
        if changed.size == 0 or changed.dtype.kind in "US":
            return changed.astype("U5")
        changed = np.array(changed)
        where = slice(None) if how == 6 else rng.randrange(changed.size)
        changed.reshape(-1)[where] = np.asarray(rng.choice(numbers)).astype(changed.dtype)
        return changed


def mutate(kind: type, state: State, rng: random.Random, all_states: Any) -> tuple[type, State]:
    """Change a state in one to three places, or give it to another class."""
    state = copy.deepcopy(state)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        how = rng.random()
        fitted = [p for p in places(state) if p[0].endswith("_") or p[0].startswith("_")]
        path = rng.choice(fitted if fitted and rng.random() < 0.7 else places(state))
        if how < 0.5:
            state = put(state, path, change(get(state, path), rng))
        elif how < 0.6:
            other = rng.choice(places(state))
            one, two = get(state, path), get(state, other)
            if path[: len(other)] != other and other[: len(path)] != path:
                state = put(put(state, path, two), other, one)
        elif how < 0.66:
            state.pop(rng.choice(list(state)))
        elif how < 0.74:
            state = claim_size(state, *draw_size(rng))
        elif how < 0.82:
            _, foreign = rng.choice(all_states)
            name = rng.choice(list(foreign))
            state[name] = copy.deepcopy(foreign[name])
        elif how < 0.9:
            name = rng.choice(["extra_", "_extra", "transform", "predict", "__class__", "fit", "x"])
            state[name] = change(None, rng)
        elif how < 0.95:
            kind = rng.choice(all_states)[0]
        else:
            arrays = [p for p in places(state) if isinstance(get(state, p), np.ndarray)]
            path = rng.choice(arrays)
            state = put(state, path, change_array(get(state, path), rng))
    return kind, state


def draw_size(rng: random.Random) -> tuple[int, int]:
    """Draw height and width of an image, of which a part fits into the memory."""
    height = round(2 ** rng.uniform(0, 12))
    return height, rng.choice([height, max(1, round(2 ** rng.uniform(6, 19)) // height), 2**31])


def claim_size(state: State, height: int, width: int) -> State:
    """Say that rows are of another size, wherever the state says it."""
    state = {**state, "input_shape_": (height, width), "n_features_in_": height}
    for name, value in (("input_shape", (height, width)), ("height", height), ("width", width)):
        if name in parts(state.get("layout_")):
            state = put(state, ("layout_", name), value)
    for name, array in state.items():
        if isinstance(array, np.ndarray) and array.shape[-2:] == (8, 8) and width < 2**31:
            # What was there, again and again: a grid of WaNet stays inside of the new image.
            state[name] = np.resize(array, (*array.shape[:-2], height, width))
    return state


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change a file, so that its checksums hold or not."""
    if rng.random() < 0.3:
        cut = rng.randrange(len(content))
        flipped = bytearray(content)
        flipped[cut] ^= rng.randrange(1, 256)
        return rng.choice([content[:cut], bytes(flipped), content[cut:], content + content[cut:]])
    end = 8 + head_length(content)
    head, arrays = content[8:end], content[end:]
    if rng.random() < 0.6:
        head = head.replace(*rng.choice(HEADERS), rng.choice([1, 1000]))
    else:
        at = rng.randrange(len(head))
        head = head[:at] + rng.choice([b"9", b"-", b"0", b"{}"]) + head[at + 1 :]
    length = len(head) if rng.random() < 0.9 else rng.choice([0, 1, 7, len(content), 2**62])
    return resealed(length.to_bytes(8, "little") + head + arrays)


def resealed(content: bytes) -> bytes:
    """Give a file the digest of its bytes, as whoever changes one on purpose can."""
    end = 8 + head_length(content)
    try:
        digest = json.loads(content[8:end])["__metadata__"]["digest"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return content  # refused before its digest is asked for
    head = content[:end].replace(digest.encode(), b"0" * 64)
    now = hashlib.sha256(head + content[end:]).hexdigest()
    return head.replace(b'"digest":"' + b"0" * 64, b'"digest":"' + now.encode()) + content[end:]


def hostile_file(all_states: Any, seed: int, number: int) -> tuple[str, bytes]:
    """Return the name of the class, and a file with that number."""
    rng = random.Random(f"{seed} {number}")
    kind, state = all_states[number % len(all_states)]
    if rng.random() < 0.15:
        return kind.__name__, mutate_bytes(to_file(kind, state), rng)
    for _ in range(20):
        changed, mutated = mutate(kind, state, rng, all_states)
        try:
            return changed.__name__, to_file(changed, mutated)
        except (OverflowError, TypeError, ValueError, AttributeError, RecursionError):
            continue  # what no file can hold
    return kind.__name__, to_file(kind, state)
