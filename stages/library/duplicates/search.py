"""Finds near-duplicates: images that were resized, recompressed, mirrored, or cut by up to a tenth of a side.

A candidate is a near-duplicate if little is left of it when the other image, laid over it, is taken away, and if its
details agree. Both limits are fixed and no matter of the data set: ../../../docs/design.md has what they find and what
they take for a copy. An image of one colour is like any other of them, and a near-duplicate of none.
"""

import os
from collections.abc import Iterable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.library.common import console
from stages.library.common.threads import ahead
from stages.library.duplicates import candidates
from stages.library.duplicates.alignment import compare
from stages.library.duplicates.candidates import Candidates
from stages.library.duplicates.miniatures import Miniatures, miniatures

BATCH = 256
MOST_RESIDUAL = 7.0  # of 255 grey levels
ENOUGH_PX = 16  # of a side; of smaller images less may be left, for there is less to agree, and most are not found
LEAST_DETAIL = 0.9  # correlation of gradients


def find(stage: str, keys: Sequence[str] | np.ndarray, encoded: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `near_duplicates` does, of encoded images; for a stage, which says where images are too small."""
    images = miniatures(console.progress(encoded, "near-duplicates: read", "images", len(keys)))
    if few := int((images.sizes.min(axis=1, initial=ENOUGH_PX) < ENOUGH_PX).sum()):
        console.say(f"{stage}: {few:,} images have a side below {ENOUGH_PX} px: most copies of those are not found")
    return near_duplicates(np.asarray(keys), images)


def near_duplicates(keys: np.ndarray, images: Miniatures) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of copies, int64 (pairs, 2), the lower row first, and their distances, float64 (pairs,) in [0, 1].

    The distance is the root mean square of the difference of their grey values when one is laid over the other. The
    same images give the same pairs in any order of the rows. Of copies byte for byte, at distance 0, each is paired
    with the first, and the first alone with others. Of more than `candidates.MOST_CANDIDATES` near-duplicates of an
    image, the nearest are looked at.

    Args:
      keys: sha256 hex of the images, (n,).
      images: the same images.
    """
    # By their keys, images are in random order.
    first, same = np.unique(keys.astype(bytes), return_index=True, return_inverse=True)[1:]
    again = np.setdiff1d(np.arange(len(keys)), first)
    unlike = images[first]
    pairs, apart = _verified(unlike, candidates.find(unlike))
    found = np.concatenate([np.stack([first[same[again]], again], axis=1), np.sort(first[pairs], axis=1)])
    distances = np.concatenate([np.zeros(len(again)), np.round(apart / 255, 6)])
    order = np.lexsort((found[:, 1], found[:, 0], distances))
    return found[order], distances[order]


def _verified(images: Miniatures, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Returns the candidates that are copies, once each, int64 (pairs, 2), and their residuals, float64 (pairs,)."""
    pairs = np.stack([found.seen, found.others], axis=1)
    area = images.sizes.prod(axis=1)[pairs]
    is_seen = area[:, 0] >= area[:, 1]  # the larger is moved: none is enlarged
    moved, still = np.where(is_seen, pairs.T, pairs.T[::-1])
    starts = _turned(found, is_seen)
    shapes, kind = np.unique(images.sizes[still], axis=0, return_inverse=True)
    rows = [np.flatnonzero(kind.ravel() == number) for number in range(len(shapes))]
    batches = [part[start : start + BATCH] for part in rows for start in range(0, len(part), BATCH)]

    def compared(part: np.ndarray) -> np.ndarray:
        height, width = images.sizes[still[part[0]]].tolist()
        mirrored = images[moved[part]].mirrored(found.mirrored[part])
        residual, detail = compare(mirrored, images[still[part]], (height, width), starts[part])
        limit = MOST_RESIDUAL * min(1, height / ENOUGH_PX, width / ENOUGH_PX)
        return np.where((residual <= limit) & (detail >= LEAST_DETAIL), residual, np.inf)

    residuals = np.full(len(pairs), np.inf)
    with threadpool_limits(1):  # of the batches, each has a thread
        tried = ahead(compared, batches, os.cpu_count() or 1)
        shown = console.progress(tried, "near-duplicates: compare", "batches", len(batches))
        for part, residual in zip(batches, shown, strict=True):
            residuals[part] = residual
    order = np.argsort(residuals, kind="stable")
    order = order[residuals[order] < np.inf]
    pairs, first = np.unique(np.sort(pairs[order], axis=1), axis=0, return_index=True)
    return pairs, residuals[order][first]


def _turned(found: Candidates, is_seen: np.ndarray) -> np.ndarray:
    """Returns the frames through which the moved images, mirrored before that, look like the still ones.

    `is_seen`, bool (m,), tells whether the moved image is the one that was seen through a frame, and mirrored then.
    """
    shifts, scales = found.frames[:, ::2].copy(), found.frames[:, 1::2]
    shifts[is_seen & found.mirrored, 1] *= -1
    back = np.stack([-shifts / scales, 1 / scales], axis=2).reshape(-1, 4)
    return np.where(is_seen[:, None], np.stack([shifts, scales], axis=2).reshape(-1, 4), back)
