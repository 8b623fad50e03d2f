"""The table of all models, best first: from metrics files and evaluation folders to CSV, Markdown and text cells."""

import csv
import io
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.library import artifacts
from stages.library.console import UserError

# Metrics key -> column heading; in the order in which people read them.
COLUMNS = {
    "top5_accuracy": "top-5",
    "mean_class_accuracy": "mean per class",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "expected_calibration_error": "ECE",
}
METRICS = (
    "top1_accuracy",
    "top1_accuracy_interval.low",
    "top1_accuracy_interval.high",
    *COLUMNS,
    "cross_validation.top1_accuracy.mean",
    "cross_validation.top1_accuracy.std",
    "num_examples",
)
HEADINGS = ("model", "backbone", "top-1 [95% interval]", *COLUMNS.values(), "cross-validation", "n")


@dataclass(frozen=True)
class Result:
    """An evaluated model.

    Attributes:
      name: path of its metrics file without the suffix, as in "efficientnet_lite0/ridge".
      model, backbone: as in evaluation.json; `backbone` is empty for a network trained from scratch.
      metrics: content of the metrics file.
      figures: its evaluation folder.
    """

    name: str
    model: str
    backbone: str
    metrics: dict[str, Any]
    figures: Path


def collect(
    metrics: Path, evaluations: Path, dataset_sha256: str, listed: Container[str]
) -> tuple[list[Result], list[str]]:
    """Reads the results of the listed models on one data set.

    Args:
      metrics: folder of metrics files, such as `BACKBONE/HEAD.json`.
      evaluations: folder of the evaluation folders, such as `BACKBONE/HEAD`.
      dataset_sha256: of the data set's dataset.json; results on another data set are left out.
      listed: names of the models that params.yaml asks for, such as "BACKBONE/HEAD"; earlier ones are left out.

    Returns:
      The results, highest top-1 accuracy first, and a sentence on each result that is left out.

    Raises:
      UserError: no result is on this data set.
    """
    results, left_out = [], []
    for path in sorted(metrics.rglob("*.json")):
        name = path.relative_to(metrics).with_suffix("")
        figures = evaluations / name
        if name.as_posix() not in listed:
            left_out.append(f"{path} is left out: params.yaml no longer lists it")
            continue
        if not (figures / "evaluation.json").is_file():
            left_out.append(f"{path} is left out: {figures} is missing")
            continue
        about = artifacts.read_json(figures / "evaluation.json")
        if about["dataset"]["sha256"] != dataset_sha256:
            left_out.append(f"{path} is left out: it was measured on another data set or split")
            continue
        numbers = artifacts.read_json(path)
        results.append(Result(name.as_posix(), about["model"], about["backbone"] or "", numbers, figures))
    if not results:
        raise UserError(f"{metrics} holds no result on the present data set. Run: dvc repro")
    return sorted(results, key=lambda result: (-result.metrics["top1_accuracy"], result.name)), left_out


def cells(result: Result) -> tuple[str, ...]:
    """Returns a result's row as people read it, a cell for each of `HEADINGS`."""
    numbers = result.metrics
    interval = numbers["top1_accuracy_interval"]
    validation = numbers.get("cross_validation", {}).get("top1_accuracy")
    return (
        result.model,
        result.backbone or "-",
        f"{numbers['top1_accuracy']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]",
        *(f"{numbers[key]:.4f}" for key in COLUMNS),
        f"{validation['mean']:.4f} ± {validation['std']:.4f}" if validation else "-",
        f"{numbers['num_examples']:,}",
    )


def as_markdown(results: Sequence[Result]) -> str:
    """Returns the table as GitHub-flavoured Markdown, aligned so that it also reads well in a terminal."""
    rows = [HEADINGS, *map(cells, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """Returns the table as CSV in full precision; a metric's column is its path in the metrics file, with dots."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("model", "backbone", *METRICS), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {"model": result.model, "backbone": result.backbone, **_flat(result.metrics)} for result in results
    )
    return text.getvalue()


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
