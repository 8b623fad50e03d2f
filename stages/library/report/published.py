"""Published results beside ours: the rows of published.csv, and what of ours each one stands against.

A row's `counterpart` names the models that are the same kind of system, in the order of preference, and `features` what
they have to be trained on; the backbone may be another one, and then a remark says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    "published system",
    "images per class",
    "metric",
    "published",
    "ours",
    "difference",
    "our best",
    "remark",
    "source",
)


@dataclass(frozen=True)
class Row:
    """A published result.

    Attributes:
      system: as its authors describe it.
      backbone: name of the backbone, as ours are named; empty for a network trained from scratch.
      features: what a head was trained on, as `heads.Features`; empty for a whole network.
      counterpart: names of our models of this kind: a head, "finetuned" or "scratch"; may be empty.
      dataset: name of the data set, as ours are named.
      shots: training images of each class in a few-shot experiment, or None.
      metric: a key of METRICS.
      value: accuracy in [0, 1]; std: its standard deviation over draws, or None.
      source: where it was published.
    """

    system: str
    backbone: str
    features: str
    counterpart: tuple[str, ...]
    dataset: str
    shots: int | None
    metric: str
    value: float
    std: float | None
    source: str


@dataclass(frozen=True)
class Measured:
    """A result of ours.

    Attributes:
      model: a head, "finetuned" or "scratch".
      backbone, features, shots, std: as in `Row`.
      metric: path in our metrics files, a value of METRICS.
      value: in [0, 1].
    """

    model: str
    backbone: str
    features: str
    shots: int | None
    metric: str
    value: float
    std: float | None = None


def load(dataset: str, path: Path = TABLE) -> list[Row]:
    """Returns the published results on one data set, in the order of the file."""
    return [_row(line) for line in tables.read_csv(path) if line["dataset"] == dataset]


def compare(rows: Iterable[Row], measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """Returns a line of text cells for each published result, a cell for each of HEADINGS; difference: in points."""
    return [_cells(row, measured) for row in rows]


def counterpart(row: Row, measured: Iterable[Measured]) -> Measured | None:
    """Returns our result that a row stands against: the same backbone if there is one, then the order of preference."""
    candidates = [
        ours
        for ours in measured
        if _same_question(row, ours) and ours.model in row.counterpart and _same_input(row, ours)
    ]
    return min(
        candidates,
        key=lambda ours: (ours.backbone != row.backbone, row.counterpart.index(ours.model), -ours.value),
        default=None,
    )


def _row(line: dict[str, str]) -> Row:
    return Row(
        system=line["system"],
        backbone=line["backbone"],
        features=line["features"],
        counterpart=tuple(line["counterpart"].split()),
        dataset=line["dataset"],
        shots=int(line["shots"]) if line["shots"] else None,
        metric=line["metric"],
        value=float(line["value"]),
        std=float(line["std"]) if line["std"] else None,
        source=line["source"],
    )


def _same_question(row: Row, ours: Measured) -> bool:
    return (ours.shots, ours.metric) == (row.shots, METRICS[row.metric])


def _same_input(row: Row, ours: Measured) -> bool:
    return not row.features or row.features == ours.features


def _cells(row: Row, measured: Sequence[Measured]) -> tuple[str, ...]:
    ours = counterpart(row, measured)
    best = max((one for one in measured if _same_question(row, one)), key=lambda one: one.value, default=None)
    return (
        row.system,
        f"{row.shots}" if row.shots else "-",
        row.metric,
        _accuracy(row.value, row.std),
        _accuracy(ours.value, ours.std) if ours else "-",
        f"{100 * (ours.value - row.value):+.2f}" if ours else "-",
        f"{best.value:.4f} ({_name(best)})" if best else "-",
        _remark(row, ours),
        row.source,
    )


def _remark(row: Row, ours: Measured | None) -> str:
    if ours is None:
        return "-"
    parts = []
    if ours.backbone != row.backbone:
        parts.append(ours.backbone)
    if ours.model != row.counterpart[0]:
        parts.append(f"{ours.model} head")
    if row.metric == "validation top-1":
        parts.append("cross-validation")
    return f"ours: {', '.join(parts)}" if parts else "-"


def _name(ours: Measured) -> str:
    return f"{ours.model} on {ours.backbone}" if ours.backbone else ours.model


def _accuracy(value: float, std: float | None) -> str:
    return f"{value:.4f}" if std is None else f"{value:.4f} ± {std:.4f}"
