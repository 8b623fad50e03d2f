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

Where rows are few beside the columns, as in few-shot runs, products of rows take the place of those of columns
(row_solver.py). That is cheaper up to about twice as many rows as columns: it needs an inverse for each penalty, where
each fold needs an eigendecomposition. Columns that each fold scales by its own deviation are not the same problem.

Reference: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 3.4.1.
"""

import functools
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
from stages.plugins.heads.ridge import row_solver

LOGITS_PER_SCORE = 2
FULL_RANK = 4
MOST_ROWS = 2  # for each column, to solve by rows
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
    """Has the statistics of each fold, from one pass, or the products of the rows; the seed isn't used."""

    def __init__(self, examples: Examples, params: Params, seed: int):
        super().__init__(examples, params, seed)
        self.candidates = [{"penalty": penalty} for penalty in params.penalties]
        self._features = params.row_scaling(examples.features)
        n, dim = self._features.shape
        self._rows: row_solver.Rows | None = None
        if n <= MOST_ROWS * dim and params.scaling != "standardized":
            self._targets = np.full((n, examples.num_classes), -1.0)
            self._targets[np.arange(n), examples.labels] = 1
            self._rows = row_solver.Rows(self._features, self._targets, examples.weights)
            return
        # Any origin gives the same fit; one near the mean loses no digits in centring.
        self._origin = self._features[:BLOCK_ROWS].mean(axis=0, dtype=np.float64).astype(np.float32)
        self._first = examples.folds.min()  # rows that are never held out are a group of their own, the first
        self._statistics = self._by_fold()
        self._total = self._statistics.sum(axis=0)

    def path(self, fold: int) -> Iterator[Step]:
        if self._rows:
            yield from self._by_rows[fold]
            return
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
        if self._rows:
            layer = _layer(*self._rows.fit(best_params["penalty"]))
        else:
            (kernel,), (bias,) = self._solve(self._total, [best_params["penalty"]])
            layer = self._on_raw_features(kernel, bias)
        return DenseNetwork((layer,), self.params.row_scaling)

    @functools.cached_property
    def _by_rows(self) -> list[list[Step]]:
        """The steps of each fold, for one inverse gives those of all folds."""
        assert self._rows
        folds = range(self.examples.folds.max() + 1)
        splits = [self.examples.split(fold) for fold in folds]
        steps: list[list[Step]] = [[] for _ in folds]
        for penalty in progress(self.params.penalties, "penalties", "penalties", total=len(self.params.penalties)):
            errors = self._rows.without([held_out for _, held_out in splits], penalty)
            for found, error, split in zip(steps, errors, splits, strict=True):
                scores = self._targets - error
                fitted, scored = (self._score(scores[rows], error[rows], rows) for rows in split)
                logits = LOGITS_PER_SCORE * scores[split[1]]
                found.append(Step(float(np.log10(penalty)), fitted, scored, logits.astype(np.float32)))
        return steps

    def _score(self, scores: np.ndarray, errors: np.ndarray, rows: np.ndarray) -> Score:
        weights = self.examples.weights[rows]
        return Score(self._accuracy(scores, rows), float(np.average((errors**2).mean(axis=1), weights=weights)))

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
        return _layer(kernel, bias - self._origin @ kernel)

    def _logits(self, layers: Sequence[Dense], rows: np.ndarray) -> np.ndarray:
        """Returns each layer's logits of some rows, float32 (layers, rows, num_classes), by one product for a block."""
        side_by_side = Dense(np.hstack([layer.kernel for layer in layers]), np.hstack([layer.bias for layer in layers]))
        logits = disk_arrays.empty((len(layers), len(rows), self.examples.num_classes), np.float32)
        for block in batches(len(rows), BLOCK_ROWS):
            both = side_by_side(self._features[rows[block]].astype(np.float32))
            logits[:, block] = both.reshape(len(both), len(layers), -1).swapaxes(0, 1)
        return logits


def _layer(kernel: np.ndarray, bias: np.ndarray) -> Dense:
    return Dense((LOGITS_PER_SCORE * kernel).astype(np.float32), (LOGITS_PER_SCORE * bias).astype(np.float32))


def _error(statistics: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> float:
    """Returns the mean of (W' x + b - t)^2 over rows and classes, from the rows' statistics alone."""
    residual = np.concatenate([kernel, -np.eye(len(bias)), bias[None]])
    total = np.einsum("ij,ij->", residual, statistics @ residual)
    return float(total / (statistics[-1, -1] * len(bias)))
