"""A weighted average of probabilities, its weights found by greedy ensemble selection.

The members are drawn one after another, with replacement: each time the one with which the average of all drawn so far
is best. A member's weight is how often it was drawn.

Reference: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models, 2004.
"""

from dataclasses import dataclass

import numpy as np

from stages.library.combination.members import Curve, Examples
from stages.library.heads.contract import Score
from stages.library.heads.cross_validation import EQUAL
from stages.library.scoring import metrics, selection
from stages.library.scoring.selection import SelectionMetric

SMALLEST = np.finfo(np.float32).tiny  # probability, so that its logarithm is finite
Rank = tuple[float, float]


@dataclass(frozen=True)
class Average:
    """The logarithm of the average of the members' probabilities."""

    weights: np.ndarray  # float32 (members,), their sum is 1

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns float32 (n, num_classes) for probabilities float32 (members, n, num_classes)."""
        mean = np.zeros(probabilities.shape[1:], np.float32)
        for weight, each in zip(self.weights, probabilities, strict=True):
            if weight:
                mean += weight * each
        return np.asarray(np.log(np.maximum(mean, SMALLEST)))


def select(examples: Examples, metric: SelectionMetric, draws: int) -> list[tuple[Rank, Average]]:
    """Returns the average after each draw, and its rank.

    The best is so by the metric of all rows, each counted once; of equals by the log loss, then the first.
    """
    counts, total = np.zeros(len(examples.probabilities)), np.zeros(examples.probabilities.shape[1:], np.float32)
    found = []
    for drawn in range(1, draws + 1):
        ranks = [_rank(examples, metric, (total + each) / np.float32(drawn)) for each in examples.probabilities]
        best = ranks.index(max(ranks))
        counts[best] += 1
        total += examples.probabilities[best]
        found.append((ranks[best], Average((counts / drawn).astype(np.float32))))
    return found


def fit(examples: Examples, held_out: Examples | None, metric: SelectionMetric, draws: int) -> tuple[Average, Curve]:
    """Returns the best average on the way, of equals that of the fewest draws: with one draw it is the best member.

    The curve is that of the draws; without `held_out`, which decides nothing, there is none.
    """
    path = select(examples, metric, draws)
    ranks = [rank for rank, _ in path]
    sets = {"training": examples, "held-out": held_out} if held_out else {}
    curve = [
        (float(drawn), series, *Score.of(average.logits(rows.probabilities), rows.labels, rows.weights))
        for drawn, (_, average) in enumerate(path, 1)
        for series, rows in sets.items()
    ]
    return path[ranks.index(max(ranks))][1], curve


def _rank(examples: Examples, metric: SelectionMetric, probabilities: np.ndarray) -> Rank:
    """Returns what is higher for better probabilities, float32 (n, num_classes)."""
    labels = examples.labels
    loss = -round(metrics.log_loss(probabilities, labels, examples.weights), EQUAL)
    if metric == "log_loss":
        return -round(metrics.log_loss(probabilities, labels), EQUAL), loss
    if metric == "top1_accuracy":
        return round(metrics.top1_accuracy(probabilities, labels), EQUAL), loss
    return round(selection.measure(probabilities, labels)[metric], EQUAL), loss
