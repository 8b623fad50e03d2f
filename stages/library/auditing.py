"""What may be wrong with a data set: likely label errors and outliers; near-duplicates are found by `duplicates`.

Label errors by confident learning (Northcutt, Jiang and Chuang, 2021, arXiv:1911.00068) on probabilities of models that
did not see the image, outliers by the mean distance to neighbours (Kuan and Mueller, 2022, arXiv:2207.03061): both are
cleanlab's.
"""

import warnings
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pydantic

from stages.library.common import hashing
from stages.library.common.params import CONFIG, Seed


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `audit` of params.yaml."""

    neighbours: Annotated[int, pydantic.Field(ge=1, le=1000, description="nearest images that count")]
    max_images: Annotated[int, pydantic.Field(ge=100, le=10_000_000, description="that are compared, at random")]
    images: Annotated[int, pydantic.Field(ge=1, le=100, description="shown of each kind")]
    seed: Annotated[Seed, pydantic.Field(description="chooses them where there are more")]


def sample(keys: np.ndarray, params: Params) -> np.ndarray:
    """Returns the rows to look at, int64, rising: all, or `max_images` by a hash of their keys, sha256 hex (n,)."""
    if len(keys) <= params.max_images:
        return np.arange(len(keys))
    numbers = np.array([hashing.uniform(key, "audit", params.seed) for key in keys])
    return np.sort(np.argsort(numbers, kind="stable")[: params.max_images])


def rows_of(blocks: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Returns rows, int64 and rising, of blocks (n of each, dim) that follow each other; all may not fit in memory."""
    ends = np.cumsum([len(block) for block in blocks])
    own = np.split(rows, np.searchsorted(rows, ends[:-1]))
    return np.concatenate([block[each - end + len(block)] for block, each, end in zip(blocks, own, ends, strict=True)])


def label_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the rows whose label is likely wrong, int64, the least probable first; `probabilities`: (n, classes).

    The only image of its class is never among them.
    """
    from cleanlab.filter import find_label_issues

    # More jobs would be copies of this process, threads and all.
    options = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")  # of classes of one image
        return np.asarray(find_label_issues(labels, probabilities.astype(np.float64), **options), np.int64)


def nearest(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the `count` nearest other rows of features (n, dim) by angle, or all n - 1 where there are fewer.

    Returns distances, float64 (n, k), of the rows brought to unit length, rising; and their rows, int64 (n, k).
    """
    from sklearn.neighbors import NearestNeighbors

    rows = features.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    search = NearestNeighbors(n_neighbors=min(count, len(rows) - 1), algorithm="brute").fit(rows)
    distances, neighbours = search.kneighbors()
    return distances.astype(np.float64), neighbours.astype(np.int64)


def typicality(distances: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Returns float64 (n,) in [0, 1]: near 0 for images far from all others; arguments as `nearest` returns them."""
    from cleanlab.outlier import OutOfDistribution
    from scipy.sparse import csr_matrix
    from sklearn.neighbors import NearestNeighbors

    rows, count = distances.shape
    graph = csr_matrix((distances.ravel(), neighbours.ravel(), np.arange(rows + 1) * count), shape=(rows, rows))
    search = NearestNeighbors(n_neighbors=count, metric="precomputed").fit(graph)
    return np.asarray(OutOfDistribution({"knn": search}).score(features=graph))
