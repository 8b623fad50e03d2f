"""Where a model may answer: a least confidence for a wanted accuracy, and sets of classes with a stated coverage.

Both are found on images that the model was not fitted to. Sets are split conformal prediction's by the least ambiguous
score (LAC: Sadinle, Lei and Wasserman 2019, arXiv:1609.00451; Angelopoulos and Bates 2021, arXiv:2107.07511): of n such
images the score is 1 - p of the true class; a set has the classes whose score is at most the ceil((n + 1) coverage)-th
smallest. It holds the true class of new images of the same kind with at least that probability, on average.
"""

import math
from typing import NamedTuple

import numpy as np

from stages.library.scoring import metrics

POINTS = 50  # of the curve


class Operating(NamedTuple):
    """What a model's answers are cut off by; None: no image can be answered that well."""

    confidence: float | None  # the least probability of an answer's class
    in_set: float  # the least probability of a class in the set; 0: each class is

    def is_sure(self, probabilities: np.ndarray) -> np.ndarray:
        """Tells for probabilities (n, classes) whether the likeliest class is answered, bool (n,)."""
        if self.confidence is None:
            return np.zeros(len(probabilities), bool)
        return np.asarray(probabilities.max(axis=1) >= np.float32(self.confidence))

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns which classes are in the set of each image, bool (n, classes)."""
        return np.asarray(probabilities >= np.float32(self.in_set))


def find(probabilities: np.ndarray, labels: np.ndarray, target_accuracy: float, coverage: float) -> Operating:
    """Finds both on probabilities (n, classes), float32, of n >= 1 images that the model was not fitted to."""
    confidence, right = _by_confidence(probabilities, labels)
    reached = np.cumsum(right) >= target_accuracy * np.arange(1, len(right) + 1)
    ends = np.append(confidence[1:] != confidence[:-1], True)  # equals are answered together
    enough = np.flatnonzero(reached & ends)
    least = _floor(confidence[enough[-1]]) if len(enough) else None
    of_true = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]  # rising scores
    rank = math.ceil((len(labels) + 1) * coverage)
    return Operating(least, _floor(of_true[rank - 1]) if rank <= len(labels) else 0.0)


def _floor(probability: np.floating) -> float:
    """Returns six decimals, as metrics have; rounded up they would shut out the very image that they come from."""
    return math.floor(float(probability) * 1e6) / 1e6


def _by_confidence(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probability of the likeliest class, falling, and whether that is the true one."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    return confidence[order], (probabilities.argmax(axis=1) == labels)[order]


def measure(found: Operating, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns what it is worth on other images, with Wilson's 95% intervals; what is not defined is left out."""
    sure, sets = found.is_sure(probabilities), found.sets(probabilities)
    right = probabilities.argmax(axis=1) == labels
    held = sets[np.arange(len(labels)), labels]
    answers: dict[str, float] = {"answered": float(sure.mean())}
    if found.confidence is not None:
        answers["least_confidence"] = found.confidence
    if sure.any():
        answers |= {"accuracy": float(right[sure].mean())} | _interval(right[sure])
    of_sets = {"least_probability": found.in_set, "mean_size": float(sets.sum(axis=1).mean())}
    return {"answers": answers, "sets": of_sets | {"coverage": float(held.mean())} | _interval(held)}


def _interval(right: np.ndarray) -> dict[str, float]:
    low, high = metrics.wilson_interval(int(right.sum()), len(right))
    return {"low": low, "high": high}


def curve(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Returns rising shares of the images, the surest first, and their accuracy with its interval: at most `POINTS`."""
    _, right = _by_confidence(probabilities, labels)
    counts = np.unique(np.ceil(np.linspace(0, 1, POINTS + 1)[1:] * len(right)).astype(int))
    found = ((count / len(right), right[:count]) for count in counts.tolist())
    return [(share, float(first.mean()), *_interval(first).values()) for share, first in found]
