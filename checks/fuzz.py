"""Fuzzes every reader of bytes from outside: python -m checks.fuzz [--seconds 60] [--readers tar ...].

Hostile files and variants of valid ones (fuzz_mutations.py, fuzz_formats.py) are read in a process of its own for each
reader, under limits of time and memory. What is neither accepted whole nor rejected as documented is
a crash, and so is the start of another program; what takes longer than --hang-seconds is a hang. Prints a row a reader.
The long run is --seconds 1200: 20 CPU minutes a reader, seven hours.
"""

import argparse
import collections
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from checks import fuzz_limits, fuzz_mutations, fuzz_readers
from stages.library.common.artifacts import sha256_bytes

MEMORY_BYTES = 2 << 30  # beside what the libraries have mapped before the first variant
KEPT_SEEDS = 200
KEPT_CPU_SECONDS = 0.05  # slower ones are no seeds: their variants would be as slow
KEPT_FAILURES = 3
REPORT_SECONDS = 0.2
STARTING_SECONDS = 300.0
STATE = "<QQQd"  # number of the next variant; accepted and rejected since the last report; CPU seconds
STATE_BYTES = struct.calcsize(STATE)


@dataclass
class Outcome:
    """What came of fuzzing a reader.

    Attributes:
      accepted, rejected: numbers of variants.
      failures: number of variants by kind and reason: "crash: KeyError at records.py:210", "hang".
      cpu_seconds: of the processes that read them, their start left out.
    """

    accepted: int = 0
    rejected: int = 0
    failures: collections.Counter[str] = field(default_factory=collections.Counter)
    cpu_seconds: float = 0.0

    @property
    def hangs(self) -> int:
        return sum(count for reason, count in self.failures.items() if reason.startswith("hang"))

    @property
    def cases(self) -> int:
        return self.accepted + self.rejected + self.failures.total()


def main() -> None:
    """Prints the table; exit status 1 where there is a failure."""
    parser = argparse.ArgumentParser(prog="python -m checks.fuzz", usage="%(prog)s [options]", description=__doc__)
    known = tuple(fuzz_readers.readers())
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU time for each reader")
    parser.add_argument("--readers", nargs="+", choices=known, default=known, metavar="READER", help=", ".join(known))
    parser.add_argument("--hang-seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the bytes of failures")
    arguments = parser.parse_args()
    failed = False
    print(
        f"{'reader':13}{'cases':>10}{'accepted':>10}{'rejected':>10}{'crashes':>9}{'hangs':>7}{'CPU s':>8}", flush=True
    )
    for name in arguments.readers:
        outcome = fuzz(name, arguments.seconds, arguments.hang_seconds, arguments.seed, arguments.keep)
        hangs = outcome.hangs
        counts = f"{outcome.cases:10,}{outcome.accepted:10,}{outcome.rejected:10,}"
        bad = f"{outcome.failures.total() - hangs:9,}{hangs:7,}"
        print(f"{name:13}{counts}{bad}{outcome.cpu_seconds:8.1f}", flush=True)
        for reason, count in outcome.failures.most_common():
            print(f"    {count} x {reason}", flush=True)
        failed |= bool(outcome.failures)
    sys.exit(failed)


def fuzz(name: str, seconds: float, hang_seconds: float = 30.0, seed: int = 0, keep: Path | None = None) -> Outcome:
    """Fuzzes one reader.

    Args:
      name: of the reader.
      seconds: of CPU time; a process that a failure ended is started again.
      hang_seconds: of real time that a variant may take.
      seed: chooses the variants.
      keep: folder for the bytes of failures, or None.
    """
    outcome, number = Outcome(), 0
    context = multiprocessing.get_context("spawn")
    while outcome.cpu_seconds < seconds:
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="decant-fuzz-") as folder:
            before = outcome.cpu_seconds
            left = seconds - before
            worker = context.Process(
                target=_work, args=(name, seed, number, left, Path(folder), theirs, keep), daemon=True
            )
            worker.start()
            theirs.close()
            failure = _watch(ours, outcome, hang_seconds)
            worker.kill()
            worker.join()
            if failure is None:
                break
            reason = failure if failure == "hang" else f"crash: the process ended ({worker.exitcode}) {_last(folder)}"
            outcome.failures[reason] += 1
            current = Path(folder) / "current"
            if not current.exists():  # it never came to the first variant
                break
            # What it had not yet reported stands before the variant that it ended with.
            number, accepted, rejected, spent = struct.unpack(STATE, (content := current.read_bytes())[:STATE_BYTES])
            outcome.accepted += accepted
            outcome.rejected += rejected
            outcome.cpu_seconds += max(before + spent - outcome.cpu_seconds, 0)
            _save(keep, name, reason, content[STATE_BYTES:])
    return outcome


def _watch(pipe: Connection, outcome: Outcome, hang_seconds: float) -> str | None:
    """Counts what a process reports; returns None at its end, else "hang" or "died"."""
    before, patience = outcome.cpu_seconds, STARTING_SECONDS
    try:
        while pipe.poll(patience):
            message = pipe.recv()
            if message is None:
                return None
            accepted, rejected, failures, cpu_seconds = message
            outcome.accepted += accepted
            outcome.rejected += rejected
            outcome.failures.update(failures)
            outcome.cpu_seconds = before + cpu_seconds
            patience = hang_seconds
        outcome.cpu_seconds += hang_seconds
        return "hang"
    except EOFError:
        return "died"


def _work(name: str, seed: int, number: int, seconds: float, folder: Path, pipe: Connection, keep: Path | None) -> None:
    """Reads the hostile files, then variants until `seconds` of CPU time are over, in a process of its own."""
    with (folder / "stderr").open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    reader = fuzz_readers.readers()[name]
    (folder / "seeds").mkdir()
    (folder / "files").mkdir()
    seeds = list(reader.seeds(folder / "seeds"))
    for content in seeds:
        reader.read(content, folder / "files")  # valid files are accepted
    hostile = list(reader.hostile())
    programs = fuzz_limits.Programs() if reader.alone else None
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))
    started, reported, first = _cpu_seconds(), time.monotonic(), len(seeds)
    accepted = rejected = 0
    failures: collections.Counter[str] = collections.Counter()
    while (spent := _cpu_seconds() - started) < seconds or number < len(hostile):
        if number < len(hostile):
            content = hostile[number]()
        else:
            content = fuzz_mutations.variant(seeds, random.Random(f"{name} {seed} {number}"), reader.structural)  # noqa: S311
        number += 1
        (folder / "current").write_bytes(struct.pack(STATE, number, accepted, rejected, spent) + content)
        try:
            try:
                reader.read(content, folder / "files")
            finally:
                if programs:
                    programs.check()
            accepted += 1
            cheap = _cpu_seconds() - started - spent < KEPT_CPU_SECONDS and len(content) <= fuzz_mutations.MAX_BYTES
            if cheap and len(seeds) < first + KEPT_SEEDS:
                seeds.append(content)
        except reader.rejections:
            rejected += 1
        except Exception as error:  # noqa: BLE001 - whatever else is raised is what we look for
            reason = _reason(error)
            failures[reason] += 1
            _save(keep, name, reason, content)
        if number <= len(hostile):
            started = _cpu_seconds() - spent  # the seconds are for what is made up
        if time.monotonic() - reported > REPORT_SECONDS:
            pipe.send((accepted, rejected, dict(failures), spent))
            accepted, rejected, reported = 0, 0, time.monotonic()
            failures.clear()
    pipe.send((accepted, rejected, dict(failures), spent))
    pipe.send(None)


def _cpu_seconds() -> float:
    """Returns what this process and those that it started and that ended have taken."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _reason(error: BaseException) -> str:
    """Returns which limit was passed, or the error's type and the last line of Decant's own code that it passed."""
    if isinstance(error, fuzz_limits.LimitError):
        return str(error) if str(error).startswith("hang") else f"crash: {error}"
    place, trace = "", error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(fuzz_readers.ROOT) and "site-packages" not in file.parts:
            place = f"{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"crash: {type(error).__name__} at {place}"


def _save(keep: Path | None, name: str, reason: str, content: bytes) -> None:
    """Keeps the bytes of a failure, the first few of each reason."""
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    log = keep / "reasons.txt"
    if not log.exists() or log.read_text(encoding="utf-8").count(f"{name} {reason}\n") < KEPT_FAILURES:
        file = f"{name}-{sha256_bytes(content)[:12]}"
        (keep / file).write_bytes(content)
        with log.open("a", encoding="utf-8") as lines:
            lines.write(f"{file}: {name} {reason}\n")


def _last(folder: str) -> str:
    """Returns the last line that a process wrote."""
    lines = (Path(folder) / "stderr").read_text(errors="replace").strip().splitlines()
    return lines[-1][:100] if lines else ""


if __name__ == "__main__":
    main()
