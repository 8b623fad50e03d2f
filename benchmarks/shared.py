"""What benchmarks share: the command line, a params.yaml of their own, stages in silence, and rounds that alternate."""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

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


def peaks(process: "subprocess.Popen[bytes]") -> tuple[float, float]:
    """Waits for a process; returns the peaks of its anonymous and its resident memory, MiB, looked at every 20 ms."""
    if sys.platform != "linux":
        raise SystemExit("memory is read from /proc: Linux only")
    status, found = Path(f"/proc/{process.pid}/status"), {"RssAnon": 0.0, "VmRSS": 0.0}
    while process.poll() is None:
        for line in status.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = max(found[name], int(value.split()[0]) / 1024)
        time.sleep(0.02)
    return found["RssAnon"], found["VmRSS"]
