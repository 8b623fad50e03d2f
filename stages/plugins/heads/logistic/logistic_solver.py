"""Multinomial logistic regression with an L2 penalty: L-BFGS, preconditioned in the eigenbasis of the Gram matrix.

Minimised is the sum over rows of -ln softmax(x W + b)[label], plus penalty / 2 |W|^2; the intercept b isn't penalised.
For class k the Hessian is nearly w_k X'X + penalty I, where w_k is the mean of p_k (1 - p_k) (Böhning 1992, Multinomial
logistic regression algorithm, bounds it by 1/2). It is diagonal in the eigenbasis of X'X, so its inverse costs two
products with that basis, at any penalty and any w_k; L-BFGS (Liu and Nocedal 1989, On the limited memory BFGS method)
starts from it in every step. Logits are linear in W, so a line search needs no product with the features. A number
added to all classes changes no probability: rows of W, and b, are kept at mean 0, where the minimum is.

Products with the features and the basis are float32, all else float64.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.library.scoring.probabilities import softmax

MEMORY = 10  # pairs of steps and gradient changes
SPECTRUM_ROWS = 16_384  # for `spectrum`: a preconditioner needs no more
CURVATURE = 0.25  # a line search ends where the slope has fallen to this fraction
MIN_WEIGHT = 1e-6
Pairs = deque[tuple[np.ndarray, np.ndarray, float]]  # step, change of the gradient, their inner product


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition of X'X / n, nearly that of any large subset of the rows.

    Attributes:
      eigenvalues: float64 (dim,), not negative.
      basis: float32 (dim, dim), an eigenvector in each column.
    """

    eigenvalues: np.ndarray
    basis: np.ndarray


def spectrum(x: np.ndarray) -> Spectrum:
    """Decomposes the Gram matrix of x, float32 (n, dim) with columns of mean 0."""
    eigenvalues, basis = np.linalg.eigh(x.T @ x / np.float32(len(x)))
    return Spectrum(np.maximum(eigenvalues, 0).astype(np.float64), basis)


@dataclass
class Solution:
    """The state of the minimisation.

    Attributes:
      kernel: float64 (dim, num_classes).
      bias: float64 (num_classes,).
      iterations: that the last penalty took.
    """

    kernel: np.ndarray
    bias: np.ndarray
    iterations: int = 0


def path(
    x: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    penalties: list[float],
    basis: Spectrum,
    tolerance: float,
    max_iterations: int,
) -> Iterator[Solution]:
    """Yields the solution for each penalty, each search starting from the one before: from strong to weak is fastest.

    Args:
      x: float32 (n, dim), columns of mean 0.
      labels: int64 (n,); the intercept of a class without examples only ends falling by the tolerance.
      num_classes: at least 2.
      penalties: each > 0; not divided by n, so 1 / penalty is scikit-learn's C.
      basis: of x or of a similar set of rows.
      tolerance: a search ends where the mean loss is about this far above its minimum, in nats.
      max_iterations: at which a search ends, for each penalty.
    """
    solution = Solution(np.zeros((x.shape[1], num_classes)), np.zeros(num_classes))
    for penalty in penalties:
        solution = minimise(x, labels, solution, penalty, basis, tolerance, max_iterations)
        yield solution


def minimise(
    x: np.ndarray,
    labels: np.ndarray,
    start: Solution,
    penalty: float,
    basis: Spectrum,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Returns the minimum for one penalty; see `path`."""
    n = len(x)
    theta = np.vstack([start.kernel, start.bias])
    logits = _product(x, theta)
    probabilities = softmax(logits)
    gradient = _gradient(x, labels, theta, probabilities, penalty)
    pairs: Pairs = deque(maxlen=MEMORY)
    iterations = 0
    while iterations < max_iterations:
        weights = np.maximum(probabilities.mean(axis=0) - np.einsum("ij,ij->j", probabilities, probabilities) / n, 0)
        direction = -_two_loops(gradient, pairs, basis, n * np.maximum(weights, MIN_WEIGHT), penalty)
        slope = float(np.vdot(gradient, direction))
        if -slope / 2 <= tolerance * n:  # Newton's estimate of what is left to gain
            break
        change = _product(x, direction)
        step, probabilities = _line_search(logits, change, labels, theta, direction, penalty, slope)
        if step == 0:
            break
        iterations += 1
        theta = theta + step * direction
        logits += np.float32(step) * change
        before, gradient = gradient, _gradient(x, labels, theta, probabilities, penalty)
        bend = float(np.vdot(step * direction, gradient - before))
        if bend > 0:
            pairs.append((step * direction, gradient - before, bend))
    return Solution(theta[:-1], theta[-1], iterations)


def _product(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return np.asarray(x @ theta[:-1].astype(np.float32) + theta[-1].astype(np.float32))


def _gradient(
    x: np.ndarray, labels: np.ndarray, theta: np.ndarray, probabilities: np.ndarray, penalty: float
) -> np.ndarray:
    """Returns the gradient by kernel and intercept, float64 (dim + 1, num_classes)."""
    residuals = probabilities.copy()
    residuals[np.arange(len(x)), labels] -= 1
    return np.vstack([x.T @ residuals + penalty * theta[:-1], residuals.sum(axis=0, dtype=np.float64)])


def _two_loops(gradient: np.ndarray, pairs: Pairs, basis: Spectrum, weights: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the inverse Hessian as L-BFGS knows it, times the gradient; pairs are oldest first, weights n w_k."""
    q = gradient.copy()
    shares = []
    for step, change, bend in reversed(pairs):
        share = float(np.vdot(step, q)) / bend
        q -= share * change
        shares.append(share)
    rotated = basis.basis.T @ q[:-1].astype(np.float32)
    rotated = (rotated / (basis.eigenvalues[:, None] * weights + penalty)).astype(np.float32)
    q = np.vstack([basis.basis @ rotated, q[-1] / weights]).astype(np.float64)
    q -= q.mean(axis=1, keepdims=True)
    for (step, change, bend), share in zip(pairs, reversed(shares), strict=True):
        q += (share - float(np.vdot(change, q)) / bend) * step
    return q


def _line_search(
    logits: np.ndarray,
    change: np.ndarray,
    labels: np.ndarray,
    theta: np.ndarray,
    direction: np.ndarray,
    penalty: float,
    slope: float,
) -> tuple[float, np.ndarray]:
    """Returns the length of the step and the probabilities there; 0 where the direction doesn't lead down.

    The objective is convex along the direction, so its slope grows: it is brought near zero by secants within the
    bracket. Slopes, unlike differences of losses, lose no digits close to the minimum.
    """
    constant = penalty * float(np.vdot(theta[:-1], direction[:-1]))
    growth = penalty * float(np.vdot(direction[:-1], direction[:-1]))
    at_label = float(change[np.arange(len(labels)), labels].sum(dtype=np.float64))
    low, low_slope, high, high_slope, step = 0.0, slope, np.inf, np.inf, 1.0
    probabilities = np.empty(0)
    for _ in range(20):
        probabilities = softmax(logits + np.float32(step) * change)
        expected = float(np.einsum("ij,ij->i", probabilities, change).sum(dtype=np.float64))
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
    return (low, softmax(logits + np.float32(low) * change)) if low > 0 else (0.0, probabilities)
