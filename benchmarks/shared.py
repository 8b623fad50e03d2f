"""What benchmarks share: the command line, a params.yaml of their own, stages in silence, and rounds that alternate."""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

ROOT = Path(__file__).parents[1]
Result = TypeVar("Result")


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a benchmark's command line."""
    return argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", usage="%(prog)s [options]", description=about)


def write_params(path: Path, changes: Mapping[str, Any]) -> Path:
    """Writes params.yaml with changes of keys in some sections, or of a setting that is none, and returns its path."""
    from ruamel.yaml import YAML  # which the environment of the peers doesn't have

    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section] = content[section] | values if isinstance(values, Mapping) else values
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return path


def stage(name: str, cache: Path | None = None, **options: str | Path) -> list[str]:
    """Returns the command of a stage, with a cache folder of its own."""
    environment = ["env", f"DECANT_CACHE={cache}"] if cache else []
    given = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    return [*environment, sys.executable, "-m", f"stages.{name}", *given]


def run(command: list[str], at_most_seconds: float | None = None) -> float:
    """Runs a command in silence, and kills it when its time is over; returns the seconds that it took."""
    start = time.perf_counter()
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=at_most_seconds)
    return time.perf_counter() - start


def records(params: Path, raw: Path, out: Path) -> None:
    """Makes TFRecords of the data set that a params.yaml names."""
    run(stage("fetch", params=params, out=raw))
    run(stage("tfrecord", params=params, raw=raw, out=out, examples=out.with_suffix(".png")))


def rounds(ways: Mapping[str, Callable[[], Result]], count: int) -> dict[str, list[Result]]:
    """Runs each way once a round, every other round backwards, so that which goes first alternates."""
    found: dict[str, list[Result]] = {name: [] for name in ways}
    for number in range(count):
        for name in run_order(list(ways), number):
            found[name].append(ways[name]())
    return found


def run_order(names: Sequence[str], number: int) -> list[str]:
    """Returns the names in the order of a round: every other one backwards."""
    return list(names) if number % 2 == 0 else list(reversed(names))


def ratios(ours: Sequence[float], others: Sequence[float]) -> dict[str, str]:
    """Returns two cells of a table: the median of the ratios, and that of each round."""
    each = np.divide(ours, others)
    return {"ratio": f"{np.median(each):.2f}", "rounds": " ".join(f"{one:.2f}" for one in each)}
