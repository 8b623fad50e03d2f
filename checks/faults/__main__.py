"""Injects faults into every stage of a small project, reruns it plainly, and compares with an undisturbed run.

Run: python -m checks.faults [--faults 200] [--stages fetch finetune ...] [--kinds kill stop ...] [--seed 0]

kill: SIGKILL at a random moment; kill-at-change: right before a random change of a file; stop: SIGTERM; full-outs,
full-cache: a file system too small; read-only-outs, read-only-cache; clock: it jumps; two: two runs with one cache;
two-one-killed: and one of them is killed. Linux only; as root, for file systems are mounted (in a mount namespace of
its own); libfaketime for the clock. What is missing is left out, with a message. Exit code 1 where anything was lost.
"""

import argparse
import ctypes
import itertools
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from checks.faults import kinds
from checks.faults.project import STAGES, Project, Stage, with_needs
from checks.faults.trials import Outcome, Trial, Undisturbed
from stages.library.common import console

NAMES = [stage.name for stage in STAGES]
CLONE_NEWNS = 0x20000  # Linux: a mount namespace


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m checks.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=200, help="at least one of each kind for each stage")
    parser.add_argument("--stages", nargs="+", default=NAMES, choices=NAMES, metavar="STAGE", help=", ".join(NAMES))
    parser.add_argument(
        "--kinds", nargs="+", default=list(kinds.KINDS), choices=kinds.KINDS, metavar="KIND", help="of faults"
    )
    parser.add_argument("--seed", type=int, default=0, help="of when they come")
    arguments = parser.parse_args()
    here = {"": True, "mounts": own_mounts(), "faketime": bool(kinds.FAKETIME)}
    if not here["mounts"]:
        print("file systems can't be mounted here: full and read-only ones are left out")
    if not here["faketime"]:
        print("libfaketime is not installed: jumps of the clock are left out")
    arguments.kinds = [name for name in arguments.kinds if here[kinds.KINDS[name].needs]]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="decant-faults-") as name:
        outcomes = inject_all(Path(name), arguments)
    print_table(outcomes)
    hits, bad = sum(one.hit for one in outcomes), sum(not one.good for one in outcomes)
    met = f"{len(outcomes)} faults, {hits} met the stage while it ran"
    print(f"{met}, {bad} with a loss or a difference; {time.monotonic() - started:.0f} s")
    sys.exit(bool(bad))


def own_mounts() -> bool:
    """Goes into a mount namespace of its own, so that nothing stays mounted; returns whether it can mount there."""
    command = ["mount", "--make-rprivate", "/"]
    moved = ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
    return moved and subprocess.run(command, capture_output=True, check=False).returncode == 0


def inject_all(work: Path, arguments: argparse.Namespace) -> list[Outcome]:
    """Runs what is needed undisturbed, then injects; returns what came of each fault."""
    project = Project(work / "project")
    undisturbed: dict[Stage, Undisturbed] = {}
    for stage in with_needs(arguments.stages):
        trial = Trial(project, stage, work / "trial")
        undisturbed[stage] = found = trial.measure()
        print(f"{stage.name}: {found.seconds:.1f} s, {found.changes} changes of files undisturbed", flush=True)
    outcomes = []
    faults = plan(arguments, undisturbed)
    for number, (kind, stage) in enumerate(console.progress(faults, "inject", "faults")):
        trial = Trial(project, stage, work / "trial", kind, f"{arguments.seed} {number}")
        trial.undisturbed = undisturbed[stage]
        kinds.inject(trial, kinds.KINDS[kind])
        trial.close()
        outcomes.append(trial.outcome)
        if not trial.outcome.good:
            print(f"NOT GOOD: {trial.outcome}", flush=True)
    return outcomes


def plan(arguments: argparse.Namespace, undisturbed: dict[Stage, Undisturbed]) -> list[tuple[str, Stage]]:
    """Returns the faults: each kind of each stage once, and the rest on the stages that cost least."""
    stages = [stage for stage in undisturbed if stage.name in arguments.stages]
    pairs = itertools.product(arguments.kinds, stages)
    caching = {stage for stage in stages if undisturbed[stage].usage["cache"] > (0, 0)}
    once = [(name, stage) for name, stage in pairs if stage in caching or not kinds.KINDS[name].caching]
    rest = itertools.cycle(sorted(once, key=lambda pair: undisturbed[pair[1]].seconds))
    return [*once, *itertools.islice(rest, max(arguments.faults - len(once), 0))]


def print_table(outcomes: list[Outcome]) -> None:
    """Prints a row per stage: faults that met it of those injected by kind, and what came of all."""
    found = pd.DataFrame([asdict(outcome) for outcome in outcomes]).assign(injected=True)
    found = found.rename(columns={"different": "differences", "lost": "losses"})
    found = pd.concat([found, found.assign(stage="all")], ignore_index=True)
    met = found.pivot_table("hit", "stage", "kind", aggfunc=lambda hit: f"{sum(hit)}/{len(hit)}", sort=False)
    columns = ["injected", "recovered", "differences", "losses", "stale", "unclean"]
    table = met.fillna("").join(found[columns].astype(bool).groupby(found["stage"]).sum())
    print("\n" + table.reset_index(names="met/injected").to_string(index=False))


if __name__ == "__main__":
    main()
