"""Files that are broken, or made to do harm: each ends in a clear error, and nothing of it runs."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import re
import sys

import joblib
import numpy as np
import pytest
import torch

from antibackdoor import ABLClassifier, UndefendedClassifier, load_model, save_model
from antibackdoor.attacks import AdaptivePoison
from antibackdoor.defenses import Mixed
from antibackdoor.detection import LossRank
from antibackdoor.training._sealed import seal, unseal

#: A file that code in a hostile file would leave, and the module it would have imported.
CANARY = "canary_ran"
MODULE = "canary_that_no_file_may_import"

LABELS = np.arange(40) % 4


class Payload:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


# --- taking files apart


def parts(content):
    """Return the head of a file and what follows it."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def joined(head, arrays, length=None):
    """Put a file together, with the digest of its bytes where its head has one."""
    start = (len(head) if length is None else length).to_bytes(8, "little")
    found = re.search(rb'"digest":"([0-9a-f]{64})"', head)
    if found is None:
        return start + head + arrays
    blank = head.replace(found[1], b"0" * 64)
    digest = hashlib.sha256(start + blank + arrays).hexdigest()
    return start + head.replace(found[1], digest.encode()) + arrays


class Opened:
    """A good file, taken apart: the tests change what it tells, its state and its tensors."""

    def __init__(self, content):
        self.told = json.loads(parts(content)[0])["__metadata__"]
        text, self.tensors = unseal(content)
        self.state = as_dict(json.loads(text))
        del self.told["content"], self.told["digest"]

    def closed(self):
        tree = {"dict": list(map(list, self.state.items()))}
        return seal(json.dumps(tree), self.tensors, self.told)

    def weights(self, of="module_weights"):
        return as_dict(self.state[of])

    def array(self, node):
        return self.tensors[node["tensor"]].numpy()

    def node_of(self, array):
        """Add an array to the file, and return what stands for it."""
        if array.dtype.kind == "U" or not array.dtype.isnative:
            raw = self.node_of(np.frombuffer(array.tobytes(), "u1").copy())
            return plain(array.dtype.str, array.shape, raw)
        name = f"new {len(self.tensors)}"
        self.tensors[name] = torch.tensor(array)
        return {"tensor": name}

    def take_out(self, node):
        """Take the tensors out that a node names, and return it."""
        if isinstance(node, dict) and "tensor" in node:
            del self.tensors[node["tensor"]]
        for inner in node.values() if isinstance(node, dict) else node:
            if isinstance(inner, dict | list):
                self.take_out(inner)


def plain(dtype, shape, raw):
    return {"array": tuple_of(dtype, tuple_of(*shape), raw)}


def as_dict(node):
    return dict(node["dict"])


def change(node, **entries):
    """Change entries of a node that is a dictionary."""
    node["dict"][:] = [list(pair) for pair in {**as_dict(node), **entries}.items()]


def tuple_of(*items):
    return {"tuple": list(items)}


def of(kind, **parameters):
    return {kind: {"dict": [list(pair) for pair in parameters.items()]}}


# --- builders: each takes a good file's bytes and returns bad ones


BUILDERS = {}


def builder(message, of="classifier"):
    """Register a builder, by what the error says beside the name of the file."""

    def register(build):
        assert build.__name__ not in BUILDERS
        BUILDERS[build.__name__] = (build, of, message)
        return build

    return register


def edit(name, message, change, of="classifier"):
    """Register a builder that changes an open file."""

    def build(good):
        opened = Opened(good)
        change(opened)
        return opened.closed()

    assert name not in BUILDERS
    BUILDERS[name] = (build, of, message)


# No file of ours, or not a whole one


for name, content, message in (
    ("empty", b"", "cut, or no file of safetensors"),
    ("four_bytes", b"1234", "cut, or no file of safetensors"),
    ("text", b"a model, I promise\n", "cut, or no file of safetensors"),
    ("a_pickle", pickle.dumps(Payload()), "cut, or no file of safetensors"),
    ("a_head_of_nothing", bytes(8), "cut, or no file of safetensors"),
    ("a_head_of_no_bytes_and_more", bytes(1000), "cut, or no file of safetensors"),
    ("a_head_longer_than_memory", b"\xff" * 8 + bytes(1000), "cut, or no file of safetensors"),
    ("a_head_that_is_cut", (10**6).to_bytes(8, "little") + b"{" * 999, "cut, or no file of"),
):
    BUILDERS[name] = (lambda good, content=content: content, "classifier", message)


@builder("cut, or no file of safetensors")
def a_file_of_joblib(good):
    file = io.BytesIO()
    joblib.dump(Payload(), file)
    return file.getvalue()


@builder("a zip archive, such as the files of skops")
def a_file_of_torch(good):
    file = io.BytesIO()
    torch.save(Payload(), file)
    return file.getvalue()


@builder("cut, or no file of safetensors")
def a_pickle_before_the_file(good):
    return pickle.dumps(Payload()) + good


@builder("cut, or no file of safetensors")
def cut_in_the_head(good):
    return good[: len(parts(good)[0]) // 2]


@builder("digest")
def last_byte_missing(good):
    return good[:-1]


@builder("digest")
def bytes_appended(good):
    return good + pickle.dumps(Payload())


@builder("digest")
def a_byte_changed(good):
    return good[:-1] + bytes([good[-1] ^ 1])


@builder("digest")
def a_letter_of_the_head_changed(good):
    return good.replace(b"small-cnn", b"small-cnm", 1)


@builder("digest")
def the_digest_of_another_file(good):
    head, arrays = parts(good)
    found = re.search(rb'"digest":"([0-9a-f]{64})"', head)[1]
    return good.replace(found, hashlib.sha256(good).hexdigest().encode())


# Its head, with a digest that fits


def head(name, message, before, after, count=1):
    """Register a builder that writes something else into the head."""

    def build(good):
        text, arrays = parts(good)
        changed = re.sub(before, after, text, count=count)
        assert changed != text
        return joined(changed, arrays)

    assert name not in BUILDERS
    BUILDERS[name] = (build, "classifier", message)


UNREADABLE = "tensors cannot be read"
SECOND = rb'"data_offsets":\[(\d{2,}),'
head("a_name_twice", "a name is there twice", rb'"1":{', b'"0":{')
head("a_name_of_metadata_twice", "a name is there twice", rb'"model":', b'"format":"2","model":')
head("a_part_twice", "a name is there twice", rb"^{", b'{"__metadata__":{},')
head("offsets_that_overlap", UNREADABLE, SECOND, rb'"data_offsets":[0,')
head("offsets_that_leave_a_hole", UNREADABLE, SECOND, rb'"data_offsets":[9\1,')
head("offsets_that_go_back", UNREADABLE, rb"\[0,(\d+)\]", rb"[\1,0]")
head("offsets_beyond_the_end", UNREADABLE, rb"\[0,(\d+)\]", rb"[0,9\1]")
head("offsets_below_zero", UNREADABLE, rb"\[0,(\d+)\]", rb"[-1,\1]")
head("offsets_that_are_nan", UNREADABLE, rb"\[0,(\d+)\]", rb"[NaN,\1]")
head("offsets_without_end", UNREADABLE, rb"\[0,(\d+)\]", rb"[0,1e400]")
head("offsets_of_text", UNREADABLE, rb"\[0,(\d+)\]", rb'["0",\1]')
head("a_shape_without_end", UNREADABLE, rb'"shape":\[\d', rb'"shape":[99999999999999')
head("a_shape_that_overflows", UNREADABLE, rb'"shape":\[', b'"shape":[4294967296,4294967296,')
head("a_shape_below_zero", UNREADABLE, rb'"shape":\[', b'"shape":[-1,')
head("a_shape_that_is_nan", UNREADABLE, rb'"shape":\[', b'"shape":[NaN,')
head("a_wider_type", UNREADABLE, rb'"F32"', b'"F64"')
head("a_type_of_nothing", UNREADABLE, rb'"F32"', b'"O"')
head("a_head_that_is_no_json", "does not begin as", rb'"shape":', b'"shape"')
head("a_head_without_metadata", "save_model did not write", rb'"__metadata__"', b'"metadata"')
head("a_head_with_bytes_behind", "does not begin as", rb"$", b"}")
head("no_format", "its format is", rb'"format":', b'"formats":')
head("no_version", "of version", rb'"antibackdoor":', b'"writer":')
head("no_content", "is no dictionary|Expecting|JSON", rb'"content":', b'"contents":')
head("no_digest", "digest", rb'"digest":', b'"digests":')
head("no_model", "save_model did not write", rb'"model":', b'"models":')
head("a_number_that_is_told", UNREADABLE, rb'"format":"2"', b'"format":2')


@builder("does not begin as")
def a_head_nested_too_deeply(good):
    return joined(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b"")


@builder("does not begin as")
def a_head_that_is_a_list(good):
    return joined(b"[1, 2]", b"")


@builder("does not begin as")
def a_head_that_is_a_pickle(good):
    return joined(pickle.dumps(Payload()), parts(good)[1])


@builder("tensors cannot be read|not as such|digest|does not begin")
def a_head_in_another_encoding(good):
    text, arrays = parts(good)
    return joined(text.decode().encode("utf-16"), arrays)


# What it tells


def tells(name, message, **changes):
    edit(name, message, lambda file: file.told.update(changes))


tells(
    "a_newer_format",
    r"written by antibackdoor '9.0' in format 3; this is antibackdoor '.*', which reads",
    format="3",
    antibackdoor="9.0",
)
tells("the_format_of_before", "its format is 1, which were files of skops", format="1")
tells("a_format_of_text", "its format is 'one'", format="one")
tells("a_format_below_the_first", "its format is '0'", format="0")
tells("a_format_of_many_digits", "its format is '999", format="9" * 5000)
tells("another_estimator", "is of the type 'LogisticRegression'", model="LogisticRegression")
tells("a_model_of_another_module", f"is of the type '{MODULE}.Model'", model=f"{MODULE}.Model")
tells("a_part_for_a_model", "is of the type 'Mixed'", model="Mixed")
tells("a_base_class", "is of the type 'BaseDefense'", model="BaseDefense")
tells("another_model", "sets the attribute|had the parameters|lacks", model="BadNets")

# The text of its state


def text(name, message, content):
    """Register a builder that puts another text in the place of the state."""

    def build(good):
        opened = Opened(good)
        return seal(content, opened.tensors, opened.told)

    assert name not in BUILDERS
    BUILDERS[name] = (build, "classifier", message)


text("no_state", "Expecting value", "")
text("a_state_that_is_no_json", "Expecting", '{"dict": [')
text("a_state_that_is_a_pickle", "Expecting value", repr(pickle.dumps(Payload())))
text("a_state_nested_too_deeply", "nested too deeply", "[" * 200_000 + "]" * 200_000)
text("a_state_nested_in_quotes", "nested too deeply", '"[" ' + '[{"\\"]":' * 40)
text("a_state_of_no_tensors", "nothing refers to the tensor", '{"dict": []}')
text("a_node_of_no_kind", "a value of 0 kinds", "{}")
text("a_node_of_two_kinds", "a value of 2 kinds", '{"list": [], "tuple": []}')


@builder("the state that it holds is no dictionary")
def a_state_that_is_a_list(good):
    return seal("[]", {}, Opened(good).told)


@builder("the state that it holds is no dictionary")
def an_attribute_without_a_name(good):
    return seal('{"dict": [[3, 3]]}', {}, Opened(good).told)


@builder("a key is there twice")
def an_attribute_twice(good):
    return seal('{"dict": [["epochs", 1], ["epochs", -1]]}', {}, Opened(good).told)


# Nodes


def add_node(name, message, node):
    """Register a builder that puts a node among the attributes."""
    edit(name, message, lambda file: file.state.update(extra_=copy.deepcopy(node)))


for name, node in (
    ("a_function", {"os.mkdir": CANARY}),
    ("a_function_of_another_module", {f"{MODULE}.run": []}),
    ("an_object_of_another_module", of(f"{MODULE}.Model")),
    ("a_call", {"function": {"tuple": ["os.mkdir", CANARY]}}),
    ("a_partial_call", {"functools.partial": ["os.mkdir", CANARY]}),
    ("a_pickle_in_text", {"pickle": pickle.dumps(Payload()).hex()}),
    ("bytes", {"bytes": "00"}),
    ("a_module", {"module": MODULE}),
    ("an_estimator", of("LogisticRegression")),
    ("a_model_in_a_model", of("BadNets", size=3)),
    ("a_base_class_of_parts", of("Cure")),
    ("a_function_of_the_package", of("run_inside")),
    ("a_kind_without_a_name", {"": 1}),
):
    kind = re.escape(next(iter(node)))
    add_node(name, f"names the type '{kind}', which no model", node)
add_node("a_kind_of_many_letters", "names the type 'aaaa", {"a" * 10**6: 1})
add_node("a_list_of_text", "a list of str", {"list": "text"})
add_node("a_tuple_of_a_number", "a tuple of int", {"tuple": 3})
add_node("a_dict_of_text", "a dict of str", {"dict": "text"})
add_node("a_dict_without_pairs", "unpack", {"dict": [[1, 2, 3]]})
add_node("a_key_that_is_a_list", "unhashable", {"dict": [[[1], 2]]})
add_node("a_key_twice", "a key is there twice", {"dict": [["a", 1], ["a", 2]]})
add_node("a_tensor_that_is_missing", "tensor 'gone' is missing", {"tensor": "gone"})
add_node("a_tensor_that_is_used_twice", "tensor '0' is missing, or is there tw", {"tensor": "0"})
add_node("a_tensor_of_a_list", "unhashable", {"tensor": []})
add_node("a_float_of_text", "a float that is '1e400'", {"float": "1e400"})
add_node("a_float_of_a_list", r"a float that is '\[\]'", {"float": []})
add_node("a_scalar_of_text", "no array without axes", {"scalar": "3"})
add_node("texts_that_are_numbers", "a row of texts that are none", {"texts": {"list": [1]}})
add_node("texts_that_are_a_text", "a row of texts that are none", {"texts": "abc"})
add_node("an_array_of_text", "without type, shape and bytes", {"array": "3"})
add_node("an_array_of_objects", "array of '.O8'", plain("|O8", (1,), 0))
add_node("an_array_of_records", "array of 'i4,f4'", plain("i4,f4", (1,), 0))
add_node("an_array_of_a_list", "array of", plain({"list": []}, (1,), 0))
add_node("an_array_of_times", "array of '<M8", plain("<M8[s]", (1,), 0))
add_node("an_array_of_negative_shape", "claims the shape", plain("<U1", (-1,), 0))
add_node("an_array_of_no_whole_shape", "claims the shape", plain("<U1", (1.5,), 0))
add_node("an_array_of_true_shape", "claims the shape", plain("<U1", (True,), 0))
add_node("an_array_without_bytes", "whose bytes are none", plain("<U1", (1,), "abcd"))
add_node("a_random_state_of_nothing", "is not loaded", {"RandomState": {"dict": []}})
add_node("a_random_state_of_text", "is not loaded", {"RandomState": "MT19937"})
add_node("a_layout_of_nothing", "its ImageLayout has other fields", of("ImageLayout"))
add_node("a_layout_that_is_a_list", "its ImageLayout has other", {"ImageLayout": {"list": []}})
add_node("a_label_map_with_code", "its OneToOne has other fields", of("OneToOne", accepts=1))
add_node("a_part_of_a_number", "its Mixed has no parameters, but int", {"Mixed": 3})
for name, dtype, shape in (
    ("an_array_of_huge_shape", "<U1", (2**40, 2**40)),
    ("an_array_cut_short", "<U1", (5,)),
    ("an_array_with_bytes_behind", "<U1", (3,)),
):
    edit(
        name,
        "claims the shape .* and holds 16 bytes",
        lambda file, dtype=dtype, shape=shape: file.state.update(
            extra_=plain(dtype, shape, file.node_of(np.zeros(16, "u1")))
        ),
    )
for name, dtype in (("text_without_width", "<U0"), ("bytes_without_width", "|S0")):
    edit(
        name,
        "no width",
        lambda file, dtype=dtype: file.state.update(
            extra_=plain(dtype, (10**10,), file.node_of(np.zeros(0, "u1")))
        ),
    )
edit(
    "an_array_of_other_bytes",
    "whose bytes are none",
    lambda file: file.state.update(extra_=plain("<U1", (4,), file.node_of(np.zeros(4, "f4")))),
)
edit(
    "a_scalar_with_axes",
    "no array without axes",
    lambda file: file.state.update(extra_={"scalar": file.node_of(np.zeros(4))}),
)
edit(
    "a_tensor_that_is_not_used",
    "nothing refers to the tensor 'new",
    lambda file: file.node_of(np.zeros(3)),
)
edit(
    "a_tensor_that_numpy_does_not_have",
    "BFloat16",
    lambda file: file.tensors.update({"0": file.tensors["0"].to(torch.bfloat16)}),
)


def _nest(file):
    inner = 1
    for _ in range(40):
        inner = {"list": [inner]}
    file.state["extra_"] = inner


edit("a_value_nested_too_deeply", "nested too deeply", _nest)

# Detectors and cures


def part(name, message, key, node):
    edit(name, message, lambda file: file.state.update({key: copy.deepcopy(node)}), "cured")


part("a_detector_of_no_class", "names the type 'Sieve'", "detector", of("Sieve", epochs=1))
part("a_detector_that_is_a_cure", "'detector' parameter", "detector", of("Retrain"))
part("a_cure_that_is_a_detector", "'cure' parameter", "cure", of("LossRank"))
part("a_detector_that_is_text", "'detector' parameter", "detector", "LossRank")
part("a_weighting_of_abl", "had the parameters", "weighting", of("RelativeLoss"))
for name, key, kind, parameter, value, message in (
    ("unknown", "detector", "LossRank", "epoch_count", 1, r"LossRank had the parameters \['epoch"),
    ("method", "detector", "LossRank", "fit", 1, r"LossRank had the parameters \['fit'"),
    ("class", "cure", "Mixed", "__class__", 1, r"Mixed had the parameters \['__class__'"),
    ("fitted", "detector", "LossRank", "isolate_", 1, r"LossRank had the parameters"),
    ("epochs", "detector", "LossRank", "epochs", -1, "'epochs' parameter of LossRank"),
    ("size", "detector", "LossRank", "batch_size", 2.5, "'batch_size' parameter of LossRank"),
    ("rate", "detector", "LossRank", "learning_rate", {"float": "nan"}, "'learning_rate' param"),
    ("bool", "detector", "LossRank", "epochs", True, "epochs=True of LossRank"),
    ("ratio", "detector", "LossRank", "ratio", {"texts": {"list": ["a"]}}, "'ratio' parameter"),
    ("folder", "detector", "LossRank", "cache_dir", "/tmp", "sets cache_dir='/tmp'; wanted None"),
    ("backbone", "detector", "LossRank", "backbone", 3, "'backbone' parameter of LossRank"),
    ("nested", "detector", "LossRank", "backbone", of("Mixed"), "'backbone' parameter of Loss"),
    ("bound", "cure", "Mixed", "bound", -1.0, "'bound' parameter of Mixed"),
    ("cure", "cure", "Mixed", "epochs", of("Mixed"), "'epochs' parameter of Mixed"),
    (
        "own",
        "detector",
        "LossRank",
        "backbone",
        "<a network of your own: give it to load_model(path, backbone=...)>",
        "network of your own",
    ),
):
    part(f"a_part_with_{name}", message, key, of(kind, **{parameter: value}))


def _part_with_a_random_state(file):
    random_state = file.state["random_state"]
    change(as_dict(random_state["RandomState"])["state"], pos=10**6)
    file.state["random_state"] = 0
    file.state["detector"] = of("LossRank", random_state=random_state)


edit("a_part_with_a_random_state", "at position 1000000 of", _part_with_a_random_state, "cured")
edit(
    "a_part_for_classes",
    "classes_ are no array",
    lambda file: (file.take_out(file.state["classes_"]), file.state.update(classes_=of("Mixed"))),
)

# Weights


def weights(name, message, change_array, key="head.bias"):
    """Register a builder that changes one array of weights."""

    def changed(file):
        found = file.weights()[key]
        array = file.array(found)
        del file.tensors[found["tensor"]]
        change(file.state["module_weights"], **{key: file.node_of(change_array(array))})

    edit(name, message, changed)


def _first(replacement):
    def change(array):
        array = array.copy()
        array.flat[0] = replacement
        return array

    return change


weights("weights_with_nan", "head.bias of module_ hold 1 values", _first(np.nan))
weights("weights_with_infinity", "head.bias of module_ hold 1 values", _first(-np.inf))
weights("weights_of_wider_dtype", "wanted float32", lambda array: array.astype("f8"))
weights("weights_of_whole_numbers", "wanted float32", lambda array: array.astype("i4"))
weights("weights_of_the_other_byte_order", "dtype >f4", lambda array: array.astype(">f4"))
weights("weights_of_text", "dtype <U", lambda array: array.astype("U"))
weights("head_of_whole_numbers", "do not fit", lambda array: array.astype("i8"), key="head.weight")
weights("weights_of_another_shape", "size mismatch", lambda array: np.repeat(array, 2))
weights(
    "a_mean_of_another_shape",
    "fails on a row",
    lambda array: np.repeat(array, 3),
    "standardise.mean",
)


def _without(node, key):
    node["dict"][:] = [pair for pair in node["dict"] if pair[0] != key]


edit(
    "weights_that_are_missing",
    "Missing key.*head.bias",
    lambda file: (
        file.take_out(file.weights()["head.bias"]),
        _without(file.state["module_weights"], "head.bias"),
    ),
)
edit(
    "weights_of_another_name",
    "(?s)Missing key.*Unexpected key",
    lambda file: (
        change(file.state["module_weights"], **{"body.hook": file.weights()["head.bias"]}),
        _without(file.state["module_weights"], "head.bias"),
    ),
)
edit(
    "weights_that_are_a_number",
    "module_weights are no weights",
    lambda file: change(file.state["module_weights"], more=1),
)


# What is said of the model


def attribute(name, key, replacement, message, of="classifier"):
    """Register a builder that replaces an attribute or parameter."""

    def changed(file):
        old = file.state[key]
        if isinstance(old, dict):
            file.take_out(old)
        is_array = isinstance(replacement, np.ndarray)
        file.state[key] = file.node_of(replacement) if is_array else copy.deepcopy(replacement)

    edit(name, message, changed, of)


attribute("classes_twice", "classes_", np.array([0, 1, 1, 2]), "classes_ are not sorted")
attribute("classes_of_two_axes", "classes_", np.zeros((2, 2)), "classes_ are no array")
attribute("classes_with_nan", "classes_", np.array([0, 1, 2, np.nan]), "classes_ are not sorted")
attribute("classes_that_are_text", "classes_", "0123", "classes_ are no array")
attribute("more_classes_than_logits", "classes_", np.arange(9), "size mismatch")
attribute("mask_too_short", "isolate_mask_", np.zeros(39, bool), "isolate_mask_ does not follow")
attribute("mask_of_numbers", "isolate_mask_", np.zeros(40), "isolate_mask_ does not follow")
attribute("rows_that_are_not_there", "isolate_", np.array([99]), "isolate_ does not follow")
attribute("scores_with_nan", "isolate_scores_", np.full(40, np.nan), "scores_ hold NaN")
attribute("scores_of_text", "isolate_scores_", np.full(40, "a"), "no float64 array")
attribute("threshold_of_text", "isolate_threshold_", "0", "isolate_threshold_ is 0")
attribute("flagged_classes_unknown", "isolate_classes_", np.array([7]), "not all among")
attribute("history_of_text", "history_", "epochs", "history_ is no list")
attribute("rows_without_end", "input_shape_", tuple_of(8, 10**12), "larger max_bytes")
attribute("rows_of_negative_size", "input_shape_", tuple_of(8, -8), "input_shape_ is")
attribute("rows_of_other_features", "n_features_in_", 9, "n_features_in_ is 9")
attribute("rows_that_are_text", "input_shape_", "8x8", "input_shape_ is 8x8")
attribute("a_negative_parameter", "epochs", -1, "'epochs' parameter")
attribute("a_device_that_is_a_number", "device", 3, "'device' parameter")
for name, key, message in (
    ("names_of_other_features", "feature_names_in_", "feature_names_in_ are not 8"),
    ("an_attribute_of_another_class", "clean_mask_", "'clean_mask_', which no fitted Und"),
    ("an_attribute_of_no_class", "extra_", "'extra_', which no fitted UndefendedClassifier has"),
):
    edit(
        name,
        message,
        lambda file, key=key: file.state.update({key: "x"}),
    )
for name, key, message in (
    ("a_layout_that_is_none", "layout", "its layout is 'x'"),
    ("a_type_of_pixels", "uint8", "whether X was uint8"),
):
    edit(
        name,
        message,
        lambda file, key=key: change(file.state["_fitted_with"], **{key: "x"}),
    )
attribute("no_parameters_of_the_network", "_fitted_with", None, "_fitted_with")

for name, backbone, message in (
    ("an_unknown_backbone", "os.system", "backbone='os.system' is unknown"),
    ("another_backbone", "resnet152", "do not fit"),
    ("a_backbone_without_end", "wrn-600004-1", "holds .* arrays only"),
    ("a_backbone_as_wide_as_memory", "wrn-10-100000", "do not fit"),
    ("a_backbone_of_a_long_number", f"wrn-{'9' * 5000}-1", "arrays only"),
    ("a_backbone_that_is_none", None, "backbone=None"),
    (
        "a_backbone_that_the_user_does_not_give",
        "<a network of your own: give it to load_model(path, backbone=...)>",
        "network of your own",
    ),
):
    edit(
        name,
        message,
        lambda file, backbone=backbone: change(file.state["_fitted_with"], backbone=backbone),
    )

for name, key, content, message in (
    ("a_method_replaced", "predict", "print", "sets the attribute 'predict'"),
    ("its_class_replaced", "__class__", "print", "sets the attribute '__class__'"),
    ("a_name_that_is_none", "a b", 1, "sets the attribute 'a b'"),
    ("an_unknown_parameter", "epoch_count", 1, "had the parameters"),
):
    edit(
        name,
        message,
        lambda file, key=key, content=content: file.state.update({key: content}),
    )
edit(
    "an_attribute_that_is_missing",
    "lacks .*isolate_threshold_",
    lambda file: file.state.pop("isolate_threshold_"),
)


def _move_random_state(file):
    change(as_dict(file.state["random_state"]["RandomState"])["state"], pos=10**6)


edit("a_random_state_beyond_its_end", "random_state is at position", _move_random_state)


# Attacks


def layout(file, **changes):
    change(file.state["layout_"]["ImageLayout"], **changes)


edit("a_layout_of_another_size", "layout_ is not", lambda f: layout(f, height=800), "attack")
edit("a_layout_of_text", "layout_ is not", lambda f: layout(f, height="8"), "attack")
edit("a_layout_of_another_axis", "layout_ is not", lambda f: layout(f, channels_axis="?"), "attack")
edit(
    "a_layout_cut",
    "its ImageLayout has other fields",
    lambda file: _without(file.state["layout_"]["ImageLayout"], "channels"),
    "attack",
)
attribute(
    "a_range_of_nan", "value_range_", tuple_of(0, {"float": "nan"}), "value_range_ is", "attack"
)
attribute("a_range_turned_round", "value_range_", tuple_of(9, 1), "value_range_ is", "attack")
attribute("a_type_of_row", "_fit_dtype", "object", "of type 'object'", "attack")
attribute("networks_without_end", "_fitted_n_surrogates", 10**9, "networks", "attack")
attribute("a_trigger_too_large", "pattern_", np.zeros((30, 30)), "pattern_ has shape", "attack")
attribute("a_history_of_numbers", "history_", {"list": [1]}, "row 0 that is no dict", "attack")
edit(
    "weights_of_no_kind",
    "surrogates_ are no weights",
    lambda file: change(file.state["surrogates_"], more=1),
    "attack",
)


# A detector


def signs_of(array):
    """Return a change that gives a detector a sign of poison."""

    def changed(file):
        file.state["isolate_signs_"] = {"dict": [["diversity", file.node_of(array)]]}

    return changed


for name, key, replacement, message in (
    ("mask_too_short", "isolate_mask_", np.zeros(39, bool), "isolate_mask_ does not follow"),
    ("rows_that_are_not_there", "isolate_", np.array([99]), "isolate_ does not follow"),
    ("rows_below_zero", "isolate_", np.array([-1]), "isolate_ does not follow"),
    ("scores_with_nan", "isolate_scores_", np.full(40, np.nan), "scores_ hold NaN"),
    ("threshold_of_text", "isolate_threshold_", "0", "isolate_threshold_ is 0"),
    ("class_that_is_unknown", "isolate_classes_", np.array([7]), "not all among"),
    ("p_value_above_one", "isolate_pvalue_", 1.5, "isolate_pvalue_ is 1.5"),
    ("p_value_of_text", "isolate_pvalue_", "0.05", "isolate_pvalue_ is"),
    ("classes_twice", "classes_", np.array([0, 1, 1, 2]), "classes_ are not sorted"),
    ("history_of_text", "history_", "epochs", "history_ is no list"),
    ("rows_of_negative_size", "input_shape_", tuple_of(8, -8), "input_shape_ is"),
    ("signs_of_text", "isolate_signs_", "diversity", "isolate_signs_ is no dictionary"),
    ("rate_of_text", "ratio", "half", "'ratio' parameter of LossRank"),
    ("folder", "cache_dir", "/tmp", "sets cache_dir='/tmp'; wanted None"),
):
    attribute(f"a_detector_with_a_{name}", key, replacement, message, "detector")
for name, change_of, message in (
    ("sign_of_other_classes", signs_of(np.zeros(5)), r"'diversity' that has shape \(5,\)"),
    ("sign_that_is_infinite", signs_of(np.full(4, np.inf)), "'diversity' that holds infinite"),
    ("sign_of_integers", signs_of(np.arange(4)), "'diversity' that is an array of int64"),
    (
        "sign_of_its_own",
        lambda file: file.state.update(isolate_signs_={"dict": [["mine", 1]]}),
        "isolate_signs_ has the entries",
    ),
    (
        "network",
        lambda file: file.state.update(module_weights={"dict": []}),
        "sets the attribute 'module_weights', which no fitted LossRank has",
    ),
    (
        "method",
        lambda file: file.state.update(fit_resample="x"),
        "sets the attribute 'fit_resample', which is the class's own",
    ),
    ("missing_p_value", lambda file: file.state.pop("isolate_pvalue_"), "lacks .*pvalue_"),
    (
        "parameter_of_before",
        lambda file: file.state.update(fraction=1),
        r"LossRank had the parameters \['fraction'\]",
    ),
    ("other_name", lambda file: file.told.update(model="BaseDetector"), "no classifier, detector"),
    (
        "name_of_a_classifier",
        lambda file: file.told.update(model="UndefendedClassifier"),
        "UndefendedClassifier",
    ),
):
    edit(f"a_detector_with_a_{name}", message, change_of, "detector")
edit(
    "a_classifier_that_says_it_is_a_detector",
    "which is the class's own|which no fitted PoisonSearch has|had the parameters",
    lambda file: file.told.update(model="PoisonSearch"),
)

# --- the test


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Files of two classifiers, a detector and an attack, as bytes."""
    X = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    models = {
        "classifier": UndefendedClassifier(
            backbone="small-cnn", epochs=1, random_state=np.random.RandomState(0)
        ),
        "cured": ABLClassifier(
            backbone="small-cnn",
            epochs=1,
            detector=LossRank(epochs=1, ratio=0.1),
            cure=Mixed(epochs=1, recovery_epochs=1),
            random_state=np.random.RandomState(0),
        ),
        "detector": LossRank(backbone="small-cnn", epochs=1, ratio=0.1),
        "attack": AdaptivePoison(
            surrogate="small-cnn", surrogate_epochs=1, steps=1, n_surrogates=2, size=2
        ),
    }
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    files = {}
    for name, model in models.items():
        save_model(model.fit(X, LABELS), path)
        files[name] = path.read_bytes()
        # What the builders do to a file does no harm by itself.
        for content in (Opened(files[name]).closed(), joined(*parts(files[name]))):
            path.write_bytes(content)
            load_model(path)
    return files


@pytest.mark.parametrize("name", BUILDERS)
def test_a_hostile_file_is_refused_and_runs_nothing(name, good, tmp_path, monkeypatch):
    build, of, message = BUILDERS[name]
    (tmp_path / f"{MODULE}.py").write_text(f"import os\nos.mkdir({CANARY!r})\nModel = run = dict\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    bad = build(copy.copy(good[of]))
    assert bad != good[of]
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(bad)
    with pytest.raises(ValueError, match=message) as refusal:
        load_model(path)
    assert str(refusal.value).startswith(f"{path} is not loaded: ")
    assert not (tmp_path / CANARY).exists()
    assert MODULE not in sys.modules


def test_the_canaries_would_sing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Payload()))
    assert (tmp_path / CANARY).exists()


def test_there_are_enough_of_them():
    assert len(BUILDERS) >= 200


def test_what_is_counted_before_it_is_read(good, tmp_path):
    path = tmp_path / "hostile.safetensors"
    content = joined(b" " * 2**20 + b"{}", b"")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="reading it takes .* more than max_bytes"):
        load_model(path, max_bytes=len(content))
    opened = Opened(good["classifier"])
    texts = np.full(200_000, "a")
    opened.state["extra_"] = opened.node_of(texts)
    path.write_bytes(opened.closed())
    with pytest.raises(ValueError, match="its labels take .* more than max_bytes"):
        load_model(path, max_bytes=path.stat().st_size)
