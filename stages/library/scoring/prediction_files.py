"""What models predicted, in parquet: a row of classes for each image, by its key."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common.console import UserError


def read_mistakes(path: Path, classes: Sequence[str]) -> list[tuple[str, str, str, float]]:
    """Returns file name, class, predicted class and confidence of what was taken for another, most confident first.

    UserError where the file, predictions.parquet of an evaluation, is missing, damaged or has other classes.
    """
    with _readable(path):
        columns = pq.read_table(path, columns=["filename", "label", "prediction", "confidence"]).to_pydict()
        rows = [row for row in zip(*columns.values(), strict=True) if row[1] != row[2]]
        rows.sort(key=lambda row: -row[3])
        if any(not 0 <= label < len(classes) for row in rows for label in row[1:3]):
            raise ValueError(f"its labels must be below {len(classes)}")
        return [(name, classes[label], classes[chosen], confidence) for name, label, chosen, confidence in rows]


class Answers(NamedTuple):
    """What a model chose for each image."""

    keys: list[str]
    labels: np.ndarray  # int32 (n,)
    chosen: np.ndarray  # int32 (n,), of the class with the highest probability
    confidence: np.ndarray  # float32 (n,), that probability


def read_answers(path: Path) -> Answers:
    """Returns the answers in predictions.parquet of an evaluation; UserError: the file is missing or damaged."""
    with _readable(path):
        table = pq.read_table(path, columns=["key", "label", "prediction", "confidence"])
        return Answers(table["key"].to_pylist(), *(column.to_numpy() for column in table.columns[1:]))


def read(path: Path, column: str) -> tuple[list[str], np.ndarray]:
    """Returns the keys and a column of lists as float32 (n, classes); UserError: the file is missing or damaged."""
    with _readable(path):
        table = pq.read_table(path, columns=["key", column])
        values = table[column].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        return table["key"].to_pylist(), values.astype(np.float32)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} can't be read ({' '.join(str(error).split())}). Run: dvc repro -f") from error
