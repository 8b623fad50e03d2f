"""Arrays that may be larger than memory: small ones in memory, large ones in a file without a name.

The pages of such a file are the operating system's to keep or to drop, so memory doesn't grow with the number of
images. The file lies in the cache folder, for /tmp is memory on some machines; it vanishes with the array, or with
the process, however that ends.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.library.common.cache_folders import cache_folder

BYTES_IN_MEMORY = 1 << 26


def empty(shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
    """Returns an array to be filled: in memory up to BYTES_IN_MEMORY, else in the cache folder; it behaves the same."""
    size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size_bytes <= BYTES_IN_MEMORY:
        return np.empty(shape, dtype)
    folder = cache_folder() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        # The mapping keeps the file, which has no name, until the array is gone.
        mapped: np.memmap[Any, Any] = np.memmap(file, dtype, "w+", shape=tuple(shape))
    return mapped
