"""A new user's first half hour, from a fresh clone: README's script, scan, review, drop.

    python benchmarks/new_user.py --out benchmarks/results/new-user.jsonl --screens docs

What is committed is cloned into a folder for the time, and installed from there: beside the
packages of this Python, or with --venv into an environment of its own by README's own line, which
takes some minutes and 6 GB. README's script is run as it stands, and what it prints is compared
with what README says. Then digits are written as PNG files and poisoned. The page of the scan is
opened in Chromium, as a desk and as a phone have it, and what is flagged is confirmed there. The
saved decisions lead to a second classifier and to a copy of the folder without the poison. The
times are those of the commands.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _common import append_row, provenance
from PIL import Image
from sklearn.model_selection import train_test_split

from antibackdoor import load_model
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images
from antibackdoor.metrics import attack_success_rate

ROOT = Path(__file__).resolve().parents[1]
TARGET = "0"
SIZES = {"desk": (1100, 1400), "phone": (390, 1500)}


@dataclass
class NewUser:
    """Someone with a clone, an installed package and a folder to work in."""

    home: Path
    python: Path
    environment: dict[str, str]

    def run(self, *words: Any) -> float:
        """Run a command line of the package, and return its seconds."""
        seconds, code, _ = self.time("-m", "antibackdoor", *map(str, words))
        if code not in (0, 3):
            raise SystemExit(f"{words[0]} ended with {code}")
        return seconds

    def time(self, *words: str, kept: bool = False) -> tuple[float, int, str]:
        """Run Python in the home of the user; return seconds, exit code and what was printed."""
        started = time.perf_counter()
        done = subprocess.run(
            [self.python, *words],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE if kept else None,
            text=True,
        )
        return round(time.perf_counter() - started, 1), done.returncode, done.stdout or ""


def clone_and_install(root: Path, *, own_environment: bool) -> tuple[NewUser, Path, dict[str, Any]]:
    """Return the new user, the clone, and what a row tells of it."""
    clone, home = root / "antibackdoor", root / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    head = subprocess.run(
        ["git", "-C", clone, "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Nothing of the checkout that this script lies in.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    started = time.perf_counter()
    if own_environment:
        venv.create(root / "venv", with_pip=True)
        python = root / "venv" / "bin" / "python"
        (line,) = re.findall(r"^    (pip install .*)$", readme(clone), re.MULTILINE)
        install = [python, "-m", *shlex.split(line)]
    else:
        python, packages = Path(sys.executable), root / "packages"
        install = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
        install += ["--target", packages, "."]
        environment["PYTHONPATH"] = str(packages)
    subprocess.run([*install, "--quiet"], cwd=clone, env=environment, check=True)
    told = {
        "commit": head.stdout.strip(),
        "installed": "venv" if own_environment else "target",
        "install_seconds": round(time.perf_counter() - started, 1),
    }
    return NewUser(home, python, environment), clone, told


def readme(clone: Path) -> str:
    return (clone / "README.md").read_text(encoding="utf-8")


def run_readme(user: NewUser, clone: Path) -> dict[str, Any]:
    """Run README's script as it stands; a row tells how long it takes and whether it agrees."""
    (block,) = re.findall(r"^```python\n(.*?)^```", readme(clone), re.DOTALL | re.MULTILINE)
    (said,) = re.findall(r"^```text\n(.*?)^```", readme(clone), re.DOTALL | re.MULTILINE)
    script = user.home / "try_it.py"
    script.write_text(block, encoding="utf-8")
    seconds, code, printed = user.time(script.name, kept=True)
    if code:
        raise SystemExit(f"README's script ended with {code}")
    print(printed)
    return {"readme_seconds": seconds, "readme_agrees": agree(printed, said)}


def agree(printed: str, said: str) -> bool:
    """Return whether two texts are the same but for rounding, which differs between machines."""
    number = re.compile(r"\d+(?:\.\d+)?")
    same_words = number.sub("#", printed.strip()) == number.sub("#", said.strip())
    found, told = ([float(one) for one in number.findall(text)] for text in (printed, said))
    return same_words and bool(np.allclose(found, told, rtol=0, atol=2))


def write_images(X: np.ndarray, y: np.ndarray, folder: Path) -> None:
    for row, (image, label) in enumerate(zip(X, y, strict=True)):
        path = folder / str(label) / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def review(page: Path, screens: Path, decisions: Path) -> None:
    """Look at the page on two screens, confirm what is flagged, and save that."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            tab = browser.new_page(viewport={"width": width, "height": height})
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            tab.wait_for_timeout(500)  # pictures of the pairs are sized when they are there
            tab.screenshot(path=screens / f"scan-report-{name}.png")
            tab.close()
        tab = browser.new_page(accept_downloads=True)
        tab.goto(page.as_uri())
        tab.click("#confirm-all")
        with tab.expect_download() as download:
            tab.click("#download")
        download.value.save_as(decisions)
        browser.close()


def flagged_and_poisoned(suspects: Path, mask: Path) -> tuple[set[str], set[str]]:
    with suspects.open(newline="") as file:
        flagged = {row["file_name"] for row in csv.DictReader(file) if row["flagged"] == "1"}
    with mask.open(newline="") as file:
        poisoned = {row["file_name"] for row in csv.DictReader(file) if row["poisoned"] == "1"}
    return flagged, poisoned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--screens", type=Path, required=True, help="where the pictures go")
    parser.add_argument("--venv", action="store_true", help="install all of it, as README says")
    arguments = parser.parse_args()
    row = provenance()
    X, y = load_digits_images()
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    with TemporaryDirectory() as name:
        user, clone, told = clone_and_install(Path(name), own_environment=arguments.venv)
        row |= told | run_readme(user, clone)
        root, run = user.home, user.run
        photos, poisoned, scanned, again = (
            root / part for part in ("photos", "poisoned", "scanned", "rescanned")
        )
        write_images(X, y, photos)
        run(
            "poison", photos, "--out", poisoned, "--attack", "badnets", "--rate", 0.1, "--target", 0
        )
        row["scan_seconds"] = run("scan", poisoned, "--out", scanned)
        flagged, truth = flagged_and_poisoned(scanned / "suspects.csv", root / "poisoned.mask.csv")
        decisions = root / "decisions.csv"
        review(scanned / "report.html", arguments.screens, decisions)
        row["rescan_seconds"] = run("scan", poisoned, "--decisions", decisions, "--out", again)
        run("drop", poisoned, decisions, "--out", root / "kept")
        kept = {p.relative_to(root / "kept").as_posix() for p in (root / "kept").rglob("*.png")}
        row |= {
            "n_images": len(X),
            "n_poisoned": len(truth),
            "n_flagged": len(flagged),
            "n_found": len(flagged & truth),
            "n_kept": len(kept),
            "n_poisoned_kept": len(kept & truth),
        }
        trigger = BadNets(target_label=TARGET).fit(X, y.astype(str))
        for folder in (scanned, again):
            clf = load_model(folder / "model.safetensors")
            rows = X_test[..., None], trigger.transform(X_test)[..., None]
            clean, triggered = (clf.predict(images) for images in rows)
            row[f"{folder.name}_ca"] = float((clean == y_test.astype(str)).mean())
            row[f"{folder.name}_asr"] = float(
                attack_success_rate(y_test.astype(str), triggered, target_label=TARGET)
            )
    append_row(arguments.out, row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
