"""Distances between rows of features that were brought to unit length, in memory bounded by blocks."""

from collections.abc import Sequence

import numpy as np

PAIRS_PER_BLOCK = 1 << 22  # of rows that are compared at once, in float32
UNIT_ROWS = 1 << 14  # brought to unit length at once, in float32


def unit_length(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Returns rows of length 1, float32 (n, sum of dims), of blocks (n, dim of each) that count the same.

    Each block is brought to unit length by itself, so that none drowns another; a row of zeros stays one.
    """
    rows = [block.astype(np.float32) for block in blocks]
    lengths = [np.linalg.norm(block, axis=1, keepdims=True) for block in rows]
    scaled = [block / np.where(length == 0, 1, length) for block, length in zip(rows, lengths, strict=True)]
    return np.hstack(scaled) / np.float32(np.sqrt(len(blocks)))


def kth_distances_of(blocks: Sequence[np.ndarray], bank: np.ndarray, k: int) -> np.ndarray:
    """Returns what `kth_distances` does of the rows that `unit_length` makes of blocks, of which some are in memory."""
    at_once = _rows_at_once(bank) * max(UNIT_ROWS // _rows_at_once(bank), 1)
    starts = range(0, len(blocks[0]), at_once)
    parts = (unit_length([block[start : start + at_once] for block in blocks]) for start in starts)
    return np.concatenate([np.empty(0, np.float32), *(kth_distances(part, bank, k) for part in parts)])


def kth_distances(rows: np.ndarray, bank: np.ndarray, k: int, leave_one_out: bool = False) -> np.ndarray:
    """Returns the Euclidean distance of each row (n, dim) to the k-th nearest row of a bank (m, dim), float32 (n,).

    All rows have length 1, up to rounding. With `leave_one_out` they are those of the bank, and none counts for itself.
    """
    known = bank.astype(np.float32).T
    squares = np.einsum("ij,ij->j", known, known)
    count = _rows_at_once(bank)
    found = [np.empty(0, np.float32)]
    for start in range(0, len(rows), count):
        block = rows[start : start + count].astype(np.float32)
        distances = np.square(block).sum(axis=1, keepdims=True) + squares - 2 * (block @ known)
        if leave_one_out:
            distances[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        nearest = np.partition(distances, k - 1, axis=1)[:, k - 1]
        found.append(np.sqrt(np.maximum(nearest, 0)))
    return np.concatenate(found)


def _rows_at_once(bank: np.ndarray) -> int:
    return max(PAIRS_PER_BLOCK // max(len(bank), 1), 1)
