"""The kinds of faults: each takes a trial, injects one, and notes in the outcome what came of it."""

import glob
import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from checks.faults import runner
from checks.faults.project import ROOT, Stage
from checks.faults.trials import BLOCK_BYTES, PATIENCE_SECONDS, ROOM_BYTES, Outcome, Trial

STOPPED = 128 + signal.SIGTERM
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")  # noqa: PTH207 - no folder to start from
JUMPS = ("-20y", "+30y", "-90", "+2d")


def kill(trial: Trial, outcome: Outcome, at_change: bool) -> None:
    """SIGKILL at a random moment or right before a random change of the files (opened to write, renamed, removed).

    In half of the cases over the outs of an earlier run.
    """
    if trial.random.random() < 0.5:
        trial.place_outs()
    outcome.hit = _signalled(trial, signal.SIGKILL, at_change) == -signal.SIGKILL
    outcome.lost += trial.half_outs()
    trial.rerun(outcome)


def stop(trial: Trial, outcome: Outcome) -> None:
    """SIGTERM at a random moment or change: the exit code 143, one line, nothing half done, and a rerun goes on."""
    code = _signalled(trial, signal.SIGTERM, trial.random.random() < 0.5)
    outcome.hit = code != 0
    # Before the stage's first line the signal has its usual effect, and nothing was begun.
    if code != -signal.SIGTERM or trial.printed("disturbed", "err"):
        _expect_line(trial, outcome, code, STOPPED, "stopped")
    outcome.lost += trial.half_outs()
    if outcome.hit:
        outcome.stale += [f"after the stop: {path.name}" for path in trial.disk.rglob(".*.partial")]
    trial.rerun(outcome)


def _signalled(trial: Trial, number: signal.Signals, at_change: bool) -> int | None:
    """Runs the stage, sends it a signal, and returns its exit code."""
    if at_change:
        return trial.wait(trial.start(trial.run(at_change=trial.change(), action=int(number))))
    process = trial.start(trial.run())
    process.join(trial.moment())
    if process.is_alive():
        os.kill(process.pid, number)
    return trial.wait(process)


def _expect_line(trial: Trial, outcome: Outcome, code: int | None, expected: int, start: str) -> None:
    """Notes where a run that didn't end well said so otherwise than in one line, with its exit code."""
    lines = trial.printed("disturbed", "err").splitlines()
    if code != 0 and (code != expected or len(lines) != 1 or not lines[0].startswith(start)):
        outcome.unclean = f"exit code {code}: {' | '.join(lines)[-2000:]}"


def _rejected(trial: Trial, outcome: Outcome) -> None:
    """Runs the stage where the machine rejects something: one line and exit code 1, or all goes well."""
    code = trial.wait(trial.start(trial.run()))
    outcome.hit = code != 0
    _expect_line(trial, outcome, code, 1, "error: ")
    outcome.lost += trial.half_outs()
    if not outcome.hit:
        trial.compare(outcome)


def full(trial: Trial, outcome: Outcome, folder: str) -> None:
    """A file system that is full at a random point of the stage's writing, by bytes or by number of files."""
    size_bytes, inodes = trial.undisturbed.sizes[folder]
    if size_bytes > BLOCK_BYTES and trial.random.random() < 0.7:
        limits = {"size": trial.random.randint(1, size_bytes // BLOCK_BYTES) * BLOCK_BYTES, "nr_inodes": 10_000}
    else:
        limits = {"size": ROOM_BYTES, "nr_inodes": 2 + trial.random.randint(0, inodes)}
    path = trial.folder / folder
    trial.mount(path, **limits)
    if folder == "disk" and limits["nr_inodes"] > 2:
        (path / "outs").mkdir()
    _rejected(trial, outcome)
    trial.mount(path, size=ROOM_BYTES, nr_inodes=10_000)
    trial.rerun(outcome)


def read_only(trial: Trial, outcome: Outcome, folder: str) -> None:
    """A file system that can't be written to."""
    path = trial.folder / folder
    trial.mount(path, size=ROOM_BYTES)
    trial.mount(path, ro="")
    _rejected(trial, outcome)
    trial.mount(path, rw="")
    trial.rerun(outcome)


def clock(trial: Trial, outcome: Outcome) -> None:
    """The clock jumps by seconds to decades, forward or back, before a random change of the files."""
    place, jump = trial.folder / "clock", trial.random.choice(JUMPS)
    place.write_text("+0", encoding="utf-8")
    faked = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(place), "FAKETIME_NO_CACHE": "1"}
    faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = runner.command(trial.run(at_change=trial.change(), action=jump, clock=str(place)))
    done = subprocess.run(command, cwd=ROOT, env=faked, check=False, timeout=PATIENCE_SECONDS, capture_output=True)
    outcome.hit = place.read_text(encoding="utf-8") == jump
    outcome.recovered = done.returncode == 0
    if not outcome.recovered:
        outcome.unclean = trial.printed("disturbed", "err")[-2000:]
    trial.compare(outcome)


def two(trial: Trial, outcome: Outcome, one_killed: bool) -> None:
    """Two runs at once with one cache folder, into two folders: both end with the same bytes.

    Where one of them is killed, the other and a rerun do.
    """
    other = trial.folder / "second"
    (other / "outs").mkdir(parents=True)
    first = trial.start(trial.run())
    first.join(trial.moment() * (0.3 if one_killed else 0.5))
    second = trial.start(trial.run(other, "second"))
    outcome.hit = first.is_alive()
    if one_killed:
        first.join(trial.moment())
        first.kill()
        outcome.hit = trial.wait(first) == -signal.SIGKILL
        outcome.lost += trial.half_outs()
    codes = [trial.wait(process) for process in ((second,) if one_killed else (first, second))]
    outcome.recovered = not any(codes)
    if any(codes) or None in codes:
        errors = [trial.printed(log, "err")[-1000:] for log in ("disturbed", "second")]
        outcome.recovered, outcome.unclean = False, f"exit codes {codes}: {' | '.join(errors)}"
    if one_killed:
        trial.rerun(outcome)
    else:
        trial.compare(outcome)
    trial.compare(outcome, other)


KINDS: dict[str, Callable[[Trial, Outcome], None]] = {
    "kill": partial(kill, at_change=False),
    "kill-at-change": partial(kill, at_change=True),
    "stop": stop,
    "full-outs": partial(full, folder="disk"),
    "full-cache": partial(full, folder="cache"),
    "read-only-outs": partial(read_only, folder="disk"),
    "read-only-cache": partial(read_only, folder="cache"),
    "clock": clock,
    "two": partial(two, one_killed=False),
    "two-one-killed": partial(two, one_killed=True),
}
CACHING = {"full-cache", "read-only-cache", "two", "two-one-killed"}
MOUNTING = {"full-outs", "full-cache", "read-only-outs", "read-only-cache"}


def possible(stage: Stage, wanted: list[str], can_mount: bool) -> list[str]:
    """Returns the kinds that can meet a stage on this machine."""
    left_out = (set() if stage.caches else CACHING) | (set() if can_mount else MOUNTING)
    left_out |= set() if Path(FAKETIME).is_file() else {"clock"}
    return [name for name in KINDS if name in wanted and name not in left_out]
