"""A table that is killed at random moments ends with the rows of an unbroken run.

    python benchmarks/killed.py --kills 20

`antibackdoor bench` on small cells of digits. Each kill is a SIGKILL of the whole process group, at
a random moment between its start and the time that a whole run took.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from antibackdoor.benchmark import read_rows

WORDS = ["bench", "quick", "--attacks", "badnets", "blend", "--defenses", "undefended", "abl"]
WORDS += ["--seeds", "0", "1", "2", "--n-train", "300", "--schedule", "0.1", "--n-jobs", "2"]


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "antibackdoor", *WORDS, "--out", str(out)]


def figures(out: Path) -> list[dict[str, object]]:
    """Return the rows without the seconds they took."""
    rows = read_rows(out / "rows.jsonl")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        unbroken = Path(directory) / "unbroken"
        started = time.perf_counter()
        subprocess.run(command(unbroken), check=True, capture_output=True)
        whole = time.perf_counter() - started
        wanted = figures(unbroken)
        print(f"unbroken: {len(wanted)} rows in {whole:.0f} s", flush=True)
        n_kills, n_tables, all_equal = 0, 0, True
        while n_kills < arguments.kills:
            out = Path(directory) / f"table-{n_tables}"
            started = time.perf_counter()
            while run_until(out, rng.uniform(0, whole)):
                n_kills += 1
                started = None
                kept = len(list(out.glob("cells/*.json")))
                print(f"kill {n_kills}: {kept} cells kept", flush=True)
            if started is not None:  # nobody killed it: other processes were in the way before
                whole = min(whole, time.perf_counter() - started)
            equal = figures(out) == wanted
            all_equal &= equal
            n_tables += 1
            print(f"table {n_tables}: {'the same rows' if equal else 'OTHER ROWS'}", flush=True)
    print(f"{n_kills} kills, {n_tables} tables, all equal: {all_equal}")
    sys.exit(not all_equal)


def run_until(out: Path, seconds: float) -> bool:
    """Run the table, and tell whether it had to be killed when the time was over."""
    process = subprocess.Popen(
        command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    if process.returncode != 0:
        raise RuntimeError(f"a run that nobody killed ended with {process.returncode}")
    return False


if __name__ == "__main__":
    main()
