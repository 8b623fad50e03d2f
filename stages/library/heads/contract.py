"""Heads: classifiers on cached features, a folder each in stages/plugins/heads, looked up by the names in `heads`.

The module heads/NAME/head.py has
  Params: its section of params.yaml; `features` says what it is trained on ("bottleneck", "logits", "probabilities" or
    "joined": the first two side by side, whose columns differ in scale, so that standardizing heads fit them best).
    A key that `app.tune` may vary has a range beside its rule (search_space.py).
  Trainer: trains it, a subclass of the one below.
  load(folder, dim, num_classes): gives back what `Fitted.save(folder)` wrote; the loaded head's logits equal the fitted
    one's exactly. `DenseNetwork.load` where that is what the trainer gives.
  tensorflow_logits(head, features), optional, for `app.export`: the logits (n, num_classes) of a loaded head in ops of
    TensorFlow, for float32 features (n, dim). A head that is a `dense.DenseNetwork` does without it.
Heavy imports (tensorflow, xgboost) stand inside the functions, for every stage reads every `Params`.
"""

import abc
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from stages.library.common.console import UserError
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax

BLOCK_ROWS = 4096  # of features that are widened or scaled at a time
Features = Literal["bottleneck", "logits", "probabilities", "joined"]


@dataclass(frozen=True)
class Examples:
    """What a head is trained on."""

    features: np.ndarray  # (n, dim), float16 or float32
    labels: np.ndarray  # int64 (n,), in [0, num_classes); a class may have no example
    num_classes: int  # at least 2
    folds: np.ndarray  # int64 (n,), the fold of each row, from 0, or `folds.NEVER`
    weights: np.ndarray  # float64 (n,), > 0; each row's loss is multiplied by its own, as by scikit-learn

    def split(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows that are trained on, int64, and those that the fold holds out."""
        return np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)


class Score(NamedTuple):
    """Top-1 accuracy, in [0, 1], and the mean of the loss that a head minimises, of rows as they are weighted."""

    accuracy: float
    loss: float

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> "Score":
        """Returns accuracy and log loss of logits (n, num_classes)."""
        return cls(metrics.top1_accuracy(logits, labels, weights), metrics.log_loss(softmax(logits), labels, weights))


class Step(NamedTuple):
    """What a head is worth at a point of its training without one fold.

    The logits are float32 (rows of the fold, num_classes). A head with several candidates has them in every step,
    another one in the last step at least.
    """

    at: float  # epoch, boosting round or log10 of the penalty
    training: Score  # on the rows that it was trained on
    held_out: Score  # on those of the fold
    logits: np.ndarray | None = None


class Fitted(Protocol):
    """A fitted head."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 (n, num_classes) for features (n, dim) of float16 or float32, as they are."""

    def save(self, folder: Path) -> None:
        """Writes weights and config into an existing folder, the same bytes for the same head."""


class Trainer(abc.ABC):
    """Trains heads on the same examples; the same arguments give the same bits."""

    candidates: Sequence[Mapping[str, Any]] = ({},)  # JSON values to choose among; empty where nothing is chosen
    workers = 1  # folds that are trained at the same time, in threads

    def __init__(self, examples: Examples, params: Any, seed: int):
        self.examples, self.params, self.seed = examples, params, seed

    @abc.abstractmethod
    def path(self, fold: int) -> Iterator[Step]:
        """Trains without a fold: yields a step for each candidate, in order; of a single one, for each epoch."""

    @abc.abstractmethod
    def fit(self, best_params: Mapping[str, Any]) -> Fitted:
        """Trains on all rows, with a candidate."""


def batches(n: int, batch_size: int) -> Iterator[slice]:
    """Yields slices that cover n rows in order."""
    for start in range(0, n, batch_size):
        yield slice(start, min(start + batch_size, n))


def logits_of_rows(head: Fitted, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns a head's logits of some rows (int64 ids), float32 (len(rows), num_classes); UserError: not finite."""
    blocks = [rows[block] for block in batches(len(rows), BLOCK_ROWS)] or [rows]
    logits = np.concatenate([head.logits(features[block]) for block in blocks])
    check_finite(logits)
    return logits


def check_finite(numbers: np.ndarray) -> None:
    """Raises UserError where logits or scores of a head are not finite."""
    if not np.isfinite(numbers).all():
        raise UserError(
            "the head gives NaN or infinite numbers: its training diverged. Lower its learning rate or weight decay, "
            "or leave out its smallest penalties"
        )


def lookup(name: str) -> ModuleType:
    """Returns a head's module."""
    return importlib.import_module(f"stages.plugins.heads.{name}.head")
