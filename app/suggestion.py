"""Which unlabelled images to label next: those that a model is unsure about, and that differ from one another.

Seeds of k-means++ (Arthur and Vassilvitskii 2007) in the features that the model reads, weighted by how unsure it is:
after Zhdanov 2019 (arXiv:1901.05954), who weights k-means. On Caltech-101 margins alone, and BADGE (Ash et al. 2020,
arXiv:1906.03671), gain about as much (docs/design.md); margins alone take copies of one image together.
"""

import numpy as np

POWER = 4  # of the uncertainty; chosen on other draws of Caltech-101 than those that docs/design.md reports


def choose(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the rows of images to label, the first ones first, int64 (at most `count`,).

    The first one has the smallest margin. Each further one is drawn with a probability that grows with the uncertainty
    (1 - margin) ** POWER, and with the square of its distance to the nearest of those chosen. Copies of these are at no
    distance, so they are taken only in the end.

    Args:
      features: what the model reads, float (n, dim).
      probabilities: what it answers, float32 (n, classes).
      count: how many.
      seed: another one draws others.
    """
    values, unsure = features.astype(np.float32), (1 - margins(probabilities).astype(np.float64)) ** POWER
    squares = np.square(values).sum(axis=1, dtype=np.float64)
    rng, chosen = np.random.default_rng(seed), list[int]()
    left, nearest = np.ones(len(values), bool), np.ones(len(values))
    for _ in range(min(count, len(values))):
        weights = np.where(left, unsure * nearest, 0)
        if chosen and weights.sum() > 0:
            row = int(rng.choice(len(weights), p=weights / weights.sum()))
        else:
            row = int(np.where(left, unsure, -1).argmax())
        chosen.append(row)
        left[row] = False
        distances = squares + squares[row] - 2 * (values @ values[row])
        distances[distances < 1e-5 * squares.max()] = 0  # what rounding leaves of copies
        nearest = distances if len(chosen) == 1 else np.minimum(nearest, distances)
    return np.array(chosen, np.int64)


def margins(probabilities: np.ndarray) -> np.ndarray:
    """Returns by how much the likeliest class is before the second one, float32 (n,): small where it is unsure."""
    two = -np.sort(-probabilities, axis=1)[:, :2]
    return np.asarray(two[:, 0] - two[:, 1])
