"""Ridge head: one-vs-rest least squares in closed form, one pass for all penalties and all folds.

The penalty with the best out-of-fold accuracy is chosen; ties go to the lower out-of-fold squared error, then to the
larger penalty. A least-squares score estimates 2p - 1, of which the log-odds ln(p / (1 - p)) have the tangent 2(2p - 1)
at p = 1/2: so the logits are twice the scores, and temperature scaling does the rest.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library.common.console import progress
from stages.library.common.params import CONFIG
from stages.library.features import disk_arrays
from stages.library.heads.blocks import BLOCK_ROWS, batches
from stages.library.heads.contract import CrossValidation, CurvePoint, Features
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.scaling import RowScaling, Scaling
from stages.plugins.heads.ridge import ridge_solver

TUNES = True
LOGITS_PER_SCORE = 2
SAMPLE = 4096


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `ridge` of params.yaml."""

    features: Annotated[Features, pydantic.Field(description="what the head is trained on")]
    scaling: Annotated[Scaling, pydantic.Field(description="of columns to equal deviation, or of rows to unit length")]
    power: Annotated[float, pydantic.Field(gt=0, le=1, description="to which features are raised, sign kept")]
    penalties: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0)], ...],
        pydantic.Field(min_length=1, description="candidates, added to the Gram matrix's diagonal"),
    ]

    @property
    def row_scaling(self) -> RowScaling:
        """What is done to each row on its own."""
        return RowScaling(self.power, self.scaling == "l2")


def cross_validate(
    features: np.ndarray, labels: np.ndarray, num_classes: int, folds: np.ndarray, params: Params, seed: int
) -> CrossValidation:
    """Chooses the penalty; nothing is random, so `seed` isn't used.

    The curve's training accuracy is measured on SAMPLE training rows. The statistics of all rows are at hand in
    the end, so the head costs one more eigendecomposition.
    """
    penalties = params.penalties
    features, basis = _compact(features, params)
    origin = ridge_solver.origin_of(features)
    count = int(folds.max()) + 1
    groups = folds - folds.min()  # rows that are never held out are a group of their own, the first
    statistics = ridge_solver.fold_statistics(features, labels, num_classes, groups, origin)
    total = statistics.sum(axis=0)
    logits = disk_arrays.empty((len(penalties), len(labels), num_classes), np.float32)
    accuracy, loss = np.empty((2, count, len(penalties), 2))  # last axis: training, held-out
    for fold, held_out in enumerate(progress(statistics[-count:], "eigendecompositions", "folds", total=count)):
        parts = total - held_out, held_out
        kernels, biases = ridge_solver.solve(parts[0], num_classes, penalties, params.scaling == "standardized")
        loss[fold] = [
            [ridge_solver.mean_squared_error(part, kernel, bias) for part in parts]
            for kernel, bias in zip(kernels, biases, strict=True)
        ]
        heads = [_on_raw_features(*pair, origin) for pair in zip(kernels, biases, strict=True)]
        rows, sample = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        sample = sample[:: -(-len(sample) // SAMPLE)]
        accuracy[fold, :, 0] = _correct(heads, features, labels, sample) / len(sample)
        accuracy[fold, :, 1] = _correct(heads, features, labels, rows, logits) / len(rows)

    scored = np.flatnonzero(folds >= 0)
    best = _choose(accuracy[:, :, 1], loss[:, :, 1], np.bincount(folds[scored]), penalties)
    curve = [
        CurvePoint(float(np.log10(penalty)), series, float(accuracy[:, i, part].mean()), float(loss[:, i, part].mean()))
        for i, penalty in enumerate(penalties)
        for part, series in enumerate(("training", "held-out"))
    ]
    out_of_fold = np.full(logits.shape[1:], np.nan, np.float32)
    out_of_fold[scored] = logits[best, scored]
    head = _solve(total, num_classes, penalties[best], params, origin, basis)
    return CrossValidation(out_of_fold, curve, {"penalty": penalties[best]}, head)


def fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, params: Params, seed: int, best_params: dict[str, Any]
) -> DenseNetwork:
    """Fits the chosen penalty."""
    features, basis = _compact(features, params)
    origin = ridge_solver.origin_of(features)
    (statistics,) = ridge_solver.fold_statistics(features, labels, num_classes, np.zeros_like(labels), origin)
    return _solve(statistics, num_classes, best_params["penalty"], params, origin, basis)


def load(folder: Path, dim: int, num_classes: int) -> DenseNetwork:
    """Reads a saved head; ValueError where it has another shape."""
    return DenseNetwork.load(folder, dim, num_classes)


def _compact(features: np.ndarray, params: Params) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns scaled rows, in coordinates of their own span where that has fewer, and the basis of these coordinates.

    Standardized columns are not among the same problems in other coordinates.
    """
    features = params.row_scaling(features)
    basis = None if params.scaling == "standardized" else ridge_solver.row_space(features)
    return (features if basis is None else (features @ basis).astype(np.float32)), basis


def _solve(
    statistics: np.ndarray,
    num_classes: int,
    penalty: float,
    params: Params,
    origin: np.ndarray,
    basis: np.ndarray | None,
) -> DenseNetwork:
    """Returns the head of the rows behind `ridge_solver.fold_statistics`, in coordinates of `basis`."""
    standardized = params.scaling == "standardized"
    (kernel,), (bias,) = ridge_solver.solve(statistics, num_classes, [penalty], standardized)
    head = _on_raw_features(kernel, bias, origin)
    if basis is not None:
        head = Dense((basis @ head.kernel).astype(np.float32), head.bias)
    return DenseNetwork((head,), params.row_scaling)


def _on_raw_features(kernel: np.ndarray, bias: np.ndarray, origin: np.ndarray) -> Dense:
    kernel, bias = LOGITS_PER_SCORE * kernel, LOGITS_PER_SCORE * (bias - origin @ kernel)
    return Dense(kernel.astype(np.float32), bias.astype(np.float32))


def _correct(
    heads: list[Dense], features: np.ndarray, labels: np.ndarray, rows: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Returns how many of some rows each head classifies rightly, (heads,), from one product with each block of rows.

    Args:
      heads: one layer each.
      features: (n, dim).
      labels: int64 (n,).
      rows: int64 ids.
      out: float32 (heads, n, num_classes), whose rows are set to the logits.
    """
    side_by_side = Dense(np.hstack([head.kernel for head in heads]), np.hstack([head.bias for head in heads]))
    correct = np.zeros(len(heads), np.int64)
    for block in batches(len(rows), BLOCK_ROWS):
        logits = side_by_side(features[rows[block]].astype(np.float32))
        logits = logits.reshape(len(logits), len(heads), -1).swapaxes(0, 1)
        correct += (logits.argmax(axis=2) == labels[rows[block]]).sum(axis=1)
        if out is not None:
            out[:, rows[block]] = logits
    return correct


def _choose(accuracy: np.ndarray, loss: np.ndarray, counts: np.ndarray, penalties: tuple[float, ...]) -> int:
    """Returns the index of the best penalty from held-out (folds, penalties) and the folds' row counts."""
    accuracies, losses = counts @ accuracy / counts.sum(), counts @ loss / counts.sum()
    return max(range(len(penalties)), key=lambda i: (round(accuracies[i], 12), -losses[i], penalties[i]))
