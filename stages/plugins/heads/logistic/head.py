"""Logistic head: multinomial logistic regression with an L2 penalty, solved by L-BFGS (logistic_solver.py).

Each fold follows the penalties from strong to weak, each search starting from the one before.

Standardized roots of pooled features were best (EfficientNet-Lite0, 96 px, 5,000 images of CIFAR-10, 5 folds: 0.749;
at power 1 0.740). Logits add nothing to pooled features of which they are linear functions.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library.common import tensorflow_runtime
from stages.library.common.params import CONFIG
from stages.library.heads import contract
from stages.library.heads.contract import Examples, Score, Step
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.scaling import ScalingParams, Standardization, standardization
from stages.plugins.heads.logistic import logistic_solver

load = DenseNetwork.load


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params(ScalingParams):
    """Section `logistic` of params.yaml."""

    penalties: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0)], ...],
        pydantic.Field(min_length=1, description="candidates, on half the squared kernel beside the sum of losses"),
    ]
    tolerance: Annotated[float, pydantic.Field(ge=1e-8, lt=1, description="mean loss above its minimum, in nats")]
    max_iterations: Annotated[int, pydantic.Field(ge=1, le=100_000, description="for each penalty")]


class Trainer(contract.Trainer):
    """Follows the penalties from strong to weak; nothing is random, so the seed isn't used.

    The Gram matrix's spectrum is that of evenly spaced rows of all folds: it speeds up the search, not what is found.
    Where rows are no more than columns each fold has its own, for in the span of its rows is what is found.
    """

    def __init__(self, examples: Examples, params: Params, seed: int):
        super().__init__(examples, params, seed)
        self.candidates = [{"penalty": penalty} for penalty in sorted(set(params.penalties), reverse=True)]
        self.workers = min(int(examples.folds.max()) + 1, tensorflow_runtime.cores())
        self._features = params.row_scaling(examples.features)
        n, dim = self._features.shape
        self._spectrum: logistic_solver.Spectrum | None = None
        if n > dim:
            rows = np.arange(0, n, -(-n // logistic_solver.SPECTRUM_ROWS))
            self._spectrum = logistic_solver.spectrum(self._columns(rows).of_rows(self._features, rows))

    def path(self, fold: int) -> Iterator[Step]:
        training, held_out = self.examples.split(fold)
        columns, spectrum, x = self._prepared(training)
        x_held_out = spectrum.coordinates(columns.of_rows(self._features, held_out))
        labels, weights = self.examples.labels, self.examples.weights
        solutions = self._solutions(x, spectrum.eigenvalues, training, self.candidates[-1]["penalty"])
        for penalty, kernel, bias in solutions:
            layer = Dense(kernel.astype(np.float32), bias.astype(np.float32))
            logits = layer(x_held_out)
            score = Score.of(logits, labels[held_out], weights[held_out])
            fitted = Score.of(layer(x), labels[training], weights[training])
            yield Step(float(np.log10(penalty)), fitted, score, logits)

    def fit(self, best_params: Mapping[str, Any]) -> DenseNetwork:
        """Coming from stronger penalties takes fewer iterations than going there at once."""
        rows = np.arange(len(self._features))
        columns, spectrum, x = self._prepared(rows)
        *_, (_, kernel, bias) = self._solutions(x, spectrum.eigenvalues, rows, best_params["penalty"])
        return DenseNetwork((Dense(*columns.fold_into(spectrum.basis @ kernel, bias)),), self.params.row_scaling)

    def _prepared(self, rows: np.ndarray) -> tuple[Standardization, logistic_solver.Spectrum, np.ndarray]:
        """Returns the scaling of columns by some rows, the spectrum, and the scaled rows in its coordinates."""
        columns = self._columns(rows)
        x = columns.of_rows(self._features, rows)
        spectrum = self._spectrum or logistic_solver.spectrum(x)
        return columns, spectrum, spectrum.coordinates(x)

    def _columns(self, rows: np.ndarray) -> Standardization:
        """Measures the columns of some rows. Centring alone changes no optimum, for the intercept is free."""
        deviation = 1.0 if self.params.scaling == "standardized" else None
        return standardization(self._features, rows, self.examples.weights, deviation)

    def _solutions(
        self, x: np.ndarray, eigenvalues: np.ndarray, rows: np.ndarray, weakest: float
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """Yields penalties down to the weakest, with kernel and bias, for the rows whose coordinates are x."""
        limits = self.params.tolerance, self.params.max_iterations
        of_rows = self.examples.labels[rows], self.examples.weights[rows], self.examples.num_classes
        search = logistic_solver.Search(x, *of_rows, eigenvalues, *limits)
        for penalty in [each["penalty"] for each in self.candidates if each["penalty"] > weakest] + [weakest]:
            yield penalty, *search.minimise(penalty)
