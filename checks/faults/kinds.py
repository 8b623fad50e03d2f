"""The kinds of faults: how each is injected into a run of a stage, and how that may end."""

import glob
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.shared import ROOT
from checks.faults.trials import BLOCK_BYTES, PATIENCE_SECONDS, Trial

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")  # noqa: PTH207 - no folder to start from
JUMPS = ("-20y", "+30y", "-90", "+2d")
ROOM = "size=256m,nr_inodes=10000"
Code = int | None  # a run's exit code, minus the signal that ended it, or None where it hung


def _kill(trial: Trial, at_change: bool) -> Code:
    """SIGKILL at a random moment or right before a random change of the files (opened to write, renamed, removed).

    In half of the cases over the outs of an earlier run.
    """
    if trial.random.random() < 0.5:
        trial.place_outs()
    return _signalled(trial, signal.SIGKILL, at_change)


def _stop(trial: Trial) -> Code:
    """SIGTERM at a random moment or change; nothing half done is left."""
    code = _signalled(trial, signal.SIGTERM, trial.random.random() < 0.5)
    if code != 0:
        trial.outcome.stale += [f"after the stop: {path.name}" for path in trial.disk.rglob(".*.partial")]
    return code


def _signalled(trial: Trial, number: signal.Signals, at_change: bool) -> Code:
    if at_change:
        return trial.wait(trial.start(**trial.at_change(int(number))))
    process = trial.start()
    process.join(trial.moment())
    if process.is_alive():
        os.kill(process.pid, number)
    return trial.wait(process)


def _full(trial: Trial, folder: str) -> Code:
    """A file system that is full at a random point of the stage's writing, by bytes or by number of files."""
    size_bytes, inodes = trial.undisturbed.sizes[folder]
    if size_bytes > BLOCK_BYTES and trial.random.random() < 0.7:
        trial.mount(folder, f"size={trial.random.randint(1, size_bytes // BLOCK_BYTES) * BLOCK_BYTES},nr_inodes=10000")
    else:
        trial.mount(folder, f"size=256m,nr_inodes={2 + trial.random.randint(0, inodes)}")
    return trial.wait(trial.start())


def _read_only(trial: Trial, folder: str) -> Code:
    trial.mount(folder, "ro")
    return trial.wait(trial.start())


def _clock(trial: Trial) -> Code:
    """The clock jumps by seconds to decades, forward or back, before a random change of the files."""
    place, jump = trial.folder / "disturbed.clock", trial.random.choice(JUMPS)
    place.write_text("+0", encoding="utf-8")
    faked = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(place), "FAKETIME_NO_CACHE": "1"}
    faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    run = trial.run(**trial.at_change(jump))
    command = [sys.executable, "-m", "checks.faults.runner", json.dumps(run)]
    done = subprocess.run(command, cwd=ROOT, env=faked, check=False, timeout=PATIENCE_SECONDS, capture_output=True)
    trial.outcome.hit = place.read_text(encoding="utf-8") == jump
    return done.returncode


def _two(trial: Trial, one_killed: bool) -> Code:
    """Two runs at once with one cache folder, into two folders: both end with the same bytes.

    Where one of them is killed, the other and a rerun do.
    """
    first = trial.start()
    first.join(trial.moment() * (0.3 if one_killed else 0.5))
    second = trial.start("second")
    trial.outcome.hit = first.is_alive()
    if one_killed:
        first.join(trial.moment())
        trial.outcome.hit = first.is_alive()
        first.kill()
    code, other = trial.wait(first), trial.wait(second)
    if other != 0:
        trial.outcome.unclean = f"exit code {other} of the other: {trial.printed('second.err')[-1000:]}"
    return code


@dataclass(frozen=True)
class Kind:
    """A kind of faults."""

    inject: Callable[[Trial], Code]  # runs the stage, disturbs it, and returns its exit code
    codes: tuple[int, ...] = ()  # that it may have beside 0
    line: str | None = None  # how the one line on standard error begins then; None: whatever it says
    caching: bool = False  # it meets only what writes to the cache folder
    needs: str = ""  # what this machine must have for it: "mounts", "faketime"


KILLED, STOPPED = (-signal.SIGKILL,), (128 + signal.SIGTERM, -signal.SIGTERM)
KINDS = {
    "kill": Kind(partial(_kill, at_change=False), KILLED),
    "kill-at-change": Kind(partial(_kill, at_change=True), KILLED),
    "stop": Kind(_stop, STOPPED, "stopped"),
    "full-outs": Kind(partial(_full, folder="disk"), (1,), "error: ", needs="mounts"),
    "full-cache": Kind(partial(_full, folder="cache"), (1,), "error: ", caching=True, needs="mounts"),
    "read-only-outs": Kind(partial(_read_only, folder="disk"), (1,), "error: ", needs="mounts"),
    "read-only-cache": Kind(partial(_read_only, folder="cache"), (1,), "error: ", caching=True, needs="mounts"),
    "clock": Kind(_clock, needs="faketime"),
    "two": Kind(partial(_two, one_killed=False), caching=True),
    "two-one-killed": Kind(partial(_two, one_killed=True), KILLED, caching=True),
}


def inject(trial: Trial, kind: Kind) -> None:
    """Injects a fault, notes how the run ended, and runs the stage once more, plainly."""
    outcome, code = trial.outcome, kind.inject(trial)
    outcome.hit |= code != 0
    lines = trial.printed("disturbed.err").splitlines()
    # Before the stage's first line SIGTERM has its usual effect, and nothing was begun.
    as_said = not lines if code == -signal.SIGTERM else len(lines) == 1 and lines[0].startswith(kind.line or "")
    if code != 0 and (code not in kind.codes or (kind.line and not as_said)):
        outcome.unclean += f"exit code {code}: {' | '.join(lines)[-2000:]}"
    outcome.lost += trial.half_outs()
    if code == 0:
        trial.compare()
    for folder in trial.mounted:
        trial.mount(folder, f"rw,{ROOM}")
    trial.rerun()
    if (trial.folder / "second").exists():
        trial.compare("second")
