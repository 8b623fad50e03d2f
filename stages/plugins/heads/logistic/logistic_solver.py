"""Multinomial logistic regression with an L2 penalty: L-BFGS, preconditioned in the eigenbasis of the Gram matrix.

Minimised is the sum over rows of -ln softmax(x W + b)[label], each times its row's weight, plus penalty / 2 |W|^2; the
intercept b isn't penalised. For class k the Hessian is nearly w_k X'X + penalty I, where w_k is the weighted mean of
p_k (1 - p_k) (Böhning 1992, Multinomial logistic regression algorithm, bounds it by 1/2). It is diagonal in the
eigenbasis of X'X, so rows are turned into that basis once, which changes no length and so no penalty; L-BFGS (Liu and
Nocedal 1989, On the limited memory BFGS method) starts from the inverse in every step. Where rows are fewer than
columns, their span is all that W needs: there are no more coordinates than rows. Logits are linear in W, so a line
search needs no product with the features. A number added to all classes changes no probability: rows of W, and b, are
kept at mean 0, where the minimum is.

Products with the features are float32, all else float64.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.library.features import disk_arrays
from stages.library.heads.contract import BLOCK_ROWS, batches
from stages.library.scoring.probabilities import softmax

MEMORY = 10  # pairs of steps and gradient changes
SPECTRUM_ROWS = 16_384  # for `spectrum`: a preconditioner needs no more
CURVATURE = 0.25  # a line search ends where the slope has fallen to this fraction
MIN_WEIGHT = 1e-6
SMALLEST_EIGENVALUE = 1e-12  # of the largest: less is rounding
Pairs = deque[tuple[np.ndarray, np.ndarray, float]]  # step, change of the gradient, their inner product


class Spectrum(NamedTuple):
    """Eigendecomposition of X'X / n, nearly that of any large subset of the rows."""

    eigenvalues: np.ndarray  # float64 (coordinates,), not negative
    basis: np.ndarray  # float32 (dim, coordinates), an eigenvector in each column; without those of no row

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        """Returns rows, float32 (n, dim), in the basis, float32 (n, coordinates), on disk where they are many."""
        out = disk_arrays.empty((len(x), self.basis.shape[1]), np.float32)
        for rows in batches(len(x), BLOCK_ROWS):
            out[rows] = x[rows] @ self.basis
        return out


def spectrum(x: np.ndarray) -> Spectrum:
    """Decomposes the Gram matrix of x, float32 (n, dim) with columns of mean 0."""
    n, dim = x.shape
    if n > dim:
        eigenvalues, basis = np.linalg.eigh(x.T @ x / np.float32(n))
        return Spectrum(np.maximum(eigenvalues, 0).astype(np.float64), basis)
    products = np.zeros((n, n))
    for columns in batches(dim, BLOCK_ROWS):
        block = x[:, columns].astype(np.float64)
        products += block @ block.T
    eigenvalues, shares = np.linalg.eigh(products)
    some = eigenvalues > SMALLEST_EIGENVALUE * eigenvalues[-1]
    shares = shares[:, some] / np.sqrt(eigenvalues[some])
    basis = np.empty((dim, shares.shape[1]), np.float32)
    for columns in batches(dim, BLOCK_ROWS):
        basis[columns] = x[:, columns].T.astype(np.float64) @ shares
    return Spectrum(eigenvalues[some] / n, basis)


@dataclass
class Search:
    """A search for each penalty starts from what the one before found: from strong to weak is fastest."""

    x: np.ndarray  # float32 (n, dim), columns of mean 0, in the coordinates of a spectrum
    labels: np.ndarray  # int64 (n,); the intercept of a class without examples only ends falling by the tolerance
    weights: np.ndarray  # float64 (n,), > 0
    num_classes: int
    eigenvalues: np.ndarray  # float64 (dim,), of that spectrum
    tolerance: float  # a search ends where the mean loss is about this far above its minimum, in nats
    max_iterations: int  # at which a search ends
    iterations: int = 0  # that the last penalty took

    def __post_init__(self) -> None:
        self._theta = np.zeros((self.x.shape[1] + 1, self.num_classes))  # the kernel, and the bias as the last row
        self._weights = self.weights.astype(np.float32)

    def minimise(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns kernel (dim, num_classes) and bias, float64; 1 / penalty is scikit-learn's C."""
        n = len(self.x)
        logits = self._product(self._theta)
        probabilities = softmax(logits)
        gradient = self._gradient(probabilities, penalty)
        pairs: Pairs = deque(maxlen=MEMORY)
        self.iterations = 0
        while self.iterations < self.max_iterations:
            weighted = self._weights[:, None] * probabilities
            weights = np.maximum(weighted.mean(axis=0) - np.einsum("ij,ij->j", weighted, probabilities) / n, 0)
            direction = -self._two_loops(gradient, pairs, n * np.maximum(weights, MIN_WEIGHT), penalty)
            slope = float(np.vdot(gradient, direction))
            if -slope / 2 <= self.tolerance * self.weights.sum():  # Newton's estimate of what is left to gain
                break
            change = self._product(direction)
            length, probabilities = self._line_search(logits, change, direction, penalty, slope)
            if length == 0:
                break
            self.iterations += 1
            step = length * direction
            self._theta = self._theta + step
            logits += np.float32(length) * change
            before, gradient = gradient, self._gradient(probabilities, penalty)
            bend = float(np.vdot(step, gradient - before))
            if bend > 0:
                pairs.append((step, gradient - before, bend))
        return self._theta[:-1], self._theta[-1]

    def _product(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(self.x @ theta[:-1].astype(np.float32) + theta[-1].astype(np.float32))

    def _gradient(self, probabilities: np.ndarray, penalty: float) -> np.ndarray:
        """Returns the gradient by kernel and intercept, float64 (dim + 1, num_classes)."""
        residuals = probabilities.copy()
        residuals[np.arange(len(residuals)), self.labels] -= 1
        residuals *= self._weights[:, None]
        by_kernel = self.x.T @ residuals + penalty * self._theta[:-1]
        return np.vstack([by_kernel, residuals.sum(axis=0, dtype=np.float64)])

    def _two_loops(self, gradient: np.ndarray, pairs: Pairs, weights: np.ndarray, penalty: float) -> np.ndarray:
        """Returns the inverse Hessian as L-BFGS knows it, times the gradient; pairs are oldest first, weights n w_k."""
        q, shares = gradient.copy(), []
        for step, change, bend in reversed(pairs):
            shares.append(float(np.vdot(step, q)) / bend)
            q -= shares[-1] * change
        q[:-1] /= self.eigenvalues[:, None] * weights + penalty
        q[-1] /= weights
        q -= q.mean(axis=1, keepdims=True)
        for (step, change, bend), share in zip(pairs, reversed(shares), strict=True):
            q += (share - float(np.vdot(change, q)) / bend) * step
        return q

    def _line_search(
        self, logits: np.ndarray, change: np.ndarray, direction: np.ndarray, penalty: float, slope: float
    ) -> tuple[float, np.ndarray]:
        """Returns the length of the step and the probabilities there; 0 where the direction doesn't lead down.

        The objective is convex along the direction, so its slope grows: it is brought near zero by secants within the
        bracket. Slopes, unlike differences of losses, lose no digits close to the minimum.
        """
        constant = penalty * float(np.vdot(self._theta[:-1], direction[:-1]))
        growth = penalty * float(np.vdot(direction[:-1], direction[:-1]))
        at_label = float((self._weights * change[np.arange(len(change)), self.labels]).sum(dtype=np.float64))
        low, low_slope, high, high_slope, step = 0.0, slope, np.inf, np.inf, 1.0
        for _ in range(20):
            probabilities = softmax(logits + np.float32(step) * change)
            gains = self._weights * np.einsum("ij,ij->i", probabilities, change)
            expected = float(gains.sum(dtype=np.float64))
            here = expected - at_label + constant + step * growth
            if abs(here) <= CURVATURE * -slope:
                return step, probabilities
            if here < 0:
                low, low_slope = step, here
            else:
                high, high_slope = step, here
            if np.isinf(high):
                step *= 4
            else:
                secant = low + (high - low) * low_slope / (low_slope - high_slope)
                step = float(np.clip(secant, low + 0.1 * (high - low), high - 0.1 * (high - low)))
        return low, softmax(logits + np.float32(low) * change)
