"""How good predictions are: what stands in metrics/*.json.

Labels are int64 (n,), probabilities or logits (n, num_classes); n is at least 1. Ties go to the lowest class id, so
that the same scores give the same numbers everywhere.
"""

import math
from dataclasses import dataclass

import numpy as np

CALIBRATION_BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599
Z_95 = 1.959963984540054  # 97.5% of a normal distribution lie below


def top1_accuracy(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns the fraction of rows, or of their weights (n,), whose highest score is at the label."""
    return float(np.average(scores.argmax(axis=1) == labels, weights=weights))


def topk_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 5) -> float:
    """Returns the fraction of rows whose label is among the k highest scores; 1.0 where there are at most k classes."""
    at_label = np.take_along_axis(scores, labels[:, None], axis=1)
    tied_before = (scores == at_label) & (np.arange(scores.shape[1]) < labels[:, None])
    rank = (scores > at_label).sum(axis=1) + tied_before.sum(axis=1)
    return float(np.mean(rank < k))


@dataclass(frozen=True)
class PerClass:
    """How often each class is label and prediction, label, and prediction, int64 (num_classes,), and what follows.

    Scores are float64 (num_classes,), 0 where there is nothing to divide by. As in scikit-learn with
    `zero_division=0`, `macro` is over the classes among labels or predictions.
    """

    right: np.ndarray
    count: np.ndarray
    predicted: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        return _ratio(self.right, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        return _ratio(self.right, self.count)

    @property
    def f1(self) -> np.ndarray:
        return _ratio(2 * self.right, self.count + self.predicted)

    def macro(self, scores: np.ndarray) -> float:
        """Returns the plain mean of one of the scores."""
        return float(np.mean(scores[self.count + self.predicted > 0]))

    def weighted(self, scores: np.ndarray) -> float:
        """Returns the mean of one of the scores weighted by the classes' examples."""
        return float(np.average(scores, weights=self.count))

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' recalls; classes without examples are left out."""
        return float(np.mean(self.recall[self.count > 0]))

    @property
    def cohen_kappa(self) -> float:
        """How far predictions agree with labels beyond chance (Cohen 1960); NaN where both are of one class."""
        total = float(self.count.sum())
        by_chance = float(self.predicted @ (self.count / total))
        return math.nan if by_chance == total else 1 - (total - float(self.right.sum())) / (total - by_chance)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0))


def per_class(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> PerClass:
    """Counts classes among labels and predicted class ids, int64 (n,); memory is linear in them."""
    counted = labels[labels == predictions], labels, predictions
    return PerClass(*(np.bincount(ids, minlength=num_classes) for ids in counted))


def log_loss(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns the mean of -ln p(label), in nats; p is clipped at float32's epsilon, so one sure mistake costs 15.9."""
    at_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    return float(-np.average(np.log(np.maximum(at_label, np.finfo(np.float32).eps)), weights=weights))


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: predictions binned by confidence, the probability of the predicted class."""

    count: np.ndarray  # int64 (bins,), predictions in each bin
    confidence: np.ndarray  # float64 (bins,), their mean; 0 in an empty bin
    accuracy: np.ndarray  # float64 (bins,); 0 in an empty bin


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS) -> Reliability:
    """Bins predictions by confidence: bins of equal width have their upper edge, the first one has 0, too."""
    predictions = probabilities.argmax(axis=1)
    confidence = np.take_along_axis(probabilities, predictions[:, None], axis=1)[:, 0].astype(np.float64)
    index = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    sums = (np.bincount(index, values, minlength=bins) for values in (confidence, predictions == labels))
    return Reliability(count, *(total / np.maximum(count, 1) for total in sums))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Returns the mean over predictions of |accuracy - confidence| of their bin (Guo et al. 2017, eq. 5)."""
    table = reliability(probabilities, labels, bins)
    return float(np.sum(table.count * np.abs(table.accuracy - table.confidence)) / len(labels))


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Returns the 95% score interval (low, high) of an accuracy of `right` in n (Wilson 1927), honest for few, too."""
    accuracy, spread = right / n, Z_95**2 / n
    half = Z_95 * math.sqrt((accuracy * (1 - accuracy) + spread / 4) / n)
    low, high = ((accuracy + spread / 2 + side) / (1 + spread) for side in (-half, half))
    return low if right else 0.0, high if right < n else 1.0  # which rounding misses
