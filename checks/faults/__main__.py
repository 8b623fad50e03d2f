"""Injects faults into every stage of a small project, reruns it plainly, and compares with an undisturbed run.

Run: python -m checks.faults [--faults 200] [--stages fetch finetune ...] [--kinds kill stop ...] [--seed 0]

kill: SIGKILL at a random moment; kill-at-change: right before a random change of a file; stop: SIGTERM; full-outs,
full-cache: a file system too small; read-only-outs, read-only-cache; clock: it jumps; two: two runs with one cache;
two-one-killed: and one of them is killed. Linux only; as root, for file systems are mounted (in a mount namespace of
its own); libfaketime for the clock. What is missing is left out, with a message. Exit code 1 where anything was lost.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from checks.faults import kinds, runner
from checks.faults.project import CACHING, STAGES, Project, Stage, with_needs
from checks.faults.trials import Outcome, Trial, Undisturbed
from stages.library.common import console

NAMES = [stage.name for stage in STAGES]
OWN_MOUNTS = "DECANT_FAULTS_OWN_MOUNTS"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m checks.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=200, help="at least one of each kind for each stage")
    parser.add_argument("--stages", nargs="+", default=NAMES, choices=NAMES, metavar="STAGE", help=", ".join(NAMES))
    parser.add_argument("--kinds", nargs="+", default=list(kinds.KINDS), choices=kinds.KINDS, metavar="KIND")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no further one is injected")
    arguments = parser.parse_args()
    can_mount = own_mounts()
    if not can_mount:
        print("file systems can't be mounted here: full and read-only ones are left out")
    if not kinds.FAKETIME:
        print("libfaketime is not installed: jumps of the clock are left out")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="decant-faults-") as name:
        outcomes = inject_all(Path(name), arguments, can_mount)
    print_table(outcomes)
    hits, bad = sum(one.hit for one in outcomes), sum(not one.good for one in outcomes)
    met = f"{len(outcomes)} faults, {hits} met the stage while it ran"
    print(f"{met}, {bad} with a loss or a difference; {time.monotonic() - started:.0f} s")
    sys.exit(bool(bad))


def own_mounts() -> bool:
    """Goes on in a mount namespace of its own, so that nothing stays mounted; returns whether it can mount there."""
    if os.environ.get(OWN_MOUNTS):
        return True
    unshare = shutil.which("unshare")
    test = [unshare or "", "--mount", "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    if unshare is None or subprocess.run(test, capture_output=True, check=False).returncode:
        return False
    command = [unshare, "--mount", sys.executable, "-m", "checks.faults", *sys.argv[1:]]
    raise SystemExit(subprocess.run(command, env=os.environ | {OWN_MOUNTS: "1"}, check=False).returncode)


def inject_all(work: Path, arguments: argparse.Namespace, can_mount: bool) -> list[Outcome]:
    """Runs what is needed undisturbed, then injects; returns what came of each fault."""
    project, context = Project(work / "project"), runner.context()
    undisturbed: dict[Stage, Undisturbed] = {}
    for stage in with_needs(arguments.stages):
        trial = Trial(project, stage, work / "trial", context, Outcome(stage.name, "none", 0))
        undisturbed[stage] = found = trial.measure()
        shutil.copytree(trial.disk / "outs", project.folder, dirs_exist_ok=True)
        trial.close()
        print(f"{stage.name}: {found.seconds:.1f} s, {found.changes} changes of files undisturbed", flush=True)
    outcomes: list[Outcome] = []
    end = time.monotonic() + 60 * arguments.minutes
    for stage, kind, number in console.progress(plan(arguments, undisturbed, can_mount), "inject", "faults"):
        if time.monotonic() > end:
            break
        outcomes.append(outcome := Outcome(stage.name, kind, number))
        trial = Trial(project, stage, work / "trial", context, outcome, arguments.seed)
        trial.undisturbed = undisturbed[stage]
        kinds.inject(trial, kinds.KINDS[kind])
        trial.close()
        if not outcome.good:
            print(f"NOT GOOD: {outcome}", flush=True)
    return outcomes


def plan(
    arguments: argparse.Namespace, undisturbed: dict[Stage, Undisturbed], can_mount: bool
) -> list[tuple[Stage, str, int]]:
    """Returns the faults: each kind of each stage once, and the rest on the stages that cost least."""
    here = {"", *["mounts"] * can_mount, *["faketime"] * bool(kinds.FAKETIME)}
    there = {name: kind for name, kind in kinds.KINDS.items() if name in arguments.kinds and kind.needs in here}
    possible = {
        stage: [name for name, kind in there.items() if stage.name in CACHING or not kind.caching]
        for stage in undisturbed
        if stage.name in arguments.stages
    }
    counts = {stage: len(some) for stage, some in possible.items() if some}
    while counts and sum(counts.values()) < arguments.faults:
        cost = {stage: (count >= 10, count * undisturbed[stage].seconds) for stage, count in counts.items()}
        counts[min(cost, key=lambda stage: cost[stage])] += 1
    shares = [(index / count, stage, index) for stage, count in counts.items() for index in range(count)]
    shares.sort(key=lambda share: share[0])  # side by side, so that a run that is cut short has met all stages
    return [(stage, possible[stage][n % len(possible[stage])], n // len(possible[stage])) for _, stage, n in shares]


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
