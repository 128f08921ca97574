"""The review page: a person looks at the suspects and decides about each."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.inspection._checks import check_isolates, check_training_rows
from antibackdoor.inspection._decisions import COLUMNS, digest_of
from antibackdoor.inspection._histogram import bin_edges
from antibackdoor.inspection._pairs import make_pairs
from antibackdoor.inspection._pixels import layout_of, value_range
from antibackdoor.inspection._sheets import make_sheets
from antibackdoor.inspection._suspects import most_suspect
from antibackdoor.inspection._verdict import describe_verdict
from antibackdoor.utils import LazyRows, check_count, naming, write_whole

# Number of features that are shown of a table: a card with more cannot be read.
_MOST_FEATURES = 50

_LONGEST_REPR = 500


def write_report(
    classifier: Any,
    X: ArrayLike,
    y: ArrayLike,
    path: str | os.PathLike[str],
    *,
    file_names: Sequence[str | os.PathLike[str]] | None = None,
    folder: str | os.PathLike[str] | None = None,
    remarks: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
    max_images: int = 5000,
) -> Path:
    """Write a page to review the flagged rows: one HTML file that needs no network.

    The page shows the verdict with its p-value, the suspect classes, and flagged next to
    unflagged rows. Then come the flagged rows, most suspect first, with boxes to confirm or clear
    each. The browser keeps the decisions and saves them as CSV for `read_decisions`. If nothing
    is flagged, the most suspect rows are shown.

    Parameters
    ----------
    classifier : object
        Fitted classifier with the `isolate_` family.
    X : array-like of shape (n_samples, ...)
        The rows it was fitted on, in any layout that it accepts. Images are shown in their size,
        up to 256 pixels a side; many large ones are shown smaller, and the page says so. Of a
        table the first 50 values of a row are shown.
    y : array-like of shape (n_samples,)
        The labels it was fitted on.
    path : str or path
        Path of the page; an existing file is replaced.
    file_names : sequence of str or path of length n_samples, default=None
        Origin of each row, shown next to it and saved with the decision.
    folder : str or path, default=None
        Folder of `file_names`. Then a decision is bound to the content of the file. None: it is
        bound to the values of the row.
    remarks : sequence of str, default=()
        Sentences to show with the verdict, such as what was left out of X.
    facts : mapping of str to str, default=None
        Names and values to show at the end, such as the origin of the data.
    max_images : int, default=5000
        Largest number of rows to show; the less suspect ones are left out.

    Returns
    -------
    pathlib.Path
        Path of the file.

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    ValueError
        If X, y or `file_names` are not those of the fit, a file of `folder` cannot be read, the
        layout of images is ambiguous, or `max_images` is less than 1. Nothing is written then.
    TypeError
        If the classifier lists no suspects, or an argument has the wrong type. Nothing is written.
    OSError
        If the file cannot be written. An old file at the path stays.
    ImportError
        If Pillow is not installed and X holds images. Nothing is written.

    See Also
    --------
    read_decisions : Reads what was decided.
    SuspectsDisplay : The most suspect images as a figure.

    Examples
    --------
    >>> from antibackdoor import PoisonSearch
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.inspection import write_report
    >>> X, y = load_digits_images()
    >>> search = PoisonSearch(epochs=2, random_state=0).fit(X, y)
    >>> page = write_report(search, X, y, "report.html")  # doctest: +SKIP
    """
    check_isolates(classifier)
    max_images = check_count("max_images", max_images)
    X, y = check_training_rows(classifier, X, y)
    names = None if file_names is None else _check_names(file_names, len(X))
    if folder is not None and names is None:
        raise ValueError(f"folder={os.fspath(folder)!r} without file_names; wanted both or none.")
    target = _check_path(path)
    page = _describe(classifier, X, y, names, max_images)
    page["remarks"] += _check_texts("remarks", remarks)
    page["facts"] |= {} if facts is None else dict(facts)
    page["digests"] = [digest_of(X, row, names, folder) for row in page["rows"]]
    # The browser stores decisions under this key, so that pages do not share them.
    page["key"] = sha256(json.dumps([page["rows"], page["digests"]]).encode()).hexdigest()[:16]
    content = _fill(page)
    write_whole(target, content)
    return target


def _describe(
    classifier: Any,
    X: np.ndarray | LazyRows,
    y: np.ndarray,
    names: list[str] | None,
    max_images: int,
) -> dict[str, Any]:
    """Return all data of the page."""
    rows = most_suspect(classifier, max_images)
    labels, codes = np.unique(y[rows], return_inverse=True)
    verdict = describe_verdict(classifier, y)
    page = {
        **verdict,
        "remarks": [
            verdict["assurance"],
            *verdict["caveats"],
            *_shown(verdict["n_flagged"], len(rows)),
        ],
        "facts": {
            "Method": _method(classifier),
            "Version": f"antibackdoor {version('antibackdoor')}",
        },
        "columns": COLUMNS,
        "pairs": [],
        "histogram": _histogram(classifier),
        "labels": [str(label) for label in labels],
        "rows": rows.tolist(),
        "codes": codes.tolist(),
        "scores": _short(classifier.isolate_scores_[rows]),
        "files": None if names is None else [names[row] for row in rows],
        "sheets": None,
        "table": None,
    }
    layout = layout_of(classifier, X.shape[1:])
    if layout is None:
        page["table"] = _table(classifier, np.asarray(X[rows]))
    elif len(rows):
        page["sheets"] = make_sheets(X, rows, layout)
        page["pairs"] = make_pairs(classifier, X, y, layout)
    return page


def _method(classifier: Any) -> str:
    """Return the settings that are not defaults, without parts that differ from run to run."""
    told = " ".join(re.sub(r" at 0x[0-9a-f]+", "", repr(classifier)).split())
    return told if len(told) <= _LONGEST_REPR else f"{told[:_LONGEST_REPR]}..."


def _shown(n_flagged: int, n_shown: int) -> list[str]:
    if n_flagged > n_shown:
        return [f"Only the {n_shown:,} most suspect of the {n_flagged:,} flagged rows are shown."]
    if n_flagged == 0 and n_shown:
        return [
            f"Below are the {n_shown:,} most suspect rows all the same. They are NOT flagged: in "
            f"any data some rows are the most suspect."
        ]
    if n_flagged == 0:
        return ["No row is more suspect than another, so none is shown."]
    return []


def _histogram(classifier: Any) -> dict[str, Any]:
    scores, flagged = classifier.isolate_scores_, classifier.isolate_mask_
    edges = bin_edges(scores, classifier.isolate_threshold_)
    threshold = float(classifier.isolate_threshold_)
    return {
        "edges": _short(edges),
        "flagged": np.histogram(scores[flagged], edges)[0].tolist(),
        "others": np.histogram(scores[~flagged], edges)[0].tolist(),
        "threshold": threshold if np.isfinite(threshold) else None,
    }


def _table(classifier: Any, X: np.ndarray) -> dict[str, Any]:
    value_range(X)  # the values that are shown must be those that were fitted: finite
    n_shown = min(X.shape[1], _MOST_FEATURES)
    known = getattr(classifier, "feature_names_in_", range(X.shape[1]))
    return {
        "features": [str(name) for name in known][:n_shown],
        "n_features": X.shape[1],
        "values": [_short(row[:n_shown]) for row in X],
    }


def _short(values: np.ndarray) -> list[float]:
    """Return values rounded to six digits: enough to read, and a third of the file size."""
    return [float(f"{value:.6g}") for value in values]


def _fill(page: dict[str, Any]) -> str:
    folder = files("antibackdoor.inspection")
    template, style, script = (
        folder.joinpath(f"report.{kind}").read_text(encoding="utf-8")
        for kind in ("html", "css", "js")
    )
    return Template(template).substitute(
        policy=_policy(style, script), style=style, script=script, data=_embed(page)
    )


def _embed(page: dict[str, Any]) -> str:
    """Return JSON that cannot open or close an HTML element, whatever texts are in it.

    `json` escapes all that is not ASCII, including the line separators U+2028 and U+2029.
    """
    text = json.dumps(page, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _policy(style: str, script: str) -> str:
    """Return a policy that allows only this style, this script and embedded pictures."""
    hashes = [b64encode(sha256(text.encode()).digest()).decode("ascii") for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _check_names(file_names: Any, n_samples: int) -> list[str]:
    if isinstance(file_names, str | bytes):
        raise TypeError(f"file_names={file_names!r}; wanted one name for each row.")
    with naming("file_names"):
        names = [os.fsdecode(name) for name in file_names]
    if len(names) != n_samples:
        raise ValueError(
            f"file_names holds {len(names)} names, but X has {n_samples} rows; wanted one each."
        )
    return names


def _check_texts(argument: str, texts: Any) -> list[str]:
    if isinstance(texts, str | bytes) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{argument}={texts!r}; wanted a sequence of texts.")
    return list(texts)


def _check_path(path: Any) -> Path:
    """Check, before anything is computed, that a file can be written there."""
    with naming("path"):
        target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; wanted the name of a file.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: there is no folder {str(target.parent)!r}.")
    return target
