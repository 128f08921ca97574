"""Links of the pages as they are in the repository, made to work on the site.

On a code host a page links `../SECURITY.md` or `../examples/plot_own_attack.py`. On the site the
first is a page with the file's text, the second a page of the gallery.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

#: Files of the repository that are pages here. The page in docs/ only points to the file.
WHOLE_FILES = {
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "measurements": "benchmarks/RESULTS.md",
    "security": "SECURITY.md",
}

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")


def rewrite(app, docname, source):
    """Give a page the text of the file it stands for, and links that hold on the site."""
    file = os.fspath(app.env.doc2path(docname))
    origin = Path(file).resolve().parent
    if docname in WHOLE_FILES:
        whole = ROOT / WHOLE_FILES[docname]
        app.env.note_dependency(str(whole))
        source[0], origin = whole.read_text(encoding="utf-8"), whole.parent
    if file.endswith(".md"):
        here = Path(file).resolve().parent
        source[0] = _LINK.sub(lambda link: _moved(link, origin, here), source[0])


def _moved(link, origin, here):
    target = Path(os.path.normpath(origin / link[1]))
    anchor = link[2] or ""
    for docname, file in WHOLE_FILES.items():
        if target == ROOT / file:
            return _relative(DOCS / f"{docname}.md", here) + anchor
    if target == ROOT / "README.md":
        return _relative(DOCS / "index.md", here)
    if target == ROOT / "examples":
        return _relative(DOCS / "gallery" / "index.rst", here)
    if target.parent == ROOT / "examples" and target.suffix == ".py":
        return _relative(DOCS / "gallery" / f"{target.stem}.rst", here)
    return _relative(target, here) + anchor


def _relative(target, here):
    return Path(os.path.relpath(target, here)).as_posix()


def setup(app):
    """Tell Sphinx to ask us about each page."""
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
