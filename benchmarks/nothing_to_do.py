"""`dvc repro` with nothing to do, as a ratio to `dvc --version`: what checking costs beyond DVC's start-up.

Run in a checkout after `dvc repro`: python -m benchmarks.nothing_to_do [--pairs 5]
"""

import argparse
import subprocess
import time

import numpy as np

from benchmarks.extraction import ROOT


def main() -> None:
    """Prints the ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nothing_to_do", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    ratios, seconds = [], []
    for pair in range(arguments.pairs):
        commands = [["repro"], ["--version"]]
        taken = {command[0]: timed(command) for command in (commands if pair % 2 == 0 else reversed(commands))}
        ratios.append(taken["repro"] / taken["--version"])
        seconds.append(taken["repro"])
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"dvc repro with nothing to do / dvc --version: {np.median(ratios):.2f} ({each}), {np.median(seconds):.1f} s")


def timed(arguments: list[str]) -> float:
    """Returns the seconds that a DVC command takes; SystemExit where `dvc repro` had something to do."""
    start = time.perf_counter()
    done = subprocess.run(["dvc", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S607
    seconds = time.perf_counter() - start
    if arguments == ["repro"] and "Data and pipelines are up to date." not in done.stdout:
        raise SystemExit("dvc repro ran a stage: run it first, then this benchmark")
    return seconds


if __name__ == "__main__":
    main()
