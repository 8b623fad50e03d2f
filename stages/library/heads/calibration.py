"""Temperature scaling: one number by which a head's logits are divided, so that confidence means accuracy.

Ranks of classes, and so accuracies, stay as they are.
Reference: Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.
"""

import numpy as np

from stages.library.scoring.probabilities import softmax

INVERSE_TEMPERATURES = 1e-2, 1e3  # the ends stand for useless and for separable scores
BISECTIONS = 25  # of the logarithm: to 4e-7


def fit_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Returns the temperature that minimises the log loss of softmax(logits / temperature).

    The logits, float32 (n, num_classes), are by heads that did not see the rows; labels are int64 (n,); weights, by
    which losses are multiplied, float64 (n,). To the loss of the n rows that of one row of unknown class is added (a
    target of 1 / num_classes for each class, spread over the rows; Platt 1999 smooths targets so), else logits without
    a mistake would get no end of confidence. The loss is convex in 1 / temperature, so its slope,
    E_p[logit] - E_target[logit], changes its sign once.
    """
    centred = logits - np.take_along_axis(logits, labels[:, None], axis=1)
    unknown = float(weights @ centred.sum(axis=1, dtype=np.float64)) / (centred.size + centred.shape[1])
    low, high = np.log(INVERSE_TEMPERATURES)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        expected = weights @ np.einsum("ij,ij->i", softmax(centred * np.float32(np.exp(middle))), centred)
        low, high = (low, middle) if expected > unknown else (middle, high)
    return float(np.exp(-(low + high) / 2))
