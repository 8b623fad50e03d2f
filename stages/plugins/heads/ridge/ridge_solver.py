"""Ridge regression from sufficient statistics: all penalties and all folds from one pass over the features.

The statistics of rows z = [x, t, 1] (features less a fixed origin, targets, a one) are the symmetric matrix of sums
z z', with the Gram matrix, the products with the targets, all sums and the row count. The statistics of a training fold
are the total minus those of the held-out fold, so k-fold cross-validation costs one pass over the features and one
eigendecomposition per fold, whatever the number of penalties; k (dim + num_classes + 1)^2 float64 are held.

Sums over blocks are float64. Products within a block are float32, at half the cost, where rows are FULL_RANK times as
many as columns: the Gram matrix's small eigenvalues are then far above its rounding errors, about 1e-7 of the largest.
With fewer rows they are not, and the errors would exceed small penalties, so all is float64 there.

Reference: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 3.4.1.
"""

from collections.abc import Sequence

import numpy as np

from stages.library.common.console import progress
from stages.library.heads.blocks import BLOCK_ROWS, batches
from stages.library.heads.scaling import column_scale

FULL_RANK = 4


def origin_of(features: np.ndarray) -> np.ndarray:
    """Returns the mean of the first block, float64 (dim,), rounded to float32, so that both precisions subtract it.

    Any origin gives the same fit; one near the mean loses no digits in centring.
    """
    return np.asarray(features[:BLOCK_ROWS].mean(axis=0, dtype=np.float64).astype(np.float32).astype(np.float64))


def fold_statistics(
    features: np.ndarray, labels: np.ndarray, num_classes: int, folds: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """Sums the statistics of each fold, in blocks of rows.

    Args:
      features: float16 or float32 (n, dim).
      labels: int64 (n,), class ids in [0, num_classes); targets are +1 at the label and -1 elsewhere.
      num_classes: at least 2.
      folds: int64 (n,), the fold of each row.
      origin: float64 (dim,), subtracted from every row.

    Returns:
      float64 (max(folds) + 1, dim + num_classes + 1, dim + num_classes + 1).
    """
    dim = features.shape[1]
    dtype = np.float32 if len(features) >= FULL_RANK * dim else np.float64
    origin = origin.astype(dtype)
    statistics = np.zeros((folds.max() + 1, dim + num_classes + 1, dim + num_classes + 1))
    for fold in progress(range(len(statistics)), "Gram matrices", "folds", total=len(statistics)):
        rows = np.flatnonzero(folds == fold)
        for block in batches(len(rows), BLOCK_ROWS):
            z = np.full((block.stop - block.start, len(statistics[fold])), -1, dtype)
            z[:, :dim] = features[rows[block]] - origin
            z[np.arange(len(z)), dim + labels[rows[block]]] = 1
            z[:, -1] = 1
            statistics[fold] += z.T @ z
    return statistics


def row_space(features: np.ndarray) -> np.ndarray | None:
    """Returns an orthonormal basis of the rows' span, float64 (dim, n), where there are fewer rows than columns.

    No penalised kernel leaves that span, so fitting features @ basis is the same problem with n columns.

    Args:
      features: float16 or float32 (n, dim).
    """
    n, dim = features.shape
    return np.linalg.qr(features.T.astype(np.float64))[0] if n < dim else None


def solve(
    statistics: np.ndarray, num_classes: int, penalties: Sequence[float], standardized: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises the sum of |W' x + b - t|^2 + penalty |W|^2 for each penalty; the intercept b is not penalised.

    Args:
      statistics: of the training rows, float64 (dim + num_classes + 1, dim + num_classes + 1).
      num_classes: number of targets.
      penalties: added to the diagonal of the centred Gram matrix (not divided by n), each > 0.
      standardized: whether columns are divided by their deviation first (`scaling.column_scale`).

    Returns:
      Kernels (len(penalties), dim, num_classes) and biases (len(penalties), num_classes), float64, for features less
      the origin.
    """
    dim = len(statistics) - num_classes - 1
    means = statistics[:-1, -1] / statistics[-1, -1]
    centred = statistics[:dim, :-1] - np.outer(statistics[:dim, -1], means)
    scale = column_scale(centred.diagonal() / statistics[-1, -1]) if standardized else np.ones(dim)
    eigenvalues, basis = np.linalg.eigh(centred[:, :dim] / np.outer(scale, scale))
    projected = basis.T @ (centred[:, dim:] / scale[:, None])
    # Rounding leaves tiny negative eigenvalues where the Gram matrix is singular (dim > n).
    shrinkage = 1 / (np.maximum(eigenvalues, 0) + np.array(penalties)[:, None])
    kernels = basis @ (shrinkage[:, :, None] * projected) / scale[:, None]
    return kernels, means[dim:] - means[:dim] @ kernels


def mean_squared_error(statistics: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> float:
    """Returns the mean of (W' x + b - t)^2 over rows and classes, from the rows' statistics alone.

    Args:
      statistics: float64 (dim + num_classes + 1, dim + num_classes + 1).
      kernel: (dim, num_classes).
      bias: (num_classes,), for features less the origin.
    """
    residual = np.concatenate([kernel, -np.eye(len(bias)), bias[None]])
    total = np.einsum("ij,ij->", residual, statistics @ residual)
    return float(total / (statistics[-1, -1] * len(bias)))
