"""Write a fitted model into a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted

from antibackdoor.backbones import Backbone
from antibackdoor.persistence._backbone import leave_out_own
from antibackdoor.persistence._build import build_model
from antibackdoor.persistence._format import describe
from antibackdoor.persistence._messages import without_stop
from antibackdoor.persistence._read import read_state
from antibackdoor.persistence._types import FOLDER, MODELS, PARTS, VALUES
from antibackdoor.persistence._values import to_node
from antibackdoor.training._pack import pack
from antibackdoor.training._sealed import seal
from antibackdoor.utils import require, write_whole

#: Attributes of the fitting process, which are not saved: callbacks and metadata requests.
_LEFT_OUT = ("_skl_callbacks", "_metadata_request")


def save_model(model: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted classifier, detector or attack to a file that runs no code when it is loaded.

    It is a safetensors file. It holds the parameters, including those of a detector or a cure,
    and the fitted attributes: weights as arrays, the `isolate_` attributes, the history. It does
    not hold:

    - a network of your own (a module or a callable): give it to `load_model` again;
    - `cache_dir`, callbacks and metadata requests, which belong to the fitting process.

    Parameters
    ----------
    model : classifier, detector or attack of this package
        Fitted. It is not changed.
    path : str or path-like
        Path of the file. An existing file is replaced once the new one is complete; if that
        fails, it stays.

    Raises
    ------
    TypeError
        If the model is of another type, or holds what cannot be in a file, such as a
        `label_map` that is a function.
    NotFittedError
        If it is not fitted.
    ValueError
        If it could not be loaded again: weights that are not finite, or a parameter that
        was set to what `fit` would refuse.
    OSError
        If the file cannot be written.
    ImportError
        If safetensors is not installed: the extra ``persist``.

    See Also
    --------
    load_model : Read the file.

    Examples
    --------
    >>> import tempfile
    >>> from antibackdoor import UndefendedClassifier, load_model, save_model
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> clf = UndefendedClassifier(epochs=1, random_state=0).fit(X[:200], y[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(clf, f"{folder}/model.safetensors")
    ...     loaded = load_model(f"{folder}/model.safetensors")
    >>> bool((loaded.predict(X) == clf.predict(X)).all())
    True
    """
    if isinstance(model, type) or type(model) not in MODELS.values():
        given = f"the class {model.__name__}" if isinstance(model, type) else repr(model)[:200]
        raise TypeError(
            f"model is {given}; wanted a fitted classifier, detector or attack of antibackdoor."
        )
    check_is_fitted(model)
    require("a model file", "persist", "safetensors")
    content, own = _to_file(model)
    _check_loads(model, content, own)
    write_whole(Path(path), content)


def _to_file(model: Any) -> tuple[bytes, Backbone | None]:
    shell, own = _without_own(model)
    _check_label_map(shell)
    try:
        text, tensors = pack(shell.__getstate__(), to_node)
    except TypeError as error:
        raise TypeError(
            f"model {type(model).__name__} cannot be written: {without_stop(error)}."
        ) from error
    return seal(text, tensors, describe(model)), own


def _without_own(model: Any) -> tuple[Any, Backbone | None]:
    """Return a copy that shares the arrays, without objects of the user or the process."""
    kind: Any = type(model)
    shell = kind.__new__(kind)
    kept = {name: value for name, value in vars(model).items() if name not in _LEFT_OUT}
    if "_fitted_with" in kept:
        kept["_fitted_with"] = dict(kept["_fitted_with"])
    for name, value in kept.items():
        if type(value) in PARTS.values():  # its parameters, as of a clone
            kept[name] = type(value)(**value.get_params(deep=False))
            _leave_out_process(vars(kept[name]))
    _leave_out_process(kept)
    try:
        own = leave_out_own(kept)
    except ValueError as error:
        raise ValueError(f"model {type(model).__name__}: {error}.") from error
    vars(shell).update(kept)
    return shell, own


def _leave_out_process(parameters: dict[str, Any]) -> None:
    if FOLDER in parameters:
        parameters[FOLDER] = None
    if isinstance(parameters.get("device"), torch.device):
        parameters["device"] = str(parameters["device"])


def _check_label_map(model: Any) -> None:
    label_map = getattr(model, "label_map", "")
    if not isinstance(label_map, (str, *VALUES.values())):
        raise TypeError(
            f"label_map={label_map!r} cannot be written, because loading it would run its code; "
            f"wanted a name, OneToOne or OneToMany."
        )


def _check_loads(model: Any, content: bytes, own: Backbone | None) -> None:
    """Load the bytes before writing, so that every written file can be loaded."""
    try:
        # The user's own model may take what it takes.
        kind, state = read_state(content, sys.maxsize)
        build_model(kind, state, own, sys.maxsize)
    except Exception as error:
        raise ValueError(
            f"model {type(model).__name__} is not written, because it could not be loaded again: "
            f"{without_stop(error)}."
        ) from error
