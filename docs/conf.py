"""How Sphinx builds these pages: `make docs`, and `make gallery` to run the examples too."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

# Whatever is installed, the pages tell of the package beside them.
sys.path.insert(0, str(HERE.parent))
# Examples are run without a screen.
os.environ.setdefault("MPLBACKEND", "Agg")

from public_names import own_methods  # noqa: E402

project = "antibackdoor"
author = "antibackdoor developers"
copyright = author
release = version = version_of("antibackdoor")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    # Ours, in _ext/.
    "mathml",
    "public_names",
    "repository_links",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_ext", "_templates", "gallery/*.py", "gallery/*.ipynb"]
templates_path = ["_templates"]
# A name in single backticks, as our docstrings have them; see _ext/public_names.py.
default_role = "py:obj"
nitpicky = True
# What type aliases are made of. Nothing is fetched, so there are no pages to link to.
nitpick_ignore_regex = [("py:class", r"(collections\.abc|numpy|torch)\..*")]

# --- Markdown

myst_enable_extensions = ["colon_fence", "dollarmath"]
# Links to a heading of another page: deep enough for RESULTS.md.
myst_heading_anchors = 3
suppress_warnings = [
    # RESULTS.md and the change log begin their parts where they please.
    "myst.header",
]

# --- Docstrings

autosummary_generate = True
autosummary_imported_members = True
autosummary_context = {"own_methods": own_methods()}
autodoc_typehints = "none"  # numpydoc writes the types
autodoc_member_order = "groupwise"
# Methods are written out by _templates/autosummary/class.rst.
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# --- Gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,  # its pages would load scripts from elsewhere
    "show_signature": False,
    # Where an example breaks, the page is not made.
    "abort_on_example_error": True,
}

# --- HTML

html_theme = "pydata_sphinx_theme"
html_title = "antibackdoor"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "antibackdoor"},
    "navigation_with_keys": False,
    "show_prev_next": True,
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Pages with nothing below them need no list of what is below.
html_sidebars = {"index": [], "faq": [], "api": []}
