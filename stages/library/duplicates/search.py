"""Finds near-duplicates: images that were resized, recompressed, mirrored, or cut by up to a tenth of a side.

Candidates have nearly the same 8 x 8 grey values. Each image is looked for as it is, with its edges cut off, and
mirrored. What is looked through are lists around some of the images, of which only the nearest are read, so the time
grows little faster than the number of images. A candidate is a near-duplicate if little is left of it when the other
image, laid over it, is taken away, and if its details agree. Both limits are fixed and no matter of the data set:
../../../docs/design.md has what they find and what they take for a copy.

An image of one colour is like any other of them, and a near-duplicate of none.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from stages.library.duplicates.alignment import compare, sample
from stages.library.duplicates.miniatures import Miniatures

GRID = 8
CUTS = (0, 0), (0, 0.05), (0.05, 0), (0.05, 0.05), (0, 0.1), (0.1, 0)  # from both ends of a side
FRAMES = tuple(
    np.array([(top - bottom) / 2, 1 - top - bottom, (left - right) / 2, 1 - left - right], np.float32)
    for (top, bottom), (left, right) in product(CUTS, CUTS)
)
LIST_LENGTH = 1024
LISTS_READ = 4
ROWS = 1 << 16  # are looked for at a time
BEST = 2  # of each way of looking
MOST_CANDIDATES = 6  # of each image
LEAST_CORRELATION = 0.8
BATCH = 256
MOST_RESIDUAL = 7.0  # of 255 grey levels
ENOUGH_PX = 16  # of a side; of smaller images less may be left, for there is less to agree
LEAST_DETAIL = 0.9  # correlation of gradients
LEAST_NORM = 8.0  # of 64 grey values without their mean: below, an image is of one colour


def near_duplicates(keys: np.ndarray, images: Miniatures) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of copies, int64 (pairs, 2), the lower row first, and their distances, float64 (pairs,) in [0, 1].

    The distance is the root mean square of the difference of their grey values when one is laid over the other. The
    same images give the same pairs in any order of the rows. Of copies byte for byte, at distance 0, each is paired
    with the first, and the first alone with others. Of more than MOST_CANDIDATES near-duplicates of an image, the
    nearest are looked at.

    Args:
      keys: sha256 hex of the images, (n,).
      images: the same images.
    """
    first, same = np.unique(keys.astype(str), return_index=True, return_inverse=True)[1:]
    again = np.setdiff1d(np.arange(len(keys)), first)
    pairs, apart = _verified(images[first], _candidates(images[first]))
    found = np.concatenate([np.stack([first[same[again]], again], axis=1), np.sort(first[pairs], axis=1)])
    distances = np.concatenate([np.zeros(len(again)), np.round(apart / 255, 6)])
    order = np.lexsort((found[:, 1], found[:, 0], distances))
    return found[order], distances[order]


def _candidates(images: Miniatures) -> np.ndarray:
    """Returns candidates, int64 (m, 3), sorted: two rows, the lower first, and 1 if one of them is mirrored, else 0."""
    if not len(images):
        return np.zeros((0, 3), np.int64)
    found = []
    known = np.concatenate([_describe(images[part], FRAMES[0]) for part in _parts(len(images))])
    centres = known[:: max(1, min(LIST_LENGTH, len(images)))].reshape(-1, GRID * GRID)  # keys, so rows, are random
    listed = np.concatenate([_nearest(known[part], centres, 1) for part in _parts(len(images))])[:, 0]
    lists = [np.flatnonzero(listed == number) for number in range(len(centres))]
    for part in _parts(len(images)):
        tried = [_look(images[part], part.start, frame, known, centres, lists) for frame in FRAMES]
        rows, others, mirrored, scores = np.concatenate(tried, axis=1)
        order = np.lexsort((-scores, mirrored, others, rows))
        triples = np.stack([rows, others, mirrored], axis=1)[order].astype(np.int64)
        fresh = np.r_[True, (np.diff(triples, axis=0) != 0).any(axis=1)][: len(triples)]
        triples, scores = triples[fresh], scores[order][fresh]
        order = np.lexsort((-scores, triples[:, 0]))
        ranked = triples[order]
        rank = np.arange(len(ranked)) - np.searchsorted(ranked[:, 0], ranked[:, 0])
        found.append(ranked[rank < MOST_CANDIDATES])
    candidates = np.concatenate(found)
    candidates[:, :2].sort(axis=1)
    return np.unique(candidates, axis=0)


def _look(
    images: Miniatures, start: int, frame: np.ndarray, known: np.ndarray, centres: np.ndarray, lists: list[np.ndarray]
) -> np.ndarray:
    """Returns rows, counted from `start`, rows like them, whether mirrored, and correlations: float64 (4, m)."""
    found = [np.zeros((4, 0))]
    plain = _describe(images, frame)
    turned = plain.reshape(-1, GRID, GRID)[:, :, ::-1].reshape(plain.shape)
    for mirrored, asked in enumerate((plain, turned)):
        near = _nearest(asked, centres, LISTS_READ)
        for number, members in enumerate(lists):
            asking = np.flatnonzero((near == number).any(axis=1))
            scores = asked[asking] @ known[members].T
            scores[(asking + start)[:, None] == members] = -1  # itself
            every = np.arange(len(asking))
            for _ in range(min(BEST, len(members))):
                best = scores.argmax(axis=1)
                score = scores[every, best]
                scores[every, best] = -1
                is_like = score >= LEAST_CORRELATION
                of = np.stack([asking + start, members[best], np.full(len(best), mirrored), score])
                found.append(of[:, is_like])
    return np.concatenate(found, axis=1)


def _describe(images: Miniatures, frame: np.ndarray) -> np.ndarray:
    """Returns grey values without their mean, as rows of unit length, float32 (n, 64); zeros for one colour."""
    parts = [np.zeros((0, GRID * GRID), np.float32)]
    for start in range(0, len(images), LIST_LENGTH):
        part = images[start : start + LIST_LENGTH]
        parts.append(sample(part, np.tile(frame, (len(part), 1)), (GRID, GRID), 1.0)[0].reshape(-1, GRID * GRID))
    values = np.concatenate(parts)
    values -= values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(norms < LEAST_NORM, 0, values / np.maximum(norms, LEAST_NORM)).astype(np.float32)


def _nearest(rows: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """Returns the numbers of the nearest centres of each row, int64 (n, count) or fewer."""
    count = min(count, len(centres))
    return np.argpartition(-(rows @ centres.T), count - 1, axis=1)[:, :count]


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS))


def _verified(images: Miniatures, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the candidates that are copies, once each, int64 (pairs, 2), and their residuals, float64 (pairs,)."""
    area = images.sizes.prod(axis=1)[candidates[:, :2]]
    still = np.where(area[:, 0] < area[:, 1], candidates[:, 0], candidates[:, 1])  # the smaller: none is enlarged
    moved = candidates[:, 0] + candidates[:, 1] - still
    residuals = np.full(len(candidates), np.inf)
    shapes, kind = np.unique(images.sizes[still], axis=0, return_inverse=True)
    for number, (height, width) in enumerate(shapes.tolist()):
        rows = np.flatnonzero(kind.ravel() == number)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            turned = images[moved[part]].mirrored(candidates[part, 2] == 1)
            residual, detail = compare(turned, images[still[part]], (height, width))
            limit = MOST_RESIDUAL * min(1, height / ENOUGH_PX, width / ENOUGH_PX)
            residuals[part] = np.where((residual <= limit) & (detail >= LEAST_DETAIL), residual, np.inf)
    order = np.argsort(residuals, kind="stable")
    order = order[residuals[order] < np.inf]
    pairs, first = np.unique(candidates[order, :2], axis=0, return_index=True)
    return pairs, residuals[order][first]
