"""The kinds of faults: each takes a trial, injects one, and notes in the outcome what came of it."""

import glob
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from checks.faults import runner
from checks.faults.project import ROOT, Stage
from checks.faults.trials import BLOCK_BYTES, PATIENCE_SECONDS, ROOM_BYTES, Outcome, Trial

STOPPED = 128 + signal.SIGTERM
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")  # noqa: PTH207 - no folder to start from
JUMPS = ("-20y", "+30y", "-90", "+2d")


def kill(trial: Trial, outcome: Outcome) -> None:
    """SIGKILL at a random moment, in half of the cases over the outs of an earlier run."""
    if trial.random.random() < 0.5:
        trial.place_outs()
    process = trial.start(trial.run())
    trial.wait_until(process, trial.moment())
    process.kill()
    outcome.hit = trial.wait(process) == -signal.SIGKILL
    outcome.lost += trial.half_outs()
    trial.rerun(outcome)


def kill_at_change(trial: Trial, outcome: Outcome) -> None:
    """SIGKILL right before a random one of the files' changes: opened to write, renamed, removed, folders made."""
    if trial.random.random() < 0.5:
        trial.place_outs()
    change = trial.random.randint(1, max(trial.undisturbed.changes, 1))
    process = trial.start(trial.run(at_change=change))
    outcome.hit = trial.wait(process) == -signal.SIGKILL
    outcome.lost += trial.half_outs()
    trial.rerun(outcome)


def stop(trial: Trial, outcome: Outcome) -> None:
    """SIGTERM at a random moment or change: the exit code 143, one line, nothing half done, and a rerun goes on."""
    if trial.random.random() < 0.5:
        process = trial.start(trial.run())
        trial.wait_until(process, trial.moment())
        process.terminate()
    else:
        change = trial.random.randint(1, max(trial.undisturbed.changes, 1))
        process = trial.start(trial.run(at_change=change, action=int(signal.SIGTERM)))
    code = trial.wait(process)
    outcome.hit = code != 0
    lines = trial.printed("disturbed", "err").splitlines()
    # Before the stage's first line the signal has its usual effect, and nothing was begun.
    early = code == -signal.SIGTERM and not lines
    if outcome.hit and not early and (code != STOPPED or len(lines) != 1 or not lines[0].startswith("stopped")):
        outcome.unclean = f"exit code {code}: {' | '.join(lines)[-2000:]}"
    outcome.lost += trial.half_outs()
    if outcome.hit:
        partial = (path for path in trial.disk.rglob(".*.partial"))
        outcome.stale += [f"after the stop: {path.relative_to(trial.folder)}" for path in partial]
    trial.rerun(outcome)


def rejected(trial: Trial, outcome: Outcome) -> None:
    """Runs the stage where the machine rejects something: one line and exit code 1, or all goes well."""
    code = trial.wait(trial.start(trial.run()))
    outcome.hit = code != 0
    lines = trial.printed("disturbed", "err").splitlines()
    if outcome.hit and (code != 1 or len(lines) != 1 or not lines[0].startswith("error: ")):
        outcome.unclean = f"exit code {code}: {' | '.join(lines)[-2000:]}"
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
    rejected(trial, outcome)
    trial.mount(path, size=ROOM_BYTES, nr_inodes=10_000)
    trial.rerun(outcome)


def full_outs(trial: Trial, outcome: Outcome) -> None:
    """No room where the outs are written."""
    full(trial, outcome, "disk")


def full_cache(trial: Trial, outcome: Outcome) -> None:
    """No room in the cache folder."""
    full(trial, outcome, "cache")


def read_only(trial: Trial, outcome: Outcome, folder: str) -> None:
    """A file system that can't be written to."""
    path = trial.folder / folder
    trial.mount(path, size=ROOM_BYTES)
    trial.mount(path, ro="")
    rejected(trial, outcome)
    trial.mount(path, rw="")
    trial.rerun(outcome)


def read_only_outs(trial: Trial, outcome: Outcome) -> None:
    """The outs' place can't be written to."""
    read_only(trial, outcome, "disk")


def read_only_cache(trial: Trial, outcome: Outcome) -> None:
    """The cache folder can't be written to."""
    read_only(trial, outcome, "cache")


def clock(trial: Trial, outcome: Outcome) -> None:
    """The clock jumps by seconds to decades, forward or back, before a random change of the files."""
    change = trial.random.randint(1, max(trial.undisturbed.changes, 1))
    place, jump = trial.folder / "clock", trial.random.choice(JUMPS)
    place.write_text("+0", encoding="utf-8")
    run = trial.run(at_change=change, action=jump, clock=str(place))
    faked = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(place), "FAKETIME_NO_CACHE": "1"}
    faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = runner.command(replace(run, environment=run.environment))
    done = subprocess.run(command, cwd=ROOT, env=faked, check=False, timeout=PATIENCE_SECONDS, capture_output=True)
    outcome.hit = place.read_text(encoding="utf-8") == jump
    outcome.recovered = done.returncode == 0
    if not outcome.recovered:
        outcome.unclean = trial.printed("disturbed", "err")[-2000:]
    trial.compare(outcome)


def two(trial: Trial, outcome: Outcome) -> None:
    """Two runs at once with one cache folder, into two folders; both end with the same bytes."""
    other = trial.folder / "second"
    (other / "outs").mkdir(parents=True)
    first = trial.start(trial.run())
    trial.wait_until(first, trial.moment() / 2)
    second = trial.start(trial.run(other, "second"))
    outcome.hit = first.is_alive()
    codes = [trial.wait(process) for process in (first, second)]
    outcome.recovered = codes == [0, 0]
    if not outcome.recovered:
        errors = [trial.printed(log, "err")[-1000:] for log in ("disturbed", "second")]
        outcome.unclean = f"exit codes {codes}: {' | '.join(errors)}"
    trial.compare(outcome)
    trial.compare(outcome, other)


def two_one_killed(trial: Trial, outcome: Outcome) -> None:
    """Of two runs at once with one cache folder one is killed; the other ends well, and so does a rerun."""
    other = trial.folder / "second"
    (other / "outs").mkdir(parents=True)
    first = trial.start(trial.run())
    trial.wait_until(first, trial.random.uniform(0, 0.3) * trial.undisturbed.seconds)
    second = trial.start(trial.run(other, "second"))
    trial.wait_until(first, trial.moment())
    first.kill()
    outcome.hit = trial.wait(first) == -signal.SIGKILL
    outcome.lost += trial.half_outs()
    if code := trial.wait(second):
        outcome.unclean = f"the other: exit code {code}: {trial.printed('second', 'err')[-2000:]}"
    trial.rerun(outcome)
    trial.compare(outcome, other)


Kind = Callable[[Trial, Outcome], None]
KINDS: dict[str, Kind] = {
    "kill": kill,
    "kill-at-change": kill_at_change,
    "stop": stop,
    "full-outs": full_outs,
    "full-cache": full_cache,
    "read-only-outs": read_only_outs,
    "read-only-cache": read_only_cache,
    "clock": clock,
    "two": two,
    "two-one-killed": two_one_killed,
}
CACHING = {"full-cache", "read-only-cache", "two", "two-one-killed"}
MOUNTING = {"full-outs", "full-cache", "read-only-outs", "read-only-cache"}


def possible(stage: Stage, wanted: list[str], can_mount: bool) -> list[str]:
    """Returns the kinds that can meet a stage on this machine."""
    return [
        name
        for name in KINDS
        if name in wanted
        and (stage.caches or name not in CACHING)
        and (can_mount or name not in MOUNTING)
        and (Path(FAKETIME).is_file() or name != "clock")
    ]
