"""A new user's first half hour, played from start to end: scan, review, scan by the list, drop.

    python benchmarks/new_user.py --out benchmarks/results/new-user.jsonl --screens docs

Digits are written as PNG files and poisoned. The page of the scan is opened in Chromium, as a desk
and as a phone have it, and what is flagged is confirmed there. The saved decisions lead to a second
classifier and to a copy of the folder without the poison. It is run by the command line alone, and
the times are those of the commands.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
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

TARGET = "0"
SIZES = {"desk": (1100, 1400), "phone": (390, 1500)}


def run(*words: Any) -> float:
    """Run a command line, and return its seconds."""
    started = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "antibackdoor", *map(str, words)]).returncode
    if code not in (0, 3):
        raise SystemExit(f"{words[0]} ended with {code}")
    return round(time.perf_counter() - started, 1)


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
    arguments = parser.parse_args()
    row = provenance()
    X, y = load_digits_images()
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    with TemporaryDirectory() as name:
        root = Path(name)
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
