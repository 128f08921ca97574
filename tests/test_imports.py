"""The floors of docs/architecture.md, the wall between defence and attack, the public names."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import antibackdoor

ROOT = Path(__file__).parents[1]


def test_import_contracts_are_kept():
    answer = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "The defender cannot know the trigger KEPT" in answer.stdout
    assert "0 broken" in answer.stdout


def test_every_public_name_is_on_the_page_of_the_api():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([\w.]+)$", page, re.MULTILINE)
    found = pkgutil.walk_packages(antibackdoor.__path__, "antibackdoor.")
    names = ["antibackdoor", *(module.name for module in found if module.ispkg)]
    public = {name for package in names for name in importlib.import_module(package).__all__}
    assert len(listed) == len(set(listed))
    assert {name.rpartition(".")[2] for name in listed} == public


def test_every_public_name_has_an_example():
    packages = pkgutil.walk_packages(antibackdoor.__path__, "antibackdoor.")
    names = ["antibackdoor", *(module.name for module in packages if module.ispkg)]
    public = {
        name: value
        for package in names
        for name, value in vars(importlib.import_module(package)).items()
        if name in importlib.import_module(package).__all__
        and (inspect.isclass(value) or inspect.isfunction(value))
    }
    without = {name for name, value in public.items() if ">>>" not in (value.__doc__ or "")}
    assert without == set()
