"""Published results beside ours: the rows of published.csv, and what of ours each one stands against.

A row's `counterpart` names the models of the same kind, in the order of preference, and `features` what they have to be
trained on; the backbone may be another one, and then a remark says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.library.common import tables

TABLE = Path(__file__).with_suffix(".csv")
# What a published row measures -> where the same stands in our metrics files.
METRICS = {
    "test top-1": "top1_accuracy",
    "test top-1 in training mode": "training_mode.top1_accuracy",
    "5-fold top-1": "cross_validation.top1_accuracy.mean",
    "validation top-1": "cross_validation.top1_accuracy.mean",
}
HEADINGS = (
    "published system", "images per class", "metric", "published", "ours", "difference", "our best", "remark", "source",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A published result: a row of the table, names being as ours."""

    system: str  # as its authors describe it
    backbone: str  # empty for a network trained from scratch
    features: str  # what a head was trained on, as `heads.Features`; empty for a whole network
    counterpart: tuple[str, ...]  # names of our models of this kind: a head, "finetuned" or "scratch"; may be empty
    dataset: str
    shots: int | None  # training images of each class in a few-shot experiment
    metric: str  # a key of METRICS
    value: float  # accuracy in [0, 1]
    std: float | None  # its standard deviation over draws
    source: str  # where it was published


@dataclass(frozen=True)
class Measured:
    """A result of ours, as `Row` has it."""

    model: str  # a head, "finetuned" or "scratch"
    backbone: str
    features: str
    shots: int | None
    metric: str  # path in our metrics files, a value of METRICS
    value: float
    std: float | None = None

    @property
    def name(self) -> str:
        """As the leaderboard has it."""
        return f"{self.backbone}/{self.model}" if self.backbone else self.model


def load(dataset: str) -> list[Row]:
    """Returns the published results on one data set, in the order of the file."""
    rows: list[dict[str, Any]] = [dict(row) for row in tables.read_csv(TABLE) if row["dataset"] == dataset]
    for row in rows:
        row["counterpart"] = tuple(row["counterpart"].split())
        row["shots"] = int(row["shots"]) if row["shots"] else None
        row["value"] = float(row["value"])
        row["std"] = float(row["std"]) if row["std"] else None
    return [Row(**row) for row in rows]


def counterpart(row: Row, measured: Iterable[Measured]) -> Measured | None:
    """Returns our result that a row stands against: the same backbone if there is one, then the order of preference."""
    same = [ours for ours in _same_question(row, measured) if row.features in ("", ours.features)]

    def preference(ours: Measured) -> tuple[bool, int, float]:
        return ours.backbone != row.backbone, row.counterpart.index(ours.model), -ours.value

    return min((ours for ours in same if ours.model in row.counterpart), key=preference, default=None)


def compare(rows: Iterable[Row], measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """Returns a line of text cells for each published result, a cell for each of HEADINGS; difference: in points."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        ours = counterpart(row, measured)
        best = max(_same_question(row, measured), key=lambda one: one.value, default=None)
        cells = (
            row.system,
            f"{row.shots}" if row.shots else "-",
            row.metric,
            _accuracy(row),
            _accuracy(ours) if ours else "-",
            f"{100 * (ours.value - row.value):+.2f}" if ours else "-",
            f"{best.value:.4f} ({best.name})" if best else "-",
            _remark(row, ours) if ours else "-",
            row.source,
        )
        lines.append(cells)
    return lines


def _same_question(row: Row, measured: Iterable[Measured]) -> list[Measured]:
    return [ours for ours in measured if (ours.shots, ours.metric) == (row.shots, METRICS[row.metric])]


def _remark(row: Row, ours: Measured) -> str:
    parts = {
        ours.backbone: ours.backbone != row.backbone,
        f"{ours.model} head": ours.model != row.counterpart[0],
        "cross-validation": row.metric == "validation top-1",
    }
    remarks = [part for part, holds in parts.items() if holds]
    return f"ours: {', '.join(remarks)}" if remarks else "-"


def _accuracy(result: Row | Measured) -> str:
    return f"{result.value:.4f}" if result.std is None else f"{result.value:.4f} ± {result.std:.4f}"
