"""The test images behind a cell of a confusion matrix, or behind a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.explanation import thumbnail
from stages.library.common import console, tables
from stages.library.records import manifest as manifests
from stages.library.scoring import prediction_files

MOST = 60  # images on a page
MOST_COLUMNS = 20  # classes of a matrix whose cells are links; of more the most confused pairs are
MOST_PAIRS = 20
SHADES = 10


class Shown(NamedTuple):
    """An image, and what a model said of it."""

    thumbnail: bytes  # PNG
    name: str  # of the file
    actual: str
    predicted: str
    confidence: float


class Cell(NamedTuple):
    """How many images of a class were taken for one."""

    actual: int  # class ids
    predicted: int
    images: int
    shade: int  # 0 to SHADES, by the fraction of the actual class


def cells(confusion: Path, classes: Sequence[str]) -> list[Cell]:
    """Returns the cells of a confusion.csv that hold images."""
    ids = {name: number for number, name in enumerate(classes)}
    rows = [
        (ids[row["actual"]], ids[row["predicted"]], int(row["count"]))
        for row in tables.read_csv(confusion, tables.CONFUSION)
        if row["actual"] in ids and row["predicted"] in ids and int(row["count"])
    ]
    totals = np.bincount([row[0] for row in rows], [row[2] for row in rows], len(classes))
    return [Cell(*row, shade=round(SHADES * row[2] / totals[row[0]])) for row in rows]


def matrix(found: Sequence[Cell], classes: Sequence[str]) -> list[list[Cell | None]]:
    """Returns the cells as rows of actual and columns of predicted classes; none where there are more than fit."""
    if len(classes) > MOST_COLUMNS:
        return []
    by_place = {(cell.actual, cell.predicted): cell for cell in found}
    numbers = range(len(classes))
    return [[by_place.get((row, column)) for column in numbers] for row in numbers]


def most_confused(found: Sequence[Cell]) -> list[Cell]:
    """Returns the pairs of classes that are confused most, the most frequent first."""
    wrong = [cell for cell in found if cell.actual != cell.predicted]
    return sorted(wrong, key=lambda cell: (-cell.images, cell.actual, cell.predicted))[:MOST_PAIRS]


def find(
    predictions: Path, records: Path, classes: Sequence[str], actual: int | None, predicted: int | None
) -> tuple[list[Shown], int]:
    """Returns test images of one class, or taken for one, or both, and how many there are.

    The mistakes come first, the most confident ones before the others, and no more than MOST.

    Args:
      predictions: predictions.parquet of an evaluation.
      records: the folder of the shards.
      classes: names by class id.
      actual: class id, or None for any.
      predicted: class id, or None for any.
    """
    answers = prediction_files.read_answers(predictions)
    chosen = np.ones(len(answers.keys), bool)
    for wanted, given in ((actual, answers.labels), (predicted, answers.chosen)):
        chosen &= wanted is None or given == wanted
    rows = np.flatnonzero(chosen)
    rows = rows[np.lexsort((-answers.confidence[rows], answers.labels[rows] == answers.chosen[rows]))]
    manifest = manifests.read(records, ["test"])
    places = {key.decode(): place for place, key in enumerate(manifest.keys.tolist())}
    rows = np.array([row for row in rows[:MOST] if answers.keys[row] in places], np.int64)
    at = np.array([places[answers.keys[row]] for row in rows], np.int64)
    names = manifest.filenames.take(at).to_pylist()
    shown = [
        Shown(
            thumbnail(record.encoded),
            console.in_a_line(name.decode(errors="backslashreplace")),
            classes[answers.labels[row]],
            classes[answers.chosen[row]],
            float(answers.confidence[row]),
        )
        for row, record, name in zip(rows, manifest.records(at), names, strict=True)
    ]
    return shown, int(chosen.sum())
