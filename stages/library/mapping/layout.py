"""Where each image lies on the map: its features in two dimensions, so that what is alike lies side by side.

Features are brought to unit length, then to 50 principal components, then by t-SNE (van der Maaten and Hinton,
Visualizing data using t-SNE, 2008; Barnes-Hut, van der Maaten, 2014) to two. The time of t-SNE grows with the images:
beyond `map.landmarks` of them, the others are placed between their nearest landmarks, which takes seconds.
"""

import importlib
from typing import Annotated

import numpy as np
import pydantic
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.library.common import hashing
from stages.library.common.params import CONFIG, Seed

COMPONENTS = 50
# On the digits, 10 neighbours in two dimensions agree with those in 50 as well as by scikit-learn's own perplexity
# of 30, 1,000 iterations and angle of 0.5, in a third of the time.
PERPLEXITY, ITERATIONS, ANGLE = 15, 500, 0.8
NEAREST = 3  # landmarks that place an image
ROWS = 4096  # in memory in full precision
DIGITS = 5  # of coordinates in [0, 1]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `map` of params.yaml."""

    max_images: Annotated[int, pydantic.Field(ge=100, le=200_000, description="on the map, at random")]
    landmarks: Annotated[int, pydantic.Field(ge=100, le=50_000, description="laid out by t-SNE, at random")]
    seed: Annotated[Seed, pydantic.Field(description="chooses both, and seeds t-SNE")]


def sample(keys: np.ndarray, most: int, purpose: str, seed: int) -> np.ndarray:
    """Returns rows, int64, rising: all, or `most` by a hash of their keys, sha256 hex (n,)."""
    if len(keys) <= most:
        return np.arange(len(keys))
    numbers = np.array([hashing.uniform(key, purpose, seed) for key in keys])
    return np.sort(np.argsort(numbers, kind="stable")[:most])


def lay_out(features: np.ndarray, keys: np.ndarray, params: Params) -> np.ndarray:
    """Returns float64 (n, 2) in [0, 1], of five digits, for features (n, dim) of the images with these keys (n,).

    The same on one machine in each run: of several threads, the order of sums would depend on which one is first.
    """
    for name in ("decomposition", "manifold", "neighbors"):  # a limit reaches only libraries that are loaded
        importlib.import_module(f"sklearn.{name}")
    chosen = sample(keys, params.landmarks, "landmark", params.seed)
    with threadpool_limits(1):
        mean, axes = _principal(_unit(features[chosen]))
        blocks = (features[start : start + ROWS] for start in range(0, len(features), ROWS))
        reduced = np.concatenate([(_unit(block) - mean) @ axes for block in blocks])
        landmarks = _embed(reduced[chosen], params.seed)
        placed = landmarks if len(chosen) == len(reduced) else _between(reduced, reduced[chosen], landmarks)
    placed = placed - placed.min(axis=0)
    width = placed.max(axis=0)
    centred: np.ndarray = np.round((placed + (width.max() - width) / 2) / (width.max() or 1.0), DIGITS)
    return centred


def _unit(features: np.ndarray) -> np.ndarray:
    rows: np.ndarray = features.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean, (dim,), and the first principal axes, (dim, at most 50), of rows (n, dim)."""
    from sklearn.decomposition import PCA

    if not np.ptp(rows, axis=0).any():  # a single image, or copies of one
        return rows[0], np.zeros((rows.shape[1], 1), np.float32)
    # ARPACK finds these axes alone, in a third of the time and less; it can't find all that there are.
    solver = "arpack" if min(rows.shape) > COMPONENTS else "full"
    found = PCA(min(COMPONENTS, *rows.shape), svd_solver=solver, random_state=0).fit(rows)
    return found.mean_, found.components_.T


def _embed(rows: np.ndarray, seed: int) -> np.ndarray:
    """Returns rows (n, components) in two dimensions, float64 (n, 2)."""
    from sklearn.manifold import TSNE

    start = np.zeros((len(rows), 2))
    start[:, : rows.shape[1]] = rows[:, :2]
    deviation = start[:, 0].std()
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    if perplexity < 1 or deviation < np.finfo(np.float32).eps:  # too few to have neighbours, or all the same
        return start
    # As scikit-learn's "pca", without computing it once more.
    options = {"init": (start / deviation * 1e-4).astype(np.float32), "random_state": seed}
    search = TSNE(perplexity=perplexity, max_iter=ITERATIONS, angle=ANGLE, **options)
    return np.asarray(search.fit_transform(rows), np.float64)


def _between(rows: np.ndarray, landmarks: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns places, float64 (n, 2), of rows: means over those of their nearest landmarks, by 1 / distance squared."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEAREST, algorithm="brute").fit(landmarks)
    distances, neighbours = search.kneighbors(rows)
    # A landmark is where it is: of distances to itself, rounding leaves some 1e-4.
    weights = 1 / np.maximum(distances.astype(np.float64), 1e-6) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    found: np.ndarray = np.einsum("nk,nkd->nd", weights, places[neighbours])
    return found
