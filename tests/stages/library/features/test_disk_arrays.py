import os
from pathlib import Path

import numpy as np

from stages.library.features import disk_arrays


def test_a_large_array_is_a_file_without_a_name(monkeypatch):
    assert type(disk_arrays.empty((1024, 1024), np.float32)) is np.ndarray
    monkeypatch.setattr(disk_arrays, "BYTES_IN_MEMORY", 0)
    array = disk_arrays.empty((3, 5), np.float16)
    array[:] = np.arange(15).reshape(3, 5)
    assert isinstance(array, np.memmap)
    assert array[[2, 0], 1].tolist() == [11, 1]
    assert disk_arrays.empty((0, 7), np.float32).shape == (0, 7)
    assert list(Path(os.environ["DECANT_CACHE"]).glob("scratch/*")) == []
