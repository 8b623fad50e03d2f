"""The kinds of faults: how each is injected into a run of a stage, and how that may end."""

import glob
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks.shared import ROOT
from checks.faults.trials import BLOCK_BYTES, PATIENCE_SECONDS, ROOM, Trial

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")  # noqa: PTH207 - no folder to start from
JUMPS = ("-20y", "+30y", "-90", "+2d")
Code = int | None  # a run's exit code, minus the signal that ended it, or None where it hung


def _signal(trial: Trial, number: signal.Signals, at_change: bool | None = None) -> Code:
    """A signal at a random moment or right before a random change of the files (opened to write, renamed, removed).

    In half of the cases over the outs of an earlier run. After SIGTERM nothing half done is left.
    """
    if trial.random.random() < 0.5:
        trial.place(trial.stage.outs)
    if at_change or (at_change is None and trial.random.random() < 0.5):
        process = trial.start(**trial.at_change(int(number)))
    else:
        process = trial.start()
        process.join(trial.moment())
        if process.is_alive():
            os.kill(process.pid, number)
    code = trial.wait(process)
    if number == signal.SIGTERM and code != 0:
        trial.outcome.stale += [f"after the stop: {path.name}" for path in trial.disk.rglob(".*.partial")]
    return code


def _mounted(trial: Trial, folder: str, full: bool) -> Code:
    """A read-only file system, or one that is full at a random point of the stage's writing, by bytes or by files."""
    trial.mount(folder, ROOM if full else "ro")
    if full:
        (blocks, entries), (last_block, last_entry) = trial.usage(folder), trial.undisturbed.usage[folder]
        by_bytes = last_block > blocks + 1 and trial.random.random() < 0.7
        room_bytes = trial.random.randint(blocks + 1, max(last_block, blocks + 1)) * BLOCK_BYTES
        inodes = 2 + trial.random.randint(entries, last_entry)
        trial.mount(folder, f"size={room_bytes}" if by_bytes else f"nr_inodes={inodes}")
    return trial.wait(trial.start())


def _clock(trial: Trial) -> Code:
    """The clock jumps by seconds to decades, forward or back, before a random change of the files."""
    place, jump = trial.folder / "disk.clock", trial.random.choice(JUMPS)
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
    trial.place(trial.stage.reads, "second")
    first = trial.start()
    first.join(trial.moment() * (0.3 if one_killed else 0.5))
    second = trial.start("second")
    if one_killed:
        first.join(trial.moment())
    trial.outcome.hit = first.is_alive()
    if one_killed:
        first.kill()
    code, other = trial.wait(first), trial.wait(second)
    if other != 0:
        trial.outcome.unclean = f"exit code {other} of the other: {trial.printed('second.err')[-1000:]}"
    return code


class Kind(NamedTuple):
    """A kind of faults."""

    inject: Callable[[Trial], Code]  # runs the stage, disturbs it, and returns its exit code
    endings: dict[int, str]  # exit code that it may have beside 0: pattern of what is on standard error then
    caching: bool = False  # it meets only what writes to the cache folder
    needs: str = ""  # what this machine must have for it: "mounts", "faketime"


KILLED = {-signal.SIGKILL: "(?s).*"}
# Before the stage's first line SIGTERM has its usual effect, and nothing was begun.
STOPPED = {128 + signal.SIGTERM: "stopped.*", -signal.SIGTERM: ""}
FAILED = {1: "error: .*"}
KINDS = {
    "kill": Kind(partial(_signal, number=signal.SIGKILL, at_change=False), KILLED),
    "kill-at-change": Kind(partial(_signal, number=signal.SIGKILL, at_change=True), KILLED),
    "stop": Kind(partial(_signal, number=signal.SIGTERM), STOPPED),
    "full-outs": Kind(partial(_mounted, folder="disk", full=True), FAILED, needs="mounts"),
    "full-cache": Kind(partial(_mounted, folder="cache", full=True), FAILED, caching=True, needs="mounts"),
    "read-only-outs": Kind(partial(_mounted, folder="disk", full=False), FAILED, needs="mounts"),
    "read-only-cache": Kind(partial(_mounted, folder="cache", full=False), FAILED, caching=True, needs="mounts"),
    "clock": Kind(_clock, {}, needs="faketime"),
    "two": Kind(partial(_two, one_killed=False), {}, caching=True),
    "two-one-killed": Kind(partial(_two, one_killed=True), KILLED, caching=True),
}


def inject(trial: Trial, kind: Kind) -> None:
    """Injects a fault, notes how the run ended, and runs the stage once more, plainly."""
    outcome, code = trial.outcome, kind.inject(trial)
    outcome.hit |= code != 0
    said = trial.printed("disk.err").strip()
    if code != 0 and (code not in kind.endings or not re.fullmatch(kind.endings[code], said)):
        outcome.unclean += f"exit code {code}: {said[-2000:]}"
    outcome.lost += trial.half_outs()
    if code == 0:
        trial.compare()
    for folder in trial.mounted:
        trial.mount(folder, f"rw,{ROOM}")
    trial.rerun()
    if (trial.folder / "second").exists():
        trial.compare("second")
