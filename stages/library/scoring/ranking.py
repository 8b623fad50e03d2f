"""How well scores put the images of a class before all others, whatever the threshold."""

import math

import numpy as np


def one_against_the_rest(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns ROC-AUC and average precision, each the mean over the classes that are among the labels.

    Scores are (n, num_classes), finite; labels int64 (n,), n >= 1. Of a class they are what scikit-learn gives for
    `labels == class`. Both are means over the images of the class: of the share of the others that score lower, ties
    counting half (Mann and Whitney 1947); and of the precision among all that score as high. ROC-AUC is NaN where all
    labels are one class.
    """
    areas, precisions = [], []
    for label in np.unique(labels):
        column = np.ascontiguousarray(scores[:, label])
        own, everything = np.sort(column[labels == label]), np.sort(column)
        # Of each image of the class: how many score lower, and how many at most as high; among the class, among all.
        (own_lower, own_as_high), (lower, as_high) = (
            [np.searchsorted(ranked, own, side) for side in ("left", "right")] for ranked in (own, everything)
        )
        others = len(everything) - len(own)
        beaten = (lower - own_lower) + (as_high - own_as_high)  # twice, so that ties count half
        areas.append(float(beaten.mean()) / (2 * others) if others else math.nan)
        precisions.append(float(np.mean((len(own) - own_lower) / (len(everything) - lower))))
    return float(np.mean(areas)), float(np.mean(precisions))
