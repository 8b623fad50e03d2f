"""What benchmarks share: the command line, a params.yaml of their own, stages in silence, and rounds that alternate."""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
Result = TypeVar("Result")


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a benchmark's command line."""
    return argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", usage="%(prog)s [options]", description=about)


def write_params(path: Path, changes: Mapping[str, Any]) -> Path:
    """Writes params.yaml with changes in some sections, and returns its path."""
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section] |= values
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return path


def stage(name: str, cache: Path | None = None, **options: str | Path) -> list[str]:
    """Returns the command of a stage, with a cache folder of its own."""
    environment = ["env", f"DECANT_CACHE={cache}"] if cache else []
    given = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    return [*environment, sys.executable, "-m", f"stages.{name}", *given]


def run(command: list[str]) -> float:
    """Runs a command in silence; returns the seconds that it took."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def records(params: Path, raw: Path, out: Path) -> None:
    """Makes TFRecords of the data set that a params.yaml names."""
    run(stage("fetch", params=params, out=raw))
    run(stage("tfrecord", params=params, raw=raw, out=out, examples=out.with_suffix(".png")))


def rounds(ways: Mapping[str, Callable[[], Result]], count: int) -> dict[str, list[Result]]:
    """Runs each way once a round, every other round backwards, so that which goes first alternates."""
    found: dict[str, list[Result]] = {name: [] for name in ways}
    for number in range(count):
        for name in list(ways) if number % 2 == 0 else reversed(list(ways)):
            found[name].append(ways[name]())
    return found


def ratio(ours: Sequence[float], others: Sequence[float], width: int) -> str:
    """Returns the median of the ratios and, in brackets, that of each round."""
    ratios = np.divide(ours, others)
    each = " ".join(f"{one:.2f}" for one in ratios)
    return f"{np.median(ratios):5.2f}  ({each:{width}s})"


class Memory:
    """The peaks of a process's anonymous and of all its resident memory, MiB, looked at every 20 ms. Linux only."""

    def __init__(self, pid: int):
        if sys.platform != "linux":
            raise SystemExit("memory is read from /proc: Linux only")
        self._status = Path(f"/proc/{pid}/status")
        self.anonymous_mib = self.resident_mib = 0.0
        self.before_mib = self._look()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _look(self) -> float:
        try:
            lines = self._status.read_text(encoding="utf-8").splitlines()
        except OSError:  # the process has ended
            return 0.0
        found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith("kB")}
        self.anonymous_mib = max(self.anonymous_mib, found.get("RssAnon", 0))
        self.resident_mib = max(self.resident_mib, found.get("VmRSS", 0))
        return found.get("VmRSS", 0)

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
