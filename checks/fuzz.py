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
import time
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
    cpu_seconds: float = 0.0  # of making and reading variants, the start of processes left out

    @property
    def failures(self) -> dict[str, int]:
        return {verdict: count for verdict, count in self.verdicts.most_common() if verdict not in FINE}


def main() -> None:
    """Prints the table; exit status 1 where there is a failure."""
    parser = argparse.ArgumentParser(prog="python -m checks.fuzz", usage="%(prog)s [options]", description=__doc__)
    known = tuple(fuzz_readers.readers())
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU time for each reader")
    parser.add_argument("--readers", nargs="+", choices=known, default=known, metavar="READER", help=", ".join(known))
    parser.add_argument("--hang-seconds", type=float, default=30.0, metavar="S", help="after which an input hangs")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--keep", type=Path, help="folder for the bytes of failures")
    arguments = parser.parse_args()
    failed, row = False, "{:13}{:>10}{:>10}{:>10}{:>9}{:>7}{:>8}"
    print(row.format("reader", "cases", "accepted", "rejected", "crashes", "hangs", "CPU s"), flush=True)
    for name in arguments.readers:
        found = fuzz(name, arguments.seconds, arguments.hang_seconds, arguments.seed, arguments.keep)
        hangs = sum(count for reason, count in found.failures.items() if reason.startswith("hang"))
        crashes = sum(found.failures.values()) - hangs
        counts = found.verdicts.total(), *(found.verdicts[verdict] for verdict in FINE), crashes, hangs
        print(row.format(name, *(f"{count:,}" for count in counts), f"{found.cpu_seconds:.1f}"), flush=True)
        for reason, count in found.failures.items():
            print(f"    {count} x {reason}", flush=True)
        failed |= bool(found.failures)
    sys.exit(failed)


def fuzz(name: str, seconds: float, hang_seconds: float = 30.0, seed: int = 0, keep: Path | None = None) -> Outcome:
    """Fuzzes one reader for so many seconds of CPU time; a process that a failure ended is started again.

    A variant may take `hang_seconds` of real time. `seed` chooses the variants; `keep` is a folder for those that fail.
    """
    outcome, structural, failure = Outcome(), fuzz_readers.readers()[name].structural, "first"
    content: bytes | None
    context = multiprocessing.get_context("spawn")
    while failure and outcome.cpu_seconds < seconds:
        failure, content = "", None
        with tempfile.TemporaryDirectory(prefix="decant-fuzz-") as folder:
            pipe, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(name, Path(folder), theirs), daemon=True)
            worker.start()
            theirs.close()
            try:
                if not pipe.poll(STARTING_SECONDS):
                    raise TimeoutError
                seeds, hostile, before = pipe.recv()
                before += time.process_time()
                most = len(seeds) + KEPT_SEEDS
                while outcome.cpu_seconds < seconds or outcome.verdicts.total() < len(hostile):
                    number = outcome.verdicts.total()
                    dice, made_up = random.Random(f"{name} {seed} {number}"), number >= len(hostile)  # noqa: S311
                    content = fuzz_mutations.variant(seeds, dice, structural) if made_up else hostile[number]
                    pipe.send(content)
                    if not pipe.poll(hang_seconds):
                        raise TimeoutError
                    verdict, now = pipe.recv()
                    now += time.process_time()  # making a variant counts, too
                    cheap = now - before < KEPT_CPU_SECONDS and len(content) <= fuzz_mutations.MAX_BYTES
                    if verdict == "accepted" and cheap and len(seeds) < most:
                        seeds.append(content)
                    outcome.cpu_seconds += (now - before) * made_up
                    before = now
                    _count(outcome, verdict, content, name, keep)
            except TimeoutError:
                failure = "hang"
                outcome.cpu_seconds += hang_seconds
            except (EOFError, OSError):
                worker.join()
                lines = Path(folder, "stderr").read_text(errors="replace").strip().splitlines()
                failure = f"crash: the process ended ({worker.exitcode}) {lines[-1][:100] if lines else ''}"
            worker.kill()
            worker.join()
        if failure:
            _count(outcome, failure, content or b"", name, keep)
            if content is None:  # it never came to the first variant
                break
    return outcome


def _count(outcome: Outcome, verdict: str, content: bytes, name: str, keep: Path | None) -> None:
    """Counts a verdict, and keeps the bytes of the first few failures of each kind."""
    outcome.verdicts[verdict] += 1
    if keep and verdict not in FINE and outcome.verdicts[verdict] <= KEPT_FAILURES:
        keep.mkdir(parents=True, exist_ok=True)
        file = f"{name}-{sha256_bytes(content)[:12]}"
        (keep / file).write_bytes(content)
        with (keep / "reasons.txt").open("a", encoding="utf-8") as lines:
            lines.write(f"{file}: {name} {verdict}\n")


def _work(name: str, folder: Path, pipe: Connection) -> None:
    """Sends the seeds and the hostile files, then reads what comes, in a process of its own; tells its CPU time."""
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
    pipe.send((seeds, list(reader.hostile()), sum(os.times()[:4])))
    if reader.alone:
        sys.addaudithook(forbid_programs)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))
    while True:
        verdict = _verdict(reader, pipe.recv(), folder / "files", started)
        pipe.send((verdict, sum(os.times()[:4])))  # of processes that it started, too


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


if __name__ == "__main__":
    main()
