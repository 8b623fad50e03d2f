"""Cross-validation, of every head: its scores without each fold, and the candidate with the best ones."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.library.common.console import progress
from stages.library.features import disk_arrays
from stages.library.heads.calibration import fit_temperature
from stages.library.heads.contract import Step, Trainer, check_finite
from stages.library.heads.folds import NEVER
from stages.library.scoring import selection
from stages.library.scoring.selection import SelectionMetric

EQUAL = 12  # decimals: merits that differ less are equal


class CrossValidation(NamedTuple):
    """Result of k-fold cross-validation.

    The logits are float32 (n, num_classes), each row by the head that did not see its fold, NaN in rows of no fold;
    they are not yet calibrated.
    """

    logits: np.ndarray
    curve: list[tuple[float, str, float, float]]  # step, series, accuracy and loss, means over the folds
    best_params: dict[str, Any]  # the candidate that was chosen


def cross_validate(trainer: Trainer, selected_by: SelectionMetric) -> CrossValidation:
    """Trains without each fold, and chooses among the candidates; UserError: one diverged.

    The best is so by the metric of its out-of-fold logits, each row counted once; the log loss is measured after
    temperature scaling. Of equals the lower mean of the loss that the head minimises decides, then the larger `at`.
    """
    examples, candidates = trainer.examples, trainer.candidates
    count = int(examples.folds.max()) + 1
    logits = disk_arrays.empty((len(candidates), len(examples.labels), examples.num_classes), np.float32)

    @np.errstate(over="ignore", invalid="ignore")  # what diverges is said once, below
    def run(fold: int) -> list[Step]:
        _, held_out = examples.split(fold)
        steps = []
        for index, step in enumerate(trainer.path(fold)):
            check_finite(np.array([step.training, step.held_out]))
            if step.logits is not None:
                check_finite(step.logits)
                logits[min(index, len(candidates) - 1), held_out] = step.logits
            steps.append(step._replace(logits=None))
        return steps

    # Side by side the folds fill the cores; threads of one product would wait for each other beside them.
    alone = threadpool_limits(1 if trainer.workers > 1 else None, "blas")
    with alone, ThreadPoolExecutor(trainer.workers) as pool:
        runs = pool.map(run, range(count)) if trainer.workers > 1 else map(run, range(count))
        paths = list(progress(runs, "cross-validation", "folds", total=count))
    steps = paths[0]
    # Axes: fold, step, series, accuracy and loss.
    scores = np.array([[(step.training, step.held_out) for step in path] for path in paths])
    means = scores.mean(axis=0).tolist()
    series = "training", "held-out"
    curve = [(step.at, name, *means[i][j]) for i, step in enumerate(steps) for j, name in enumerate(series)]
    scored = np.flatnonzero(examples.folds != NEVER)
    labels, weights = examples.labels[scored], examples.weights[scored]
    losses = np.average(scores[:, :, 1, 1], axis=0, weights=np.bincount(examples.folds[scored], weights))

    def rank(index: int) -> tuple[float, float, float]:
        found = logits[index, scored]
        if selected_by == "log_loss":
            found /= np.float32(fit_temperature(found, labels, weights))
        merit = selection.merit(selected_by, selection.measure(found, labels)[selected_by])
        return round(merit, EQUAL), -losses[index], steps[index].at

    best = max(range(len(steps)), key=rank) if len(candidates) > 1 else 0
    chosen = np.full(logits.shape[1:], np.nan, np.float32)
    chosen[scored] = logits[best, scored]
    return CrossValidation(chosen, curve, dict(candidates[best]))
