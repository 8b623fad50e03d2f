"""What a combination is made of: models, and their probabilities of images that none of them was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.library.common.console import UserError
from stages.library.features import disk_arrays
from stages.library.scoring.probabilities import softmax

Curve = list[tuple[float, str, float, float]]  # step, series, accuracy and loss


@dataclass(frozen=True)
class Examples:
    """What a combination is found on."""

    probabilities: np.ndarray  # float32 (members, n, num_classes)
    labels: np.ndarray  # int64 (n,)
    groups: np.ndarray  # uint64 (n,); rows of one number stay on one side of every split
    weights: np.ndarray  # float64 (n,), > 0, of their losses

    def rows(self, rows: np.ndarray) -> "Examples":
        """Returns some rows, int64 ids or a mask (n,)."""
        of_rows = self.labels[rows], self.groups[rows], self.weights[rows]
        return Examples(self.probabilities[:, rows], *of_rows)


def common_rows(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Returns where all members, logits (n, num_classes) each, predict: bool (n,); UserError: nowhere.

    A member predicts what it was not trained on; its other rows are NaN.
    """
    common = np.logical_and.reduce([np.isfinite(each).all(axis=1) for each in logits])
    if not common.any():
        raise UserError(
            "`combine` must have images that none of its members was trained on. Received: none of "
            f"{len(common)}. Raise `cross_validation.holdout_fraction`, or leave it out"
        )
    return np.asarray(common)


def stacked(logits: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Returns some rows' probabilities, float32 (members, n, num_classes), on disk where they are many."""
    first = logits[0][rows]
    out = disk_arrays.empty((len(logits), *first.shape), np.float32)
    for number, each in enumerate(logits):
        out[number] = softmax(each[rows])
    return out
