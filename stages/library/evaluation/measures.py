"""What a model's predictions are worth: the numbers of its metrics file."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.library.common import tables
from stages.library.scoring import metrics, ranking
from stages.library.scoring.probabilities import softmax

MOST_CLASSES = 50  # whose own scores are among the metrics; per_class.csv has those of any number


@dataclass(frozen=True)
class Predictions:
    """A model's scores on a split, in the order of its shards."""

    keys: np.ndarray  # hex sha256 of each image, object (n,)
    labels: np.ndarray  # int64 (n,)
    logits: np.ndarray  # float32 (n, classes), finite
    classes: tuple[str, ...]  # in the order of the labels
    training_mode_logits: np.ndarray | None = None  # as `logits`; see `Network.predict_shards`
    temperature: float | None = None  # by which a head's logits are divided

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        return np.asarray(self.logits.argmax(axis=1))

    @functools.cached_property
    def per_class(self) -> metrics.PerClass:
        return metrics.per_class(self.labels, self.predicted, len(self.classes))

    def class_rows(self) -> list[tuple[str, float, float, float, int]]:
        """Returns class, precision, recall, F1 and count of each class that has images."""
        found = self.per_class
        columns = (scores.tolist() for scores in (found.precision, found.recall, found.f1, found.count))
        return [row for row in zip(self.classes, *columns, strict=True) if row[-1]]


def measure(predictions: Predictions) -> dict[str, Any]:
    """Returns the metrics: nested objects of numbers, rounded to six decimals; what is not defined is left out."""
    logits, labels, probabilities = predictions.logits, predictions.labels, predictions.probabilities
    found = predictions.per_class
    low, high = metrics.wilson_interval(int(found.right.sum()), len(labels))
    roc_auc, average_precision = ranking.one_against_the_rest(probabilities, labels)
    numbers: dict[str, Any] = {
        "top1_accuracy": metrics.top1_accuracy(logits, labels),
        "top1_accuracy_interval": {"low": low, "high": high},
        "top5_accuracy": metrics.topk_accuracy(logits, labels, 5),
        "balanced_accuracy": found.balanced_accuracy,
        "macro_precision": found.macro(found.precision),
        "macro_f1": found.macro(found.f1),
        "weighted_precision": found.weighted(found.precision),
        "weighted_recall": found.weighted(found.recall),
        "weighted_f1": found.weighted(found.f1),
        "cohen_kappa": found.cohen_kappa,
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "log_loss": metrics.log_loss(probabilities, labels),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "num_examples": len(labels),
    }
    if len(predictions.classes) <= MOST_CLASSES:
        scores = list(tables.PER_CLASS)[1:]
        numbers["classes"] = {
            tables.escaped(name): dict(zip(scores, row, strict=True)) for name, *row in predictions.class_rows()
        }
    if predictions.temperature is not None:
        before = metrics.expected_calibration_error(softmax(logits * np.float32(predictions.temperature)), labels)
        numbers["calibration"] = {"temperature": predictions.temperature, "expected_calibration_error_before": before}
    if predictions.training_mode_logits is not None:
        numbers["training_mode"] = {"top1_accuracy": metrics.top1_accuracy(predictions.training_mode_logits, labels)}
    return rounded({name: value for name, value in numbers.items() if isinstance(value, dict) or math.isfinite(value)})


def rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested objects of numbers with six decimals, more than any test set resolves."""
    return {key: rounded(value) if isinstance(value, dict) else round(value, 6) for key, value in content.items()}
