"""How long the review page of 5,000 flagged images takes to open.

    python benchmarks/report_page.py

Needs the system's Chromium and the group `test`. Prints the seconds, by the clock, from the
request to the second frame drawn after the page is ready to be used, its first screen full: of
each of five new browser profiles, and their median; then the same for the moment when all other
cards, which are made while the browser has nothing else to do, are full too. The images are noise
of 32 x 32 x 3 pixels, the worst there is for PNG, and half as many more rows are not flagged.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from sklearn.base import BaseEstimator, ClassifierMixin

from antibackdoor.inspection import write_report

RUNS = 5

TWO_FRAMES = """() => new Promise((done) => {
    requestAnimationFrame(() => requestAnimationFrame(() => done()));
})"""


class Flagging(ClassifierMixin, BaseEstimator):
    """Flags the first rows it is fitted on, as many as it is told."""

    def __init__(self, n_flagged: int) -> None:
        self.n_flagged = n_flagged

    def fit(self, X: np.ndarray, y: np.ndarray) -> Flagging:
        """Take the rows for what they are."""
        self.classes_ = np.unique(y)
        self.input_shape_ = X.shape[1:]
        self.isolate_scores_ = np.linspace(1, 0, len(X))
        self.isolate_threshold_ = float(self.isolate_scores_[self.n_flagged])
        self.isolate_mask_ = self.isolate_scores_ > self.isolate_threshold_
        self.isolate_ = np.flatnonzero(self.isolate_mask_)
        self.isolate_classes_ = np.unique(y[self.isolate_mask_])
        return self


def seconds_to_open(browser: Browser, page_file: Path, n_images: int) -> tuple[float, float]:
    """Return the seconds that a new profile takes until the page can be used, and is complete."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    page.evaluate(TWO_FRAMES)
    opened = time.perf_counter() - started
    page.wait_for_selector("html[data-complete]", state="attached")
    complete = time.perf_counter() - started
    found = page.locator(".card .tile").count()
    if found != n_images:
        raise RuntimeError(f"the page shows {found} images; wanted {n_images}.")
    context.close()
    return opened, complete


def main() -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=5000, help="flagged images")
    parser.add_argument("--side", type=int, default=32, help="of an image, pixels")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    asked = parser.parse_args()
    n_rows, side = asked.images * 3 // 2, asked.side
    X = np.random.default_rng(0).integers(0, 256, (n_rows, side, side, 3), dtype=np.uint8)
    y = np.arange(n_rows) % 10
    classifier = Flagging(asked.images).fit(X, y)
    names = [f"images/{row:06d}.png" for row in range(n_rows)]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        started = time.perf_counter()
        path = Path(folder) / "report.html"
        write_report(classifier, X, y, path, file_names=names, max_images=asked.images)
        print(
            f"written in {time.perf_counter() - started:.2f} s, {path.stat().st_size / 1e6:.1f} MB"
        )
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=["--no-sandbox"])
        runs = [seconds_to_open(browser, path, asked.images) for _ in range(RUNS)]
        browser.close()
    for name, times in zip(("opened", "complete"), zip(*runs, strict=True), strict=True):
        print(name, "in", ", ".join(f"{seconds:.2f}" for seconds in times), "s")
        print(f"median {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
