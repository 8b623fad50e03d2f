"""Logistic head: multinomial logistic regression with an L2 penalty, solved by L-BFGS (library/logistic_solver.py).

Each fold follows the penalties from strong to weak, each search starting from the one before, and ends where its
held-out log loss is STOP times its lowest: from there on it only rises. The penalty with the lowest out-of-fold log
loss is chosen, among those that every fold reached; ties go to the larger. Log loss rather than accuracy decides: it
changes smoothly with the penalty, while on few examples the accuracies of neighbours differ by noise.

Standardized roots of pooled features were best (EfficientNet-Lite0, 96 px, 5,000 images of CIFAR-10, 5 folds: 0.749;
at power 1 0.740). Logits add nothing to pooled features of which they are linear functions.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library.common.console import progress
from stages.library.common.params import CONFIG
from stages.library.features import disk_arrays
from stages.library.heads import learning_curves
from stages.library.heads import scaling as feature_scaling
from stages.library.heads.contract import CrossValidation, CurvePoint, Features
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.scaling import RowScaling, Scaling, Standardization
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax
from stages.plugins.heads.logistic import logistic_solver

TUNES = True
STOP = 1.1


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `logistic` of params.yaml."""

    features: Annotated[Features, pydantic.Field(description="what the head is trained on")]
    scaling: Annotated[Scaling, pydantic.Field(description="of columns to equal deviation, or of rows to unit length")]
    power: Annotated[float, pydantic.Field(gt=0, le=1, description="to which features are raised, sign kept")]
    penalties: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0)], ...],
        pydantic.Field(min_length=1, description="candidates, on half the squared kernel beside the sum of losses"),
    ]
    tolerance: Annotated[float, pydantic.Field(ge=1e-8, lt=1, description="mean loss above its minimum, in nats")]
    max_iterations: Annotated[int, pydantic.Field(ge=1, le=100_000, description="for each penalty")]

    @property
    def row_scaling(self) -> RowScaling:
        """What is done to each row on its own."""
        return RowScaling(self.power, self.scaling == "l2")


def cross_validate(
    features: np.ndarray, labels: np.ndarray, num_classes: int, folds: np.ndarray, params: Params, seed: int
) -> CrossValidation:
    """Chooses the penalty; nothing is random, so `seed` isn't used. The curve has a point per penalty."""
    features = params.row_scaling(features)
    spectrum = _spectrum(features, params)
    penalties = sorted(set(params.penalties), reverse=True)
    logits = disk_arrays.empty((len(penalties), len(labels), num_classes), np.float32)
    curves = []
    for fold in progress(range(folds.max() + 1), "cross-validation", "folds"):
        training, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        columns = _columns(features, training, params)
        x, x_held_out = columns.of_rows(features, training), columns.of_rows(features, held_out)
        curve: list[CurvePoint] = []
        losses: list[float] = []
        solutions = logistic_solver.path(
            x, labels[training], num_classes, penalties, spectrum, params.tolerance, params.max_iterations
        )
        for index, (penalty, solution) in enumerate(zip(penalties, solutions, strict=True)):
            layer = Dense(solution.kernel.astype(np.float32), solution.bias.astype(np.float32))
            logits[index, held_out] = layer(x_held_out)
            curve += [
                _point(penalty, "training", layer(x), labels[training]),
                _point(penalty, "held-out", logits[index, held_out], labels[held_out]),
            ]
            losses.append(curve[-1].loss)
            if losses[-1] > STOP * min(losses):
                break
        curves.append(curve)
    reached = min(len(curve) for curve in curves)
    held_out = np.flatnonzero(folds >= 0)
    losses = [metrics.log_loss(softmax(scores[held_out]), labels[held_out]) for scores in logits[: reached // 2]]
    best = int(np.argmin(losses))
    curve = learning_curves.average([curve[:reached] for curve in curves])
    out_of_fold = np.full(logits.shape[1:], np.nan, np.float32)
    out_of_fold[held_out] = logits[best, held_out]
    return CrossValidation(out_of_fold, curve, {"penalty": penalties[best]})


def fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, params: Params, seed: int, best_params: dict[str, Any]
) -> DenseNetwork:
    """Fits the chosen penalty; coming from stronger ones takes fewer iterations than going there at once."""
    features = params.row_scaling(features)
    everything = np.arange(len(labels))
    columns = _columns(features, everything, params)
    chosen_penalty = best_params["penalty"]
    stronger = sorted((penalty for penalty in set(params.penalties) if penalty > chosen_penalty), reverse=True)
    *_, solution = logistic_solver.path(
        columns.of_rows(features, everything),
        labels,
        num_classes,
        [*stronger, chosen_penalty],
        _spectrum(features, params),
        params.tolerance,
        params.max_iterations,
    )
    return DenseNetwork((Dense(*columns.fold_into(solution.kernel, solution.bias)),), params.row_scaling)


def load(folder: Path, dim: int, num_classes: int) -> DenseNetwork:
    """Reads a saved head; ValueError where it has another shape."""
    return DenseNetwork.load(folder, dim, num_classes)


def _columns(features: np.ndarray, rows: np.ndarray, params: Params) -> Standardization:
    """Measures the columns of some rows. Centring alone changes no optimum, for the intercept is free."""
    if params.scaling == "standardized":
        return feature_scaling.standardization(features, rows)
    return feature_scaling.centring(features, rows)


def _spectrum(features: np.ndarray, params: Params) -> logistic_solver.Spectrum:
    """Decomposes the Gram matrix of evenly spaced rows of all folds: it speeds up the search, not what is found."""
    rows = np.arange(0, len(features), -(-len(features) // logistic_solver.SPECTRUM_ROWS))
    return logistic_solver.spectrum(_columns(features, rows, params).of_rows(features, rows))


def _point(penalty: float, series: str, logits: np.ndarray, labels: np.ndarray) -> CurvePoint:
    accuracy, loss = metrics.top1_accuracy(logits, labels), metrics.log_loss(softmax(logits), labels)
    return CurvePoint(float(np.log10(penalty)), series, accuracy, loss)
