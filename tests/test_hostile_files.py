"""Files that are broken, or made to do harm: each ends in a clear error, and nothing of it runs."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import pickle
import re
import struct
import sys
import zipfile

import joblib
import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from antibackdoor import UndefendedClassifier, load_model, save_model
from antibackdoor.attacks import AdaptivePoison

#: A file that code in a hostile file would leave, and the module it would have imported.
CANARY = "canary_ran"
MODULE = "canary_that_no_file_may_import"

LABELS = np.arange(40) % 4


class Payload:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


# --- taking files apart


def unzipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members, compression=zipfile.ZIP_STORED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return packed.getvalue()


class Opened:
    """A good file, taken apart: `state` is the part of its schema that the tests change."""

    def __init__(self, content):
        self.members = unzipped(content)
        self.schema = json.loads(self.members["schema.json"])
        self.state = self.schema["content"]["content"]

    def closed(self):
        return zipped({**self.members, "schema.json": json.dumps(self.schema)})

    def unstamped(self):
        """Close it as one that older versions wrote, which no digest guards."""
        remove(self.schema["content"], "_file")
        return self.closed()

    def weights(self, of="module_weights"):
        return self.state[of]["content"]

    def array(self, node):
        return np.load(io.BytesIO(self.members[node["file"]]))

    def set_array(self, node, array):
        node["file"] = f"{1 + len(self.members)}.npy"
        self.members[node["file"]] = as_npy(array)


def as_npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def remove(dictionary, key):
    place = list(dictionary["content"]).index(key)
    del dictionary["content"][key], dictionary["key_types"]["content"][place]


def add(dictionary, key, node):
    dictionary["content"][key] = node
    dictionary["key_types"]["content"].append(
        {"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"}
    )


def value(content):
    return {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "content": json.dumps(content),
        "is_json": True,
    }


def sequence(*nodes, kind="list"):
    loader = {"list": "ListNode", "tuple": "TupleNode"}[kind]
    return {
        "__class__": kind,
        "__module__": "builtins",
        "__loader__": loader,
        "content": list(nodes),
    }


def node(loader, name, **entries):
    module, _, kind = name.rpartition(".")
    return {"__class__": kind, "__module__": module, "__loader__": loader, **entries}


def dictionary():
    return node("DictNode", "builtins.dict", content={}, key_types=sequence())


# --- builders: each takes a good file's bytes and returns bad ones


BUILDERS = {}


def builder(message, of="classifier"):
    """Register a builder, by what the error says beside the name of the file."""

    def register(build):
        BUILDERS[build.__name__] = (build, of, message)
        return build

    return register


def edit(name, message, change, of="classifier"):
    """Register a builder that changes an open file without a digest."""

    def build(good):
        opened = Opened(good)
        change(opened)
        return opened.unstamped()

    BUILDERS[name] = (build, of, message)


# Not even an archive, or not a whole one


@builder("no zip archive")
def empty(good):
    return b""


@builder("no zip archive")
def text(good):
    return b"a model, I promise\n"


@builder("no zip archive")
def a_pickle(good):
    return pickle.dumps(Payload())


@builder("no zip archive")
def a_file_of_joblib(good):
    file = io.BytesIO()
    joblib.dump(Payload(), file)
    return file.getvalue()


@builder("member named '.*data.pkl'")
def a_file_of_torch(good):
    file = io.BytesIO()
    torch.save(Payload(), file)
    return file.getvalue()


@builder("no zip archive")
def a_pickle_before_the_archive(good):
    return pickle.dumps(Payload()) + good


@builder("broken or cut")
def cut_in_half(good):
    return good[: len(good) // 2]


@builder("broken or cut")
def last_byte_missing(good):
    return good[:-1]


@builder("broken or cut")
def a_byte_changed(good):
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        first = archive.infolist()[0]
    place = first.header_offset + 30 + len(first.filename) + first.file_size - 1
    return good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]


@builder("more than 100000 members")
def a_hundred_thousand_members(good):
    return good + b"PK\x01\x02" * 100_001


# Members


def with_member(good, name, content=b"\x80\x04N."):
    return zipped([*unzipped(good).items(), (name, content)])


@builder("member named 'model.pkl'")
def a_pickle_beside_the_arrays(good):
    return with_member(good, "model.pkl", pickle.dumps(Payload()))


@builder(r"member named '../../1.npy'")
def a_name_that_climbs(good):
    return with_member(good, "../../1.npy")


@builder("member named '/tmp/1.npy'")
def an_absolute_name(good):
    return with_member(good, "/tmp/1.npy")


@builder(r"member named '\.\.\\\\1.npy'")
def a_name_with_a_backslash(good):
    # zipfile itself would write a slash on Windows.
    return with_member(good, "..|1.npy").replace(b"..|1.npy", b"..\\1.npy")


@builder(r"member named '1.npy\\x00.pkl'")
def a_name_with_a_nul(good):
    return with_member(good, "1.npy|.pkl").replace(b"1.npy|.pkl", b"1.npy\0.pkl")


@builder("more than one member")
def a_name_twice(good):
    name = next(iter(unzipped(good)))
    renamed = "7" * (len(name) - 4) + ".npy"
    return with_member(good, renamed).replace(renamed.encode(), name.encode())


@builder("no schema.json")
def no_schema(good):
    return zipped({k: v for k, v in unzipped(good).items() if k != "schema.json"})


@builder("nothing refers to")
def an_array_that_is_not_used(good):
    return with_member(good, "77.npy", as_npy(np.zeros(3)))


@builder("missing or that nothing")
def an_array_that_is_missing(good):
    members = unzipped(good)
    del members[next(name for name in members if name != "schema.json")]
    return zipped(members)


@builder("encrypted")
def encrypted(good):
    changed = bytearray(good)
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = changed.find(header)
        changed[start + place] |= 1
    return bytes(changed)


@builder("compressed by method 14")
def another_compression(good):
    return zipped(unzipped(good), zipfile.ZIP_LZMA)


@builder("as zip bombs do")
def a_zip_bomb(good):
    return zipped({**unzipped(good), "77.npy": bytes(2**25)}, zipfile.ZIP_DEFLATED)


@builder("broken or cut.*77.npy")
def a_bomb_that_claims_to_be_small(good):
    bomb = zipped({**unzipped(good), "77.npy": bytes(2**22)}, zipfile.ZIP_DEFLATED)
    return bomb.replace(struct.pack("<L", 2**22), struct.pack("<L", 100))


# The schema's text


def with_schema(good, text):
    return zipped({**unzipped(good), "schema.json": text})


@builder("a key is there twice")
def a_key_twice(good):
    text = unzipped(good)["schema.json"]
    return with_schema(good, text.replace(b'"protocol"', b'"__class__": "str", "protocol"'))


@builder("nested too deeply")
def a_schema_nested_too_deeply_to_parse(good):
    return with_schema(good, b"[" * 200_000 + b"]" * 200_000)


@builder("no JSON")
def a_schema_that_is_a_pickle(good):
    return with_schema(good, pickle.dumps(Payload()))


@builder("no JSON")
def a_schema_in_another_encoding(good):
    return with_schema(good, unzipped(good)["schema.json"].decode().encode("utf-16"))


@builder("schema.json has 33554433 bytes")
def a_schema_larger_than_any(good):
    # It only says so: it is refused before it is read.
    place = good.rindex(b"PK\x01\x02") + 24
    return good[:place] + struct.pack("<L", 2**25 + 1) + good[place + 4 :]


@builder("claims 300000")
def an_array_shorter_than_it_claims(good):
    place = good.index(b"PK\x01\x02") + 24
    return good[:place] + struct.pack("<L", 300_000) + good[place + 4 :]


@builder("is no dictionary")
def a_state_that_is_a_list(good):
    opened = Opened(good)
    opened.schema["content"] = sequence()
    return zipped({"schema.json": json.dumps(opened.schema)})


@builder("describes no object")
def a_schema_that_is_a_list(good):
    return with_schema(good, b"[1, 2]")


@builder("other entries")
def a_schema_without_content(good):
    opened = Opened(good)
    del opened.schema["content"]
    return opened.closed()


@builder("protocol 99")
def a_newer_protocol(good):
    opened = Opened(good)
    opened.schema["protocol"] = 99
    return opened.closed()


edit("a_protocol_of_text", "protocol", lambda file: file.schema.update(protocol="2"))

# Types


@builder("is of the type 'sklearn.linear_model._logistic.LogisticRegression'")
def another_estimator(good):
    opened = Opened(good)
    opened.schema.update(
        __class__="LogisticRegression", __module__="sklearn.linear_model._logistic"
    )
    return opened.closed()


@builder(f"is of the type '{MODULE}.Model'")
def a_model_of_another_module(good):
    opened = Opened(good)
    opened.schema.update(__class__="Model", __module__=MODULE)
    return opened.closed()


def add_node(name, hostile, message=None):
    """Register a builder that puts a node among the attributes."""
    kind = re.escape(f"{hostile['__module__']}.{hostile['__class__']}")
    message = message or f"names the type '{kind}'"
    edit(name, message, lambda file: add(file.schema["content"], "extra_", hostile))


ATTRS = dictionary()
CALL = {
    "func": node("TypeNode", "os.mkdir"),
    "args": sequence(value(CANARY), kind="tuple"),
    "kwds": dictionary(),
    "namespace": dictionary(),
}
add_node("a_function", node("FunctionNode", "os.mkdir"))
add_node("a_function_of_another_module", node("FunctionNode", f"{MODULE}.run"))
add_node("a_type_of_another_module", node("TypeNode", f"{MODULE}.Model"))
add_node("an_object_of_another_module", node("ObjectNode", f"{MODULE}.Model", content=ATTRS))
add_node("a_list_of_another_module", node("ListNode", f"{MODULE}.Model", content=[]))
add_node("a_dict_of_another_module", {**dictionary(), "__module__": MODULE})
add_node("an_array_of_another_module", node("NdArrayNode", f"{MODULE}.Model", type="numpy"))
add_node("a_partial_call", node("PartialNode", "functools.partial", content=CALL))
add_node(
    "a_constructor",
    node("ConstructorFromReduceNode", f"{MODULE}.Model", content=sequence(kind="tuple")),
)
add_node(
    "a_method",
    node("MethodNode", "builtins.dict", content={"func": "clear", "obj": dictionary()}),
)
add_node("an_operator", node("OperatorFuncNode", "operator.methodcaller", attrs=sequence()))
add_node(
    "an_estimator_that_skops_trusts",
    node("ObjectNode", "sklearn.linear_model._logistic.LogisticRegression", content=ATTRS),
)
add_node("a_memory_map", node("NdArrayNode", "numpy.memmap", type="numpy", file="1.npy"))
add_node("a_loader_that_is_a_list", {**value(1), "__loader__": ["JsonNode"]})
add_node("a_node_that_refers_to_another", node("CachedNode", "builtins.str", __id__=1))
add_node("a_model_in_a_model", node("ObjectNode", "antibackdoor.attacks._sig.SIG", content=ATTRS))
add_node("a_value_nested_too_deeply_to_parse", {**value(1), "content": "[" * 100_000}, "no JSON")
add_node("a_value_that_is_a_list", value([1]), "list where one value")
add_node("a_node_with_more_entries", {**value(1), "trusted": True}, "has the entries")
edit(
    "a_number_for_a_node",
    "int where a node is wanted",
    lambda file: add(file.schema["content"], "extra_", 3),
)


@builder("keys that are no text")
def a_key_of_another_type(good):
    opened = Opened(good)
    types = opened.schema["content"]["key_types"]["content"]
    types[0] = node("TypeNode", f"{MODULE}.Model")
    return opened.closed()


def _nest(file):
    inner = value(1)
    for _ in range(60):
        inner = sequence(inner)
    add(file.schema["content"], "extra_", inner)


_objects = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode"}
add_node(
    "an_array_of_objects_of_two_axes",
    {**_objects, "type": "json", "content": [], "shape": sequence(value(0), value(0))},
    "more than one axis",
)
add_node("an_array_of_no_member", {**_objects, "type": "numpy", "file": 3}, "names no member")
add_node("a_list_of_text", {**sequence(), "content": "text"}, "str where a list")
add_node("a_dict_of_text", {**dictionary(), "content": "text"}, "str where a dict")
edit("a_tree_nested_too_deeply", "nested too deeply", _nest)


def _refer_to_the_whole(file):
    # skops would take the node that has this number, the model itself, in its place.
    add(file.schema["content"], "extra_", {**value(1), "__id__": file.schema["__id__"]})
    file.state["epochs"] = value(-1)


edit("a_number_of_another_node", "'epochs' parameter", _refer_to_the_whole)


# Arrays


def _replace_first_weights(content):
    def change(file):
        file.members[file.weights()["head.bias"]["file"]] = content

    return change


def _header(shape, descr="<f4"):
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


for name, content, message in (
    ("an_array_that_is_a_pickle", pickle.dumps(Payload()), "no array of numpy"),
    (
        "an_array_with_a_pickle",
        as_npy(np.array([Payload()], dtype=object), allow_pickle=True),
        "array of object",
    ),
    ("an_array_of_records", as_npy(np.zeros(4, dtype="i4,f4")), "wanted plain numbers"),
    ("an_array_of_huge_shape", _header((2**40, 2**20)) + bytes(16), "which is .* and holds 16"),
    ("an_array_of_negative_shape", _header((-4,)) + bytes(16), "claims the shape"),
    ("an_array_cut_short", as_npy(np.zeros(4, "f4"))[:-1], "holds 15"),
    ("an_array_with_bytes_behind", as_npy(np.zeros(4, "f4")) + b"more", "holds 20"),
    ("an_array_of_unknown_version", b"\x93NUMPY\x09\x00" + bytes(80), "no array of numpy"),
):
    edit(name, message, _replace_first_weights(content))


# Weights


def weights(name, message, change, key="head.bias"):
    """Register a builder that changes one array of weights."""

    def changed(file):
        found = file.weights()[key]
        array = file.array(found)
        del file.members[found["file"]]
        file.set_array(found, change(array))

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
edit(
    "weights_that_are_missing",
    "Missing key.*head.bias",
    lambda file: (
        file.members.pop(file.weights()["head.bias"]["file"]),
        remove(file.state["module_weights"], "head.bias"),
    ),
)
edit(
    "weights_of_another_name",
    "(?s)Missing key.*Unexpected key",
    lambda file: (
        add(file.state["module_weights"], "body.hook", file.weights()["head.bias"]),
        remove(file.state["module_weights"], "head.bias"),
    ),
)
edit(
    "weights_that_are_a_number",
    "module_weights are no weights",
    lambda file: add(file.state["module_weights"], "more", value(1)),
)


@builder("digest")
def swapped_weights(good):
    opened = Opened(good)
    arrays = opened.weights()
    shapes = {}
    for name, found in arrays.items():
        if opened.array(found).ndim == 1 and name.endswith(("weight", "bias")):
            shapes.setdefault(opened.array(found).shape, []).append(name)
    one, other = next(names for names in shapes.values() if len(names) > 1)[:2]
    assert not np.array_equal(opened.array(arrays[one]), opened.array(arrays[other]))
    arrays[one]["file"], arrays[other]["file"] = arrays[other]["file"], arrays[one]["file"]
    return opened.closed()


@builder("digest")
def a_changed_weight(good):
    opened = Opened(good)
    found = opened.weights()["head.bias"]
    opened.members[found["file"]] = as_npy(opened.array(found) + np.float32(1))
    return opened.closed()


@builder("digest")
def another_row_flagged(good):
    opened = Opened(good)
    found = opened.state["isolate_scores_"]
    opened.members[found["file"]] = as_npy(opened.array(found) - 1)
    return opened.closed()


# What is said of the model


def attribute(name, key, replacement, message, of="classifier"):
    """Register a builder that replaces an attribute or parameter."""

    def change(file):
        old = file.state[key]
        if isinstance(replacement, np.ndarray):
            del file.members[old["file"]]
            file.set_array(old, replacement)
        else:
            file.state[key] = replacement
            if "file" in old:
                del file.members[old["file"]]

    edit(name, message, change, of)


def tuple_of(*sizes):
    return sequence(*map(value, sizes), kind="tuple")


attribute("classes_twice", "classes_", np.array([0, 1, 1, 2]), "classes_ are not sorted")
attribute("classes_of_two_axes", "classes_", np.zeros((2, 2)), "classes_ are no array")
attribute("classes_with_nan", "classes_", np.array([0, 1, 2, np.nan]), "classes_ are not sorted")
attribute("classes_that_are_text", "classes_", value("0123"), "classes_ are no array")
attribute("more_classes_than_logits", "classes_", np.arange(9), "size mismatch")
attribute("mask_too_short", "isolate_mask_", np.zeros(39, bool), "isolate_mask_ does not follow")
attribute("mask_of_numbers", "isolate_mask_", np.zeros(40), "isolate_mask_ does not follow")
attribute("rows_that_are_not_there", "isolate_", np.array([99]), "isolate_ does not follow")
attribute("scores_with_nan", "isolate_scores_", np.full(40, np.nan), "scores_ hold NaN")
attribute("scores_of_text", "isolate_scores_", np.full(40, "a"), "no float64 array")
attribute("threshold_of_text", "isolate_threshold_", value("0"), "isolate_threshold_ is 0")
attribute("flagged_classes_unknown", "isolate_classes_", np.array([7]), "not all among")
attribute("history_of_text", "history_", value("epochs"), "history_ is no list")
attribute("rows_without_end", "input_shape_", tuple_of(8, 10**12), "larger max_bytes")
attribute("rows_of_negative_size", "input_shape_", tuple_of(8, -8), "input_shape_ is")
attribute("rows_of_other_features", "n_features_in_", value(9), "n_features_in_ is 9")
attribute("rows_that_are_text", "input_shape_", value("8x8"), "input_shape_ is 8x8")
attribute("a_negative_parameter", "epochs", value(-1), "'epochs' parameter")
attribute("a_device_that_is_a_number", "device", value(3), "'device' parameter")
for name, key, message in (
    ("names_of_other_features", "feature_names_in_", "feature_names_in_ are not 8"),
    ("an_attribute_of_another_class", "clean_mask_", "'clean_mask_', which no fitted Und"),
    ("an_attribute_of_no_class", "extra_", "'extra_', which no fitted UndefendedClassifier has"),
):
    edit(
        name,
        message,
        lambda file, key=key: add(file.schema["content"], key, value("x")),
    )
for name, key, message in (
    ("a_layout_that_is_none", "layout", "its layout is 'x'"),
    ("a_type_of_pixels", "uint8", "whether X was uint8"),
):
    edit(
        name,
        message,
        lambda file, key=key: file.state["_fitted_with"]["content"].update({key: value("x")}),
    )
attribute("no_parameters_of_the_network", "_fitted_with", value(None), "_fitted_with")

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
        lambda file, backbone=backbone: file.state["_fitted_with"]["content"].update(
            backbone=value(backbone)
        ),
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
        lambda file, key=key, content=content: add(file.schema["content"], key, value(content)),
    )
edit(
    "an_attribute_that_is_missing",
    "lacks .*isolate_threshold_",
    lambda file: remove(file.schema["content"], "isolate_threshold_"),
)


def _move_random_state(file):
    inner = file.state["random_state"]["content"]["content"]["state"]["content"]
    inner["pos"] = value(10**6)


edit("a_random_state_beyond_its_end", "random_state is at position", _move_random_state)


# Versions


def stamp(name, message, **changes):
    def build(good):
        opened = Opened(good)
        entries = opened.state["_file"]["content"]
        entries.update({key: value(content) for key, content in changes.items()})
        return opened.closed()

    BUILDERS[name] = (build, "classifier", message)


stamp(
    "a_newer_format",
    r"written by antibackdoor '9.0' in format 2; this is antibackdoor '.*', which reads",
    format=2,
    antibackdoor="9.0",
)
stamp("a_format_of_text", "its format is 'one'", format="one")
stamp("a_format_below_the_first", "its format is 0", format=0)
stamp("a_digest_of_nothing", "digest", digest="")


@builder("does not say format, version and digest")
def a_stamp_with_less(good):
    opened = Opened(good)
    remove(opened.state["_file"], "digest")
    return opened.closed()


# Attacks


def layout(file, **changes):
    file.state["layout_"]["content"]["content"].update(
        {key: value(content) for key, content in changes.items()}
    )


edit("a_layout_of_another_size", "layout_ is not", lambda f: layout(f, height=800), "attack")
edit("a_layout_of_text", "layout_ is not", lambda f: layout(f, height="8"), "attack")
edit("a_layout_of_another_axis", "layout_ is not", lambda f: layout(f, channels_axis="?"), "attack")
edit(
    "a_layout_cut",
    "layout_ is not",
    lambda file: remove(file.state["layout_"]["content"], "channels"),
    "attack",
)
attribute("a_range_of_nan", "value_range_", tuple_of(0, math.nan), "value_range_ is", "attack")
attribute("a_range_turned_round", "value_range_", tuple_of(9, 1), "value_range_ is", "attack")
attribute("a_type_of_row", "_fit_dtype", value("object"), "of type 'object'", "attack")
attribute("networks_without_end", "_fitted_n_surrogates", value(10**9), "networks", "attack")
attribute("a_trigger_too_large", "pattern_", np.zeros((30, 30)), "pattern_ has shape", "attack")
attribute("a_history_of_numbers", "history_", sequence(value(1)), "row 0 that is no dict", "attack")
edit(
    "weights_of_no_kind",
    "surrogates_ are no weights",
    lambda file: add(file.state["surrogates_"], "more", value(1)),
    "attack",
)


# --- the test


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A file of a classifier and one of an attack, as bytes."""
    X = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    models = {
        "classifier": UndefendedClassifier(
            backbone="small-cnn", epochs=1, random_state=np.random.RandomState(0)
        ),
        "attack": AdaptivePoison(
            surrogate="small-cnn", surrogate_epochs=1, steps=1, n_surrogates=2, size=2
        ),
    }
    path = tmp_path_factory.mktemp("good") / "model.skops"
    files = {}
    for name, model in models.items():
        save_model(model.fit(X, LABELS), path)
        files[name] = path.read_bytes()
        # What the builders do to a file does no harm by itself.
        for content in (Opened(files[name]).closed(), Opened(files[name]).unstamped()):
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
    path = tmp_path / "hostile.skops"
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
    assert len(BUILDERS) >= 30


def test_one_array_in_many_places_counts_in_each(good, tmp_path):
    path = tmp_path / "hostile.skops"
    opened = Opened(good["classifier"])
    again = copy.deepcopy(opened.state["isolate_scores_"])
    add(opened.schema["content"], "extra_", sequence(*[again] * 1000))
    path.write_bytes(opened.unstamped())
    with pytest.raises(ValueError, match="arrays take .* more than max_bytes"):
        load_model(path, max_bytes=path.stat().st_size)
