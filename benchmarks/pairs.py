"""CPU time of one way of doing something as a ratio to that of another, on a machine that may be busy.

With OMP_NUM_THREADS=1 in the environment: threads that wait for each other would count as work.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.library.features import cache
from stages.library.scoring import probabilities


def data(folder: Path | None, kind: str, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns features (rows, dim) and labels of training + validation, or 10 generated classes without a folder.

    Generated features are non-negative, as pooled features are, or probabilities over `dim` classes, most near zero.
    """
    if folder:
        features = cache.load(folder, ("train", "validation"), kind)
        return features.values[:rows], features.labels[:rows]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, rows)
    centres = rng.normal(size=(10, 40)) @ rng.normal(size=(40, dim)) / 8
    values = centres[labels] + rng.normal(size=(rows, 40)) @ rng.normal(size=(40, dim)) / 6 + rng.normal(
        scale=1.5, size=(rows, dim)
    )  # fmt: skip
    if kind == "probabilities":
        return probabilities.softmax(2 * values), labels
    return cache.quantize(np.maximum(values, 0)), labels


class Outcome(NamedTuple):
    """What one way cost and gave."""

    cpu_seconds: float
    accuracy: float


def timed(way: Callable[[], float]) -> Callable[[], Outcome]:
    """Returns a function that does the work of `way`, which returns an accuracy, and times all of it."""

    def run() -> Outcome:
        start = time.process_time()
        accuracy = way()
        return Outcome(time.process_time() - start, accuracy)

    return run


def table(
    ways: Mapping[str, Callable[[], Outcome]], reference: Callable[[], Outcome], count: int
) -> dict[str, tuple[float, float]]:
    """Prints and returns each way's time as a ratio to the reference's (median over pairs), and both accuracies.

    Args:
      ways: name to what does the work.
      reference: what they are compared with.
      count: pairs for each way; which goes first alternates.
    """
    found = {}
    print(f"{'':30s} ratio   (pairs)                accuracy   reference")
    for name, way in ways.items():
        ratios = []
        for pair in range(count):
            order = (way, reference) if pair % 2 == 0 else (reference, way)
            results = {function: function() for function in order}
            ratios.append(results[way].cpu_seconds / results[reference].cpu_seconds)
        ratio, accuracy, other = float(np.median(ratios)), results[way].accuracy, results[reference].accuracy
        each = " ".join(f"{value:.2f}" for value in ratios)
        print(f"{name:30s} {ratio:5.2f}   ({each:18s})   {accuracy:.4f}     {other:.4f}", flush=True)
        found[name] = ratio, accuracy
    return found
