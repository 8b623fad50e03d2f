"""Ridge regression from the products of all pairs of rows: cheap where rows are few, however many columns they have.

With Z the rows, each times the root of its weight and less its part along the roots u (|u| = 1), as the free intercept
does, all of them together have the predictions H y, where 1 - H = R = penalty (Z Z' + penalty)^-1 - u u'.

Who is left out needs no fit of its own. A fit without the rows f is that of all rows whose targets at f are what it
predicts there, for then f adds nothing to the error. So with r_f the errors at f, (R y)_f = R_ff r_f, and the errors at
the other rows are R y - R_f r_f. One inverse for each penalty gives all folds.

Reference: Cawley and Talbot 2003, Efficient leave-one-out cross-validation of kernel Fisher discriminant classifiers.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from stages.library.heads.contract import batches

BLOCK = 1024  # rows or columns at a time


class Rows:
    """Rows, their targets and weights; float64 (n, n) is held, and as much again while a penalty is at work."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray):
        """Takes features (n, dim), of float16 or float32, targets float64 (n, outputs) and weights float64 (n,)."""
        self._features, self._root = features, np.sqrt(weights)[:, None]
        self._along = self._root / np.linalg.norm(self._root)
        self._targets = self._root * targets
        self._gram = np.zeros((len(features), len(features)))
        for columns in batches(features.shape[1], BLOCK):
            x = self._centred(columns)
            self._gram += x @ x.T

    def without(self, groups: Sequence[np.ndarray], penalty: float) -> Iterator[np.ndarray]:
        """Yields, for each group of rows (int64 ids), all rows' targets less what a fit without the group predicts.

        They are NaN where the penalty is so small beside the products that float64 has no such fit.
        """
        complement: np.ndarray = self._inverse(penalty)
        for block in batches(len(complement), BLOCK):
            complement[block] *= penalty
            complement[block] -= self._along[block] @ self._along.T
        errors = complement @ self._targets
        for rows in groups:
            try:
                of_group = np.linalg.solve(complement[np.ix_(rows, rows)], errors[rows])
            except np.linalg.LinAlgError:  # nothing is left of a penalty that small
                of_group = np.full_like(errors[rows], np.nan)
            found = errors - complement[:, rows] @ of_group
            found[rows] = of_group
            yield found / self._root

    def fit(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns kernel (dim, outputs) and bias (outputs,), float64, of a fit of all rows."""
        centred = self._targets - self._along @ (self._along.T @ self._targets)
        shares = self._inverse(penalty) @ centred
        kernel = np.empty((self._features.shape[1], shares.shape[1]))
        means = np.empty(len(kernel))
        for columns in batches(len(kernel), BLOCK):
            kernel[columns] = self._centred(columns).T @ shares
            means[columns] = (self._along**2).T @ self._features[:, columns].astype(np.float64)
        return kernel, (self._along * self._targets / np.linalg.norm(self._root)).sum(axis=0) - means @ kernel

    def _centred(self, columns: slice) -> np.ndarray:
        raw = self._features[:, columns].astype(np.float64)
        x: np.ndarray = self._root * (raw - raw.mean(axis=0))  # near the mean already: the rest loses no digits
        x -= self._along @ (self._along.T @ x)
        return x

    def _inverse(self, penalty: float) -> np.ndarray:
        from scipy.linalg import lapack  # a fifth of the start of every stage, for each reads all parameters

        factor = self._gram.copy(order="F")
        factor.flat[:: len(factor) + 1] += penalty
        factor, failed = lapack.dpotrf(factor, lower=1, overwrite_a=1)
        if not failed:
            inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
        if failed:  # a penalty below the rounding errors of the products
            return np.asarray(np.linalg.pinv(self._gram + penalty * np.eye(len(factor)), hermitian=True))
        for rows in batches(len(inverse), BLOCK):  # LAPACK fills the lower half; in place, for all may be gigabytes
            inverse[rows, rows.stop :] = inverse[rows.stop :, rows].T
            square = np.tril(inverse[rows, rows])
            inverse[rows, rows] = square + np.tril(square, -1).T
        found: np.ndarray = inverse
        return found
