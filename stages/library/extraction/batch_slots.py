"""Which images stand together in a batch, so that an image's features depend on the image alone.

A row of a matrix product is the same bits whatever the other rows hold, but not wherever it stands: the last rows of a
tile go through other instructions, and their sums are rounded in another order (measured with TensorFlow on the CPU:
about 1e-6 of the value, enough to change some float16). So an image's slot in its batch follows from its key, and a
run that computes some images only gives the bits of one that computes all. Where a network as it is compiled gives the
same bits in every slot, no slot stays empty.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

DIGITS = 8
PROBES = 2


def schedule(keys: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns indices of distinct keys, sha256 hex "S64", as int64 (batches, batch_size), -1 in slots that stay empty.

    There are as many batches as the fullest slot has images: for 8 slots 4% too many at 10,000 images, 1.5% at 100,000.
    """
    slots = np.array([int(key[:DIGITS], 16) for key in keys.tolist()], np.int64) % batch_size
    counts = np.bincount(slots, minlength=batch_size)
    batches = np.full((counts.max(), batch_size), -1, np.int64)
    for slot, count in enumerate(counts):
        batches[:count, slot] = np.flatnonzero(slots == slot)
    return batches


def packed(batches: np.ndarray) -> np.ndarray:
    """Returns the same rows in ascending order, with slots that stay empty in the last batch only."""
    rows, size = np.sort(batches[batches >= 0]), batches.shape[1]
    found = np.full((-(-len(rows) // size), size), -1, np.int64)
    found.ravel()[: len(rows)] = rows
    return found


def are_alike(forward: Callable[["tf.Tensor"], tuple[np.ndarray, ...]], batch_size: int, size_px: int) -> bool:
    """Whether an image has the same bits in every slot: seen on copies of an image of noise, PROBES times.

    Which instructions a slot's sums go through follows from shapes, so what holds for noise, which leaves hardly a
    number at zero, holds for images. `forward` is a `Compiled`'s, in whose device's scope this is called.
    """
    import tensorflow as tf

    for number in range(PROBES):
        image = np.random.default_rng(number).uniform(0, 255, (1, size_px, size_px, 3)).astype(np.float32)
        outputs = forward(tf.constant(np.repeat(image, batch_size, axis=0)))
        if not all((rows == rows[:1]).all() for rows in outputs):
            return False
    return True
