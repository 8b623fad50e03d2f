"""Ridge head: one-vs-rest least squares in closed form, one pass for all penalties and all folds.

The penalty with the best out-of-fold accuracy is chosen; ties go to the lower out-of-fold squared error, then to the
larger penalty. Least-squares scores are no log-probabilities: they become logits by a factor that minimises the log
loss of the out-of-fold scores, folded into kernel and bias (temperature scaling; Guo et al. 2017, arXiv:1706.04599).
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library import ridge_solver
from stages.library.bottlenecks import softmax
from stages.library.console import progress
from stages.library.dense import BLOCK_ROWS, Dense, DenseNetwork, power_normalise
from stages.library.heads import CrossValidation, CurvePoint, Features, batches
from stages.library.params import CONFIG

SCALES = 1e-2, 1e3  # of logits; scores are about -1 to 1, so the ends are useless and separable scores


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `ridge` of params.yaml."""

    features: Annotated[Features, pydantic.Field(description="what the head is trained on")]
    power: Annotated[float, pydantic.Field(gt=0, le=1, description="to which features are raised, sign kept")]
    penalties: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0)], ...],
        pydantic.Field(min_length=1, description="candidates, added to the Gram matrix's diagonal"),
    ]


def cross_validate(
    features: np.ndarray, labels: np.ndarray, num_classes: int, folds: np.ndarray, params: Params, seed: int
) -> CrossValidation:
    """Chooses the penalty and the logits' scale; nothing is random, so `seed` isn't used."""
    penalties = params.penalties
    features = power_normalise(features, params.power)
    origin = ridge_solver.origin_of(features)
    moments = ridge_solver.fold_moments(features, labels, num_classes, folds, origin)
    total = moments.sum(axis=0)
    candidates = []  # per fold, the heads of all penalties
    accuracy, loss = np.empty((2, len(moments), len(penalties), 2))  # last axis: training, held-out
    for fold, held_out in enumerate(progress(moments, "eigendecompositions", "folds", total=len(moments))):
        parts = total - held_out, held_out
        kernels, biases = ridge_solver.solve(parts[0], num_classes, penalties)
        loss[fold] = [
            [ridge_solver.mean_squared_error(part, kernel, bias) for part in parts]
            for kernel, bias in zip(kernels, biases, strict=True)
        ]
        candidates.append([_on_raw_features(*pair, origin) for pair in zip(kernels, biases, strict=True)])
        correct = _correct(candidates[fold], features, labels)
        accuracy[fold] = np.stack([correct[:, folds != fold].mean(axis=1), correct[:, folds == fold].mean(axis=1)], -1)

    best = _choose(accuracy[:, :, 1], loss[:, :, 1], np.bincount(folds), penalties)
    scores = np.empty((len(labels), num_classes), np.float32)
    for fold, heads in enumerate(candidates):
        scores[folds == fold] = DenseNetwork((heads[best],)).logits(features[folds == fold])
    scale = logit_scale(scores, labels)
    curve = [
        CurvePoint(float(np.log10(penalty)), series, float(accuracy[:, i, part].mean()), float(loss[:, i, part].mean()))
        for i, penalty in enumerate(penalties)
        for part, series in enumerate(("training", "held-out"))
    ]
    return CrossValidation(scores * np.float32(scale), curve, {"penalty": penalties[best], "logit_scale": scale})


def fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, params: Params, seed: int, chosen: dict[str, Any]
) -> DenseNetwork:
    """Fits the chosen penalty; kernel and bias carry the chosen scale."""
    features = power_normalise(features, params.power)
    origin = ridge_solver.origin_of(features)
    (moments,) = ridge_solver.fold_moments(features, labels, num_classes, np.zeros_like(labels), origin)
    kernels, biases = ridge_solver.solve(moments, num_classes, [chosen["penalty"]])
    scale = chosen["logit_scale"]
    return DenseNetwork((_on_raw_features(scale * kernels[0], scale * biases[0], origin),), params.power)


def load(folder: Path) -> DenseNetwork:
    """Reads a saved head."""
    return DenseNetwork.load(folder)


def logit_scale(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the factor on the scores, within SCALES, that minimises the log loss of their softmax.

    The loss is convex in the factor, so its slope, the mean over rows of E_p[score] - score at the label, changes its
    sign once: 40 bisections of the logarithm find it.

    Args:
      scores: float32 (n, num_classes), by heads that did not see the rows.
      labels: int64 (n,).
    """
    centred = scores - np.take_along_axis(scores, labels[:, None], axis=1)
    low, high = np.log(SCALES)
    for _ in range(40):
        middle = (low + high) / 2
        slope = np.einsum("ij,ij->", softmax(centred * np.float32(np.exp(middle))), centred, dtype=np.float64)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp((low + high) / 2))


def _on_raw_features(kernel: np.ndarray, bias: np.ndarray, origin: np.ndarray) -> Dense:
    return Dense(kernel.astype(np.float32), (bias - origin @ kernel).astype(np.float32))


def _correct(heads: list[Dense], features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns bool (heads, n), whether each head has each row right; a block of rows is widened once for all heads."""
    correct = np.empty((len(heads), len(labels)), bool)
    for rows in batches(len(labels), BLOCK_ROWS):
        block = features[rows].astype(np.float32)
        correct[:, rows] = [head(block).argmax(axis=1) == labels[rows] for head in heads]
    return correct


def _choose(accuracy: np.ndarray, loss: np.ndarray, counts: np.ndarray, penalties: tuple[float, ...]) -> int:
    """Returns the index of the best penalty from held-out (folds, penalties) and the folds' row counts."""
    accuracies, losses = counts @ accuracy / counts.sum(), counts @ loss / counts.sum()
    return max(range(len(penalties)), key=lambda i: (round(accuracies[i], 12), -losses[i], penalties[i]))
