"""`dvc repro` with nothing to do, as a ratio to `dvc --version`: what checking costs beyond DVC's start-up.

Run in a checkout after `dvc repro`: python -m benchmarks.nothing_to_do [--pairs 5]
"""

import subprocess
import time
from functools import partial

import numpy as np

from benchmarks.shared import ROOT, parser, ratio, rounds


def main() -> None:
    """Prints the ratio."""
    options = parser("nothing_to_do", __doc__)
    options.add_argument("--pairs", type=int, default=5)
    ways = {command: partial(timed, command) for command in ("repro", "--version")}
    seconds = rounds(ways, options.parse_args().pairs)
    compared = ratio(seconds["repro"], seconds["--version"], 0)
    print(f"dvc repro with nothing to do / dvc --version: {compared}, {np.median(seconds['repro']):.1f} s")


def timed(command: str) -> float:
    """Returns the seconds that a DVC command takes; SystemExit where `dvc repro` had something to do."""
    start = time.perf_counter()
    done = subprocess.run(["dvc", command], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S607
    seconds = time.perf_counter() - start
    if command == "repro" and "Data and pipelines are up to date." not in done.stdout:
        raise SystemExit("dvc repro ran a stage: run it first, then this benchmark")
    return seconds


if __name__ == "__main__":
    main()
