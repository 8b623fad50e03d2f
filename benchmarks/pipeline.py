"""Pipeline: `dvc repro` on the default data set, of this commit and of another, in turns.

Columns: seconds from nothing (no data, no caches), seconds of a second run with nothing to do, and of the CPU in the
first; then ratios, this commit's time divided by the other's, by their median and in each round. Both commits run with
the Python environment that runs this, so that neither installs anything. What is not committed has no part in it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.shared import ROOT, parser, ratios, rounds


class Seconds(NamedTuple):
    """Of a first `dvc repro` and of a second one."""

    first: float
    second: float
    cpu: float  # of the first


def main() -> None:
    """Prints the table."""
    options = parser("pipeline", __doc__)
    options.add_argument("other", metavar="COMMIT", help="the commit to compare with")
    options.add_argument("--rounds", type=int, default=3, help="of both (default: 3)")
    options.add_argument("--stage", nargs="*", default=[], help="stages to run, with what they need (default: all)")
    arguments = options.parse_args()
    commits = {"ours": "HEAD", "other": arguments.other}
    ways = {name: lambda commit=commit: measured(commit, arguments.stage) for name, commit in commits.items()}
    found = rounds(ways, arguments.rounds)
    rows = []
    for column in Seconds._fields:
        ours, others = ([getattr(one, column) for one in found[name]] for name in commits)
        cells = {
            name: " ".join(f"{one:.1f}" for one in times) for name, times in zip(commits, (ours, others), strict=True)
        }
        rows.append({"seconds": column} | cells | ratios(ours, others))
    print(pd.DataFrame(rows).to_string(index=False))


def measured(commit: str, stages: list[str]) -> Seconds:
    """Clones a commit into a temporary folder and runs it twice there."""
    with tempfile.TemporaryDirectory() as name:
        checkout = Path(name) / "checkout"
        git = ["git", "clone", "-q", str(ROOT), str(checkout)]
        subprocess.run(git, check=True)
        git = ["git", "-C", str(checkout), "reset", "-q", "--hard", commit]
        subprocess.run(git, check=True)
        before = cpu_seconds()
        first = repro(checkout, stages)
        return Seconds(first, cpu=cpu_seconds() - before, second=repro(checkout, stages))


def repro(checkout: Path, stages: list[str]) -> float:
    """Runs `dvc repro` in silence; returns the seconds that it took."""
    tools = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "DECANT_CACHE": str(checkout.parent / "cache"),
        "DVC_SITE_CACHE_DIR": str(checkout.parent / "site"),
    }
    start = time.perf_counter()
    command = [str(tools / "dvc"), "repro", *stages]
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def cpu_seconds() -> float:
    """Returns the CPU seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
