"""Features a block of rows at a time."""

from collections.abc import Iterator

BLOCK_ROWS = 4096


def batches(n: int, batch_size: int) -> Iterator[slice]:
    """Yields slices that cover n rows in order."""
    for start in range(0, n, batch_size):
        yield slice(start, min(start + batch_size, n))
