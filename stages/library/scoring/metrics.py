"""How good predictions are: what stands in metrics/*.json.

Labels are int64 (n,), probabilities or logits (n, num_classes); n is at least 1. Ties go to the lowest class id, so
that the same scores give the same numbers everywhere.
"""

from dataclasses import dataclass

import numpy as np

CALIBRATION_BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599


def top1_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the fraction of rows whose highest score is at the label."""
    return float(np.mean(scores.argmax(axis=1) == labels))


def topk_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 5) -> float:
    """Returns the fraction of rows whose label is among the k highest scores; 1.0 where there are at most k classes."""
    at_label = np.take_along_axis(scores, labels[:, None], axis=1)
    tied_before = (scores == at_label) & (np.arange(scores.shape[1]) < labels[:, None])
    rank = (scores > at_label).sum(axis=1) + tied_before.sum(axis=1)
    return float(np.mean(rank < k))


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns counts, int64 (num_classes, num_classes): rows are labels, columns predicted class ids."""
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def recall(confusion: np.ndarray) -> np.ndarray:
    """Returns the accuracy (recall) of each class, float64 (num_classes,); NaN for a class without examples."""
    with np.errstate(invalid="ignore"):
        return np.asarray(confusion.diagonal() / confusion.sum(axis=1))


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Returns the mean of the classes' accuracies; classes without examples are left out."""
    return float(np.nanmean(recall(confusion)))


def macro_f1(confusion: np.ndarray) -> float:
    """Returns scikit-learn's `f1_score(average="macro", zero_division=0)`, of classes among labels or predictions."""
    denominator = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = denominator > 0
    return float(np.mean(2 * confusion.diagonal()[present] / denominator[present]))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of -ln p(label), in nats; p is clipped at float32's epsilon, so one sure mistake costs 15.9."""
    at_label = np.take_along_axis(probabilities, labels[:, None], axis=1).astype(np.float64)
    return float(-np.mean(np.log(np.maximum(at_label, np.finfo(np.float32).eps))))


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


def bootstrap_interval(correct: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """Returns the 95% percentile bootstrap interval (low, high) of an accuracy; `correct` is bool (n,).

    Drawing n of n rows with replacement and counting the correct ones is a draw from Binomial(n, accuracy): that number
    is drawn, in place of n rows, so 10,000 resamples cost a millisecond at any n.
    """
    counts = np.random.default_rng(seed).binomial(len(correct), float(np.mean(correct)), samples)
    low, high = np.percentile(counts / len(correct), [2.5, 97.5])
    return float(low), float(high)
