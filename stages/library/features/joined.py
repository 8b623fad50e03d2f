"""Features of several backbones side by side, as if one network had made them: no image passes a network again.

A block is what one backbone gives. Each is multiplied by a number of its own, measured without labels on the rows that
heads are trained on, so that all blocks have the mean square length of the first. The numbers travel with the head.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.library.common.console import UserError
from stages.library.common.model_names import members
from stages.library.features import cache, disk_arrays
from stages.library.features.cache import Features
from stages.library.features.source import Joined


def load(folder: Path, splits: Sequence[str], kind: str, scales: Sequence[float] | None = None) -> Features:
    """Reads the features of one backbone, as `cache.load` does, or of those that a folder's name joins, as "a+b".

    Args:
      folder: artifacts/bottlenecks/NAME; those of the members of a joined name lie beside it, and it is not there.
      splits: of whose rows, in the order of the result.
      kind: of each block, as in `cache.load`.
      scales: of a head, for other rows than it was trained on; None: they are measured on these.

    Raises:
      UserError: a member's features can't be read, or are of other images, or there are not as many as `scales`.
    """
    names = members(folder.name)
    blocks = [cache.load(folder.with_name(name), splits, kind) for name in names]
    if scales is not None and len(scales) != len(blocks):
        raise UserError(f"{folder} must be {len(scales)} backbones, as the head was trained on. Run: dvc repro")
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    for name, other in zip(names, blocks, strict=True):
        of = ("keys", "labels", "groups", "weights")
        if first.source.classes != other.source.classes or not all(
            np.array_equal(getattr(first, column), getattr(other, column)) for column in of
        ):
            given = f"{folder.with_name(name)} has the features of other images than {folder.with_name(names[0])}"
            raise UserError(f"{given}. Run: dvc repro bottleneck-extract")
    scales = equal_lengths([block.values for block in blocks]) if scales is None else scales
    width = sum(block.values.shape[1] for block in blocks)
    values = disk_arrays.empty((len(first.keys), width), first.values.dtype)
    for start in range(0, len(values), cache.ROWS_PER_BATCH):
        rows = slice(start, start + cache.ROWS_PER_BATCH)
        values[rows] = side_by_side([block.values[rows] for block in blocks], scales)
    made_of = tuple(source for block in blocks for source in block.source.members)
    return replace(first, values=values, source=Joined(made_of, tuple(scales)))


def equal_lengths(blocks: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Returns what brings blocks (n, dim of each) to the mean square length of the first; 1 for one of zeros."""
    squares = [_mean_square_length(block) for block in blocks]
    return tuple(float(np.sqrt(squares[0] / square)) if square and squares[0] else 1.0 for square in squares)


def _mean_square_length(block: np.ndarray) -> float:
    starts = range(0, len(block), cache.ROWS_PER_BATCH)
    parts = (block[start : start + cache.ROWS_PER_BATCH].astype(np.float64) for start in starts)
    return float(sum(np.square(part).sum() for part in parts) / max(len(block), 1))


def side_by_side(blocks: Sequence[np.ndarray], scales: Sequence[float]) -> np.ndarray:
    """Returns (n, sum of dims) of the blocks' own dtype: float16 is rounded to again where a scale is not 1."""
    return np.hstack([_scaled(block, scale) for block, scale in zip(blocks, scales, strict=True)])


def _scaled(block: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return block
    product = block.astype(np.float32) * np.float32(scale)
    return cache.quantize(product) if block.dtype == cache.DTYPE else product
