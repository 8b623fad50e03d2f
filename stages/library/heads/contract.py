"""Heads: classifiers on cached features, one module each, looked up by the names in `heads`.

A head's module has
  Params: its section of params.yaml; `features` says what it is trained on ("bottleneck", "logits", "probabilities" or
    "joined": the first two side by side, whose columns differ in scale, so that standardizing heads fit them best).
  TUNES: whether its cross_validate decides hyperparameters.
  fit(...), cross_validate(...): see `HeadModule`.
  load(folder): gives back what `Fitted.save(folder)` wrote; the loaded head's logits equal the fitted one's exactly.
  tensorflow_logits(head, features), optional, for `app.export`: the logits (n, num_classes) of a loaded head in ops of
    TensorFlow, for float32 features (n, dim). A head that is a `dense.DenseNetwork` does without it.
Heavy imports (tensorflow, xgboost) stand inside the functions, for every stage reads every `Params`.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Features = Literal["bottleneck", "logits", "probabilities", "joined"]


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve.

    Attributes:
      step: epoch, boosting round or log10 of the penalty.
      series: "training" or "held-out".
      accuracy: top-1, in [0, 1]; loss: mean loss that the head minimises.
    """

    step: float
    series: str
    accuracy: float
    loss: float


class Fitted(Protocol):
    """A fitted head."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 (n, num_classes) for features (n, dim) of float16 or float32, as they are."""
        ...

    def save(self, folder: Path) -> None:
        """Writes weights and config into an existing folder, the same bytes for the same head."""
        ...


@dataclass(frozen=True)
class CrossValidation:
    """Result of k-fold cross-validation.

    Attributes:
      logits: float32 (n, num_classes), each row by the head that did not see its fold, NaN in rows of no fold; not yet
        calibrated.
      curve: averaged over the folds.
      best_params: hyperparameters that cross-validation decided, JSON values; `fit` receives them.
      head: as `fit` fits it on all rows but for rounding, where it came at little cost; else None.
    """

    logits: np.ndarray
    curve: list[CurvePoint]
    best_params: dict[str, Any] = field(default_factory=dict)
    head: Fitted | None = None


class HeadModule(Protocol):
    """What a head's module offers.

    `features` is (n, dim), float16 or float32; `labels` int64 (n,) in [0, num_classes); `folds` int64 (n,), the fold of
    each row, from 0, or `folds.NEVER`. A training set may lack a class. The same arguments give the same bits.
    """

    Params: type
    TUNES: bool

    def cross_validate(
        self, features: np.ndarray, labels: np.ndarray, num_classes: int, folds: np.ndarray, params: Any, seed: int
    ) -> CrossValidation: ...

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        params: Any,
        seed: int,
        best_params: dict[str, Any],
    ) -> Fitted: ...

    def load(self, folder: Path, dim: int, num_classes: int) -> Fitted: ...


def lookup(name: str) -> HeadModule:
    """Returns the module of a head."""
    return importlib.import_module(f"stages.plugins.heads.{name}.head")
