"""By what models and settings are compared, `evaluate.selection_metric`; the test split decides nothing."""

from typing import Literal, get_args

import numpy as np

from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax

SelectionMetric = Literal["top1_accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
METRICS: tuple[SelectionMetric, ...] = get_args(SelectionMetric)
LOWER_IS_BETTER = {"log_loss"}


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns each of METRICS of logits (n, num_classes) for labels, int64 (n,), n >= 1."""
    found = metrics.per_class(labels, logits.argmax(axis=1), logits.shape[1])
    return {
        "top1_accuracy": metrics.top1_accuracy(logits, labels),
        "balanced_accuracy": found.balanced_accuracy,
        "macro_f1": found.macro(found.f1),
        "log_loss": metrics.log_loss(softmax(logits), labels),
    }


def merit(metric: SelectionMetric, value: float) -> float:
    """Returns the value as a number of which more is better."""
    return -value if metric in LOWER_IS_BETTER else value
