"""Fuzzes every reader of bytes from outside: python -m checks.fuzz [--seconds 60] [--readers tar ...].

Hostile files and variants of valid ones (fuzz_mutations.py, fuzz_formats.py) are read in a process of its own for each
reader, under limits of time and memory. What is neither accepted whole nor rejected as documented is
a crash, and so is the start of another program; what takes longer than --hang-seconds is a hang. Prints a row a reader.
The long run is --seconds 1200: 20 CPU minutes a reader, seven hours.
"""

import argparse
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from checks import fuzz_mutations, fuzz_readers
from checks.fuzz_images import LimitError
from stages.library.common.artifacts import sha256_bytes

MEMORY_BYTES = 2 << 30  # beside what the libraries have mapped before the first variant
KEPT_SEEDS = 200
KEPT_CPU_SECONDS = 0.05  # slower ones are no seeds: their variants would be as slow
KEPT_FAILURES = 3
FINE = ("accepted", "rejected")
STARTING_SECONDS = 300.0
STARTING = {f"os.{name}" for name in ("exec", "fork", "forkpty", "posix_spawn", "spawn", "system")}
STARTING |= {"pty.spawn", "subprocess.Popen"}  # events of the interpreter; a fork in a library of C isn't seen


@dataclass
class Outcome:
    """What came of a reader's variants."""

    verdicts: Counter[str] = field(default_factory=Counter)  # by "accepted", "hang", "crash: KeyError at x.py:210"
    cpu_seconds: float = 0.0  # of the processes that read the variants, their start left out

    @property
    def failures(self) -> dict[str, int]:
        return {verdict: count for verdict, count in self.verdicts.most_common() if verdict not in FINE}


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
    failed, row = False, "{:13}{:>10}{:>10}{:>10}{:>9}{:>7}{:>8}"
    print(row.format("reader", "cases", "accepted", "rejected", "crashes", "hangs", "CPU s"), flush=True)
    for name in arguments.readers:
        found = fuzz(name, arguments.seconds, arguments.hang_seconds, arguments.seed, arguments.keep)
        hangs = sum(count for reason, count in found.failures.items() if reason.startswith("hang"))
        fine = [found.verdicts[verdict] for verdict in FINE]
        counts = found.verdicts.total(), *fine, found.verdicts.total() - sum(fine) - hangs, hangs
        print(row.format(name, *(f"{count:,}" for count in counts), f"{found.cpu_seconds:.1f}"), flush=True)
        for reason, count in found.failures.items():
            print(f"    {count} x {reason}", flush=True)
        failed |= bool(found.failures)
    sys.exit(failed)


def fuzz(name: str, seconds: float, hang_seconds: float = 30.0, seed: int = 0, keep: Path | None = None) -> Outcome:
    """Fuzzes one reader for so many seconds of CPU time; a process that a failure ended is started again.

    A variant may take `hang_seconds` of real time. `seed` chooses the variants; `keep` is a folder for those that fail.
    """
    outcome, failure = Outcome(), "first"
    context = multiprocessing.get_context("spawn")
    while failure and outcome.cpu_seconds < seconds:
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="decant-fuzz-") as folder:
            left, current = seconds - outcome.cpu_seconds, Path(folder, "current")
            arguments = (name, seed, outcome.verdicts.total(), left, Path(folder), theirs, keep)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            theirs.close()
            failure = _watch(ours, outcome, hang_seconds)
            worker.kill()
            worker.join()
            if failure == "died":
                lines = Path(folder, "stderr").read_text(errors="replace").strip().splitlines()
                failure = f"crash: the process ended ({worker.exitcode}) {lines[-1][:100] if lines else ''}"
            if failure:
                outcome.verdicts[failure] += 1
                if not current.exists():  # it never came to the first variant
                    break
                _save(keep, name, failure, current.read_bytes())
    return outcome


def _watch(pipe: Connection, outcome: Outcome, hang_seconds: float) -> str:
    """Counts what a process reports; returns "" at its end, else "hang" or "died"."""
    before, patience = outcome.cpu_seconds, STARTING_SECONDS
    try:
        while pipe.poll(patience):
            verdict, spent = pipe.recv()
            outcome.cpu_seconds, patience = before + spent, hang_seconds
            if verdict == "end":
                return ""
            outcome.verdicts[verdict] += 1
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

    def forbid_programs(event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTING:
            started.append(event)
            raise PermissionError(f"{event}: a reader starts no other program")

    reader = fuzz_readers.readers()[name]
    (folder / "seeds").mkdir()
    (folder / "files").mkdir()
    seeds, started = list(reader.seeds(folder / "seeds")), list[str]()
    for content in seeds:
        reader.read(content, folder / "files")  # valid files are accepted
    hostile, most = list(reader.hostile()), len(seeds) + KEPT_SEEDS
    if reader.alone:
        sys.addaudithook(forbid_programs)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))
    spent = 0.0  # on what is made up, which the seconds are for
    while spent < seconds or number < len(hostile):
        before, made_up = sum(os.times()[:4]), number >= len(hostile)
        dice = random.Random(f"{name} {seed} {number}")  # noqa: S311
        content = fuzz_mutations.variant(seeds, dice, reader.structural) if made_up else hostile[number]
        number += 1
        (folder / "current").write_bytes(content)
        verdict = _verdict(reader, content, folder / "files", started)
        taken = sum(os.times()[:4]) - before  # of processes that it started, too
        spent += taken * made_up
        cheap = taken < KEPT_CPU_SECONDS and len(content) <= fuzz_mutations.MAX_BYTES
        if verdict == "accepted" and cheap and len(seeds) < most:
            seeds.append(content)
        if verdict not in FINE:
            _save(keep, name, verdict, content)
        pipe.send((verdict, spent))
    pipe.send(("end", spent))


def _verdict(reader: fuzz_readers.Reader, content: bytes, folder: Path, started: list[str]) -> str:
    """Reads a variant; returns "accepted", "rejected", or what is wrong and Decant's own line that it came from."""
    started.clear()
    try:
        reader.read(content, folder)
        verdict = "accepted"
    except reader.rejections:
        verdict = "rejected"
    except LimitError as error:
        verdict = str(error)
    except Exception as error:  # noqa: BLE001 - whatever else is raised is what we look for
        places = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        own = [f"{file.name}:{line}" for file, line in places if file.is_relative_to(fuzz_readers.ROOT)
               and "site-packages" not in file.parts]  # fmt: skip
        verdict = f"crash: {type(error).__name__} at {own[-1] if own else ''}"
    return f"crash: program: {started[0]}" if started else verdict


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


if __name__ == "__main__":
    main()
