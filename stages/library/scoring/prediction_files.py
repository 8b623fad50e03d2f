"""What models predicted, in parquet: a row of classes for each image, by its key."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common.console import UserError


def read(path: Path, column: str) -> tuple[list[str], np.ndarray]:
    """Returns the keys and a column of lists as float32 (n, classes); UserError: the file is missing or damaged."""
    try:
        table = pq.read_table(path, columns=["key", column])
        values = table[column].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        return table["key"].to_pylist(), values.astype(np.float32)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} can't be read ({' '.join(str(error).split())}). Run: dvc repro -f") from error
