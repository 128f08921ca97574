"""A table that is killed at random moments ends with the rows of an unbroken run.

    python benchmarks/killed.py --kills 20

`antibackdoor bench` on small cells of digits. Each kill is a SIGKILL of the whole process group, at
a random moment between its start and the time that a whole run took.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = ["bench", "quick", "--attacks", "badnets", "blend", "--defenses", "undefended", "abl"]
WORDS += ["--seeds", "0", "1", "2", "--n-train", "300", "--schedule", "0.1", "--n-jobs", "2"]


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "antibackdoor", *WORDS, "--out", str(out)]


def figures(out: Path) -> list[dict[str, object]]:
    """Return the rows without the seconds they took."""
    rows = map(json.loads, (out / "rows.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        unbroken, killed = Path(directory) / "unbroken", Path(directory) / "killed"
        started = time.perf_counter()
        subprocess.run(command(unbroken), check=True, capture_output=True)
        whole = time.perf_counter() - started
        wanted = figures(unbroken)
        print(f"unbroken: {len(wanted)} rows in {whole:.0f} s", flush=True)
        for number in range(1, arguments.kills + 1):
            process = subprocess.Popen(
                command(killed),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            seconds = rng.uniform(0, whole)
            try:
                process.wait(timeout=seconds)
                how = "ended by itself before that"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                how = "killed"
            kept = len(list(killed.glob("cells/*.json")))
            print(f"{number}: {how}, {seconds:.1f} s; {kept} cells kept", flush=True)
            if kept == len(wanted) and number < arguments.kills:
                # All there is: throw a random half away, or later kills would meet no work.
                for path in rng.sample(sorted(killed.glob("cells/*.json")), kept // 2):
                    path.unlink()
        subprocess.run(command(killed), check=True, capture_output=True)
        equal = figures(killed) == wanted
        print("rows are equal" if equal else "ROWS DIFFER")
        sys.exit(not equal)


if __name__ == "__main__":
    main()
