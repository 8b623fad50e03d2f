"""Ridge head: one-vs-rest least squares in closed form, one pass for all penalties and all folds.

Minimised is the sum over rows of |W' x + b - t|^2, each times its row's weight, plus penalty |W|^2, with targets t of
+1 at the label and -1 elsewhere; the intercept b isn't penalised. A least-squares score estimates 2p - 1, of which the
log-odds ln(p / (1 - p)) have the tangent 2(2p - 1) at p = 1/2: so the logits are twice the scores, and temperature
scaling does the rest.

The statistics of rows z = [x, t, 1] (features less a fixed origin, targets, a one), each times the root of its weight,
are the symmetric matrix of sums z z', with the Gram matrix, the products with the targets, all sums and the sum of the
weights. Those of a training fold are the total minus those of the held-out fold, so cross-validation costs one pass
over the features and one eigendecomposition per fold, whatever the number of penalties; (folds, dim + num_classes + 1,
dim + num_classes + 1) float64 are held.

Sums over blocks are float64. Products within a block are float32, at half the cost, where rows are FULL_RANK times as
many as columns: the Gram matrix's small eigenvalues are then far above its rounding errors, about 1e-7 of the largest.
With fewer rows they are not, and the errors would exceed small penalties, so all is float64 there.

Reference: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 3.4.1.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library.common.console import progress
from stages.library.common.params import CONFIG
from stages.library.features import disk_arrays
from stages.library.heads import contract
from stages.library.heads.contract import BLOCK_ROWS, Examples, Score, Step, batches
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.scaling import ScalingParams, column_scale
from stages.library.scoring import metrics

LOGITS_PER_SCORE = 2
FULL_RANK = 4
SAMPLE = 4096  # training rows on which the curve's training accuracy is measured

load = DenseNetwork.load


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params(ScalingParams):
    """Section `ridge` of params.yaml."""

    penalties: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0)], ...],
        pydantic.Field(min_length=1, description="candidates, added to the Gram matrix's diagonal"),
    ]


class Trainer(contract.Trainer):
    """Has the statistics of each fold, from one pass; nothing is random, so the seed isn't used.

    Where rows are fewer than columns they are in coordinates of their own span, which no penalised kernel leaves;
    `_basis`, float64 (dim, n), is that of these coordinates. Standardized columns are not the same problem there.
    """

    def __init__(self, examples: Examples, params: Params, seed: int):
        super().__init__(examples, params, seed)
        self.candidates = [{"penalty": penalty} for penalty in params.penalties]
        self._features, self._basis = params.row_scaling(examples.features), None
        n, dim = self._features.shape
        if n < dim and params.scaling != "standardized":
            self._basis = np.linalg.qr(self._features.T.astype(np.float64))[0]
            self._features = (self._features @ self._basis).astype(np.float32)
        # Any origin gives the same fit; one near the mean loses no digits in centring.
        self._origin = self._features[:BLOCK_ROWS].mean(axis=0, dtype=np.float64).astype(np.float32)
        self._first = examples.folds.min()  # rows that are never held out are a group of their own, the first
        self._statistics = self._by_fold()
        self._total = self._statistics.sum(axis=0)

    def path(self, fold: int) -> Iterator[Step]:
        held_out = self._statistics[fold - self._first]
        training = self._total - held_out
        solved = list(zip(*self._solve(training, self.params.penalties), strict=True))
        layers = [self._on_raw_features(*pair) for pair in solved]
        sample, rows = self.examples.split(fold)
        sample = sample[:: -(-len(sample) // SAMPLE)]
        logits = [self._logits(layers, some) for some in (sample, rows)]
        for index, penalty in enumerate(self.params.penalties):
            fitted, scored = (
                Score(self._accuracy(found[index], some), _error(sums, *solved[index]))
                for found, some, sums in zip(logits, (sample, rows), (training, held_out), strict=True)
            )
            yield Step(float(np.log10(penalty)), fitted, scored, logits[1][index])

    def fit(self, best_params: Mapping[str, Any]) -> DenseNetwork:
        (kernel,), (bias,) = self._solve(self._total, [best_params["penalty"]])
        layer = self._on_raw_features(kernel, bias)
        if self._basis is not None:
            layer = Dense((self._basis @ layer.kernel).astype(np.float32), layer.bias)
        return DenseNetwork((layer,), self.params.row_scaling)

    def _accuracy(self, logits: np.ndarray, rows: np.ndarray) -> float:
        return metrics.top1_accuracy(logits, self.examples.labels[rows], self.examples.weights[rows])

    def _by_fold(self) -> np.ndarray:
        """Sums the statistics of each fold, in blocks of rows."""
        features, labels, folds = self._features, self.examples.labels, self.examples.folds - self._first
        n, dim = features.shape
        width = dim + self.examples.num_classes + 1
        dtype = np.float32 if n >= FULL_RANK * dim else np.float64
        origin = self._origin.astype(dtype)
        statistics = np.zeros((folds.max() + 1, width, width))
        for fold in progress(range(len(statistics)), "Gram matrices", "folds", total=len(statistics)):
            rows = np.flatnonzero(folds == fold)
            for block in batches(len(rows), BLOCK_ROWS):
                z = np.full((block.stop - block.start, width), -1, dtype)
                z[:, :dim] = features[rows[block]] - origin
                z[np.arange(len(z)), dim + labels[rows[block]]] = 1
                z[:, -1] = 1
                z *= np.sqrt(self.examples.weights[rows[block], None]).astype(dtype)
                statistics[fold] += z.T @ z
        return statistics

    def _solve(self, statistics: np.ndarray, penalties: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Returns kernels (len(penalties), dim, num_classes) and biases, float64, for features less the origin.

        Penalties are added to the diagonal of the centred Gram matrix, which isn't divided by the number of rows.
        """
        dim = self._features.shape[1]
        means = statistics[:-1, -1] / statistics[-1, -1]
        centred = statistics[:dim, :-1] - np.outer(statistics[:dim, -1], means)
        scale = np.ones(dim)
        if self.params.scaling == "standardized":
            scale = column_scale(centred.diagonal() / statistics[-1, -1])
        eigenvalues, basis = np.linalg.eigh(centred[:, :dim] / np.outer(scale, scale))
        projected = basis.T @ (centred[:, dim:] / scale[:, None])
        # Rounding leaves tiny negative eigenvalues where the Gram matrix is singular (dim > n).
        shrinkage = 1 / (np.maximum(eigenvalues, 0) + np.array(penalties)[:, None])
        kernels = basis @ (shrinkage[:, :, None] * projected) / scale[:, None]
        return kernels, means[dim:] - means[:dim] @ kernels

    def _on_raw_features(self, kernel: np.ndarray, bias: np.ndarray) -> Dense:
        kernel, bias = LOGITS_PER_SCORE * kernel, LOGITS_PER_SCORE * (bias - self._origin @ kernel)
        return Dense(kernel.astype(np.float32), bias.astype(np.float32))

    def _logits(self, layers: Sequence[Dense], rows: np.ndarray) -> np.ndarray:
        """Returns each layer's logits of some rows, float32 (layers, rows, num_classes), by one product for a block."""
        side_by_side = Dense(np.hstack([layer.kernel for layer in layers]), np.hstack([layer.bias for layer in layers]))
        logits = disk_arrays.empty((len(layers), len(rows), self.examples.num_classes), np.float32)
        for block in batches(len(rows), BLOCK_ROWS):
            both = side_by_side(self._features[rows[block]].astype(np.float32))
            logits[:, block] = both.reshape(len(both), len(layers), -1).swapaxes(0, 1)
        return logits


def _error(statistics: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> float:
    """Returns the mean of (W' x + b - t)^2 over rows and classes, from the rows' statistics alone."""
    residual = np.concatenate([kernel, -np.eye(len(bias)), bias[None]])
    total = np.einsum("ij,ij->", residual, statistics @ residual)
    return float(total / (statistics[-1, -1] * len(bias)))
