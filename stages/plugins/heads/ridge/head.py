"""Ridge head: one-vs-rest least squares in closed form, one pass for all penalties and all folds.

The penalty with the best out-of-fold accuracy is chosen; ties go to the lower out-of-fold squared error, then to the
larger penalty. A least-squares score estimates 2p - 1, of which the log-odds ln(p / (1 - p)) have the tangent 2(2p - 1)
at p = 1/2: so the logits are twice the scores, and temperature scaling does the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library.common.params import CONFIG
from stages.library.features import disk_arrays
from stages.library.heads import contract
from stages.library.heads.blocks import BLOCK_ROWS, batches
from stages.library.heads.contract import Examples, Score, Step
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.scaling import ScalingParams
from stages.library.scoring import metrics
from stages.plugins.heads.ridge import ridge_solver

LOGITS_PER_SCORE = 2
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
    """Has the sufficient statistics of each fold, from one pass; nothing is random, so the seed isn't used.

    Rows are in coordinates of their own span where that has fewer; `_basis` is that of these coordinates. Standardized
    columns are not among the same problems in other coordinates.
    """

    def __init__(self, examples: Examples, params: Params, seed: int):
        super().__init__(examples, params, seed)
        features = params.row_scaling(examples.features)
        self.candidates = [{"penalty": penalty} for penalty in params.penalties]
        self._standardized = params.scaling == "standardized"
        self._basis = None if self._standardized else ridge_solver.row_space(features)
        self._features = features if self._basis is None else (features @ self._basis).astype(np.float32)
        self._origin = ridge_solver.origin_of(self._features)
        self._first = examples.folds.min()  # rows that are never held out are a group of their own, the first
        self._statistics = ridge_solver.fold_statistics(
            self._features, examples.labels, examples.num_classes, examples.folds - self._first, self._origin
        )
        self._total = self._statistics.sum(axis=0)

    def path(self, fold: int) -> Iterator[Step]:
        held_out = self._statistics[fold - self._first]
        parts = self._total - held_out, held_out
        solved = list(zip(*self._solve(parts[0], self.params.penalties), strict=True))
        layers = [self._on_raw_features(*pair) for pair in solved]
        sample, rows = self.examples.split(fold)
        sample = sample[:: -(-len(sample) // SAMPLE)]
        logits = [self._logits(layers, some) for some in (sample, rows)]
        labels = [self.examples.labels[some] for some in (sample, rows)]
        for index, penalty in enumerate(self.params.penalties):
            training, scored = (
                Score(
                    metrics.top1_accuracy(logits[part][index], labels[part]),
                    ridge_solver.mean_squared_error(parts[part], *solved[index]),
                )
                for part in (0, 1)
            )
            yield Step(float(np.log10(penalty)), training, scored, logits[1][index])

    def fit(self, best_params: Mapping[str, Any]) -> DenseNetwork:
        (kernel,), (bias,) = self._solve(self._total, [best_params["penalty"]])
        layer = self._on_raw_features(kernel, bias)
        if self._basis is not None:
            layer = Dense((self._basis @ layer.kernel).astype(np.float32), layer.bias)
        return DenseNetwork((layer,), self.params.row_scaling)

    def merit(self, out_of_fold: Score) -> tuple[float, float]:
        return round(out_of_fold.accuracy, 12), -out_of_fold.loss

    def _solve(self, statistics: np.ndarray, penalties: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        return ridge_solver.solve(statistics, self.examples.num_classes, penalties, self._standardized)

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
