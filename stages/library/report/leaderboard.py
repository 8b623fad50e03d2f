"""The tables of all models: from metrics files and evaluation folders to CSV, Markdown and text cells."""

import html
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from stages.library.common import tables
from stages.library.common.console import UserError, in_a_line
from stages.library.common.model_names import COMBINED, FINETUNED, SCRATCH
from stages.library.report import published
from stages.library.scoring import prediction_files, result_files
from stages.library.scoring.selection import SelectionMetric, merit

# What stands below the table, on its page and on that of the web.
NOTE = """The order is that of the validation column: of the same images for all models (their number in brackets), by
models that were not fitted to them, though networks chose their epoch by them. Ties go by cross-validation, the mean
and standard deviation over the folds of training and validation data. All else is measured on the test split, which
decides nothing. Intervals are 95% intervals by Wilson's formula; ECE is the expected calibration error, "before" that
of the logits as they were trained; n counts test images."""
# Metrics key -> column heading; in the order in which people read them.
COLUMNS = {
    "top5_accuracy": "top-5",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "expected_calibration_error": "ECE",
    "calibration.expected_calibration_error_before": "ECE before",
}
AUDIT, FEWSHOT = "audit", "fewshot"  # names of the folders of what was found in the data, and of few-shot results
ACCURACY = ("top1_accuracy", "top1_accuracy_interval.low", "top1_accuracy_interval.high")
METRICS = (*ACCURACY, *COLUMNS, "size_bytes", "num_examples")
NAMES = {"top1_accuracy": "top-1"} | COLUMNS  # of what models are selected by


class NoResultError(UserError):
    """Nothing was evaluated on this data set yet."""


@dataclass(frozen=True)
class Result:
    """An evaluated model."""

    name: str  # path of its metrics file without the suffix, as in "efficientnet_lite0/ridge"
    model: str  # as in evaluation.json
    backbone: str  # empty for a network trained from scratch, and a combination
    metrics: dict[str, Any]  # content of the metrics file
    figures: Path  # its evaluation folder


@dataclass(frozen=True)
class Audit:
    """What may be wrong with the data, by the features of a backbone."""

    backbone: str
    numbers: result_files.Audit
    figures: Path  # its folder


def listed(heads: Sequence[str], backbones: Sequence[str], joined: Sequence[str], methods: Sequence[str]) -> set[str]:
    """Returns the names of the models that params.yaml asks for, such as "BACKBONE/HEAD"."""
    pairs = *product([*backbones, *joined], heads), *product(backbones, [FINETUNED]), *product([COMBINED], methods)
    return {SCRATCH, *map("/".join, pairs)}


def collect(
    metrics: Path, evaluations: Path, dataset_sha256: str, names: Container[str], selected_by: SelectionMetric
) -> tuple[list[Result], list[str]]:
    """Returns the listed models' results on one data set, best first, and sentences on what is left out.

    The best is so on the validation split by `evaluate.selection_metric`, of equals by cross-validation, then by name.
    """
    results, left_out = [], []
    for path in sorted(metrics.rglob("*.json")):
        if FEWSHOT in path.parts:
            continue
        name = path.relative_to(metrics).with_suffix("").as_posix()
        figures = evaluations / name
        about_file = figures / "evaluation.json"
        if name not in names:
            left_out.append(f"{path} is left out: params.yaml no longer lists it")
        elif not about_file.is_file():
            left_out.append(f"{path} is left out: {figures} is missing")
        elif (about := result_files.read_evaluation(about_file))["dataset"]["sha256"] != dataset_sha256:
            left_out.append(f"{path} is left out: it was measured on another data set or split")
        else:
            numbers = result_files.read_metrics(path)
            results.append(Result(name, about["model"], about["backbone"] or "", numbers, figures))
    if not results:
        raise NoResultError(f"{metrics} holds no result on the present data set. Run: dvc repro")

    def place(result: Result) -> tuple[float, float, str]:
        validation = result.metrics.get("validation", {}).get(selected_by)
        folds = result.metrics.get("cross_validation", {}).get(selected_by, {}).get("mean")
        first, second = (math.inf if value is None else -merit(selected_by, value) for value in (validation, folds))
        return first, second, result.name

    return sorted(results, key=place), left_out


def collect_audits(evaluations: Path, dataset_sha256: str, backbones: Sequence[str]) -> tuple[list[Audit], list[str]]:
    """Returns what was found in the data by the features of the listed backbones, and what is left out, as above."""
    found, left_out = [], []
    for backbone in backbones:
        figures = evaluations / backbone / AUDIT
        if not (figures / "audit.json").is_file():
            continue
        numbers = result_files.read_audit(figures / "audit.json")
        if numbers["dataset"]["sha256"] == dataset_sha256:
            found.append(Audit(backbone, numbers, figures))
        else:
            left_out.append(f"{figures} is left out: it is about another data set or split")
    return found, left_out


def measured(results: Iterable[Result], features: Mapping[str, str]) -> list[published.Measured]:
    """Returns our accuracies that a published one may stand against; `features`: what each head is trained on."""
    ours = []
    for result in results:
        model, numbers = result.name.removeprefix(f"{result.backbone}/"), flat(result.metrics)
        about = model, result.backbone, features.get(model, ""), None
        metrics = sorted(set(published.METRICS.values()) & set(numbers))
        ours += [published.Measured(*about, metric, numbers[metric]) for metric in metrics]
    return ours


def headings(selected_by: SelectionMetric) -> tuple[str, ...]:
    """Returns what stands over the columns of `cells`."""
    scores = *COLUMNS.values(), f"cross-validation: {NAMES[selected_by]}"
    return "model", f"validation: {NAMES[selected_by]}", "top-1 [95% interval]", *scores, "size", "n"


def cells(result: Result, selected_by: SelectionMetric) -> tuple[str, ...]:
    """Returns a result's row as people read it, a cell for each of `headings`."""
    numbers = flat(result.metrics)
    validation = f"validation.{selected_by}"
    folds = (f"cross_validation.{selected_by}.{part}" for part in ("mean", "std"))
    return (
        result.name,
        f"{numbers[validation]:.4f} ({numbers['validation.num_examples']:,})" if validation in numbers else "-",
        "{:.4f} [{:.4f}, {:.4f}]".format(*map(numbers.get, ACCURACY)),
        *(f"{numbers[key]:.4f}" if key in numbers else "-" for key in COLUMNS),
        " ± ".join(f"{numbers[key]:.4f}" for key in folds if key in numbers) or "-",
        f"{numbers['size_bytes'] / 1e6:.1f} MB" if "size_bytes" in numbers else "-",
        f"{numbers['num_examples']:,}",
    )


def as_markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table as GitHub-flavoured Markdown, aligned; what would end a cell or be HTML in it is escaped."""
    lines = [
        [html.escape(in_a_line(cell), quote=False).replace("|", r"\|") for cell in line] for line in (headings, *rows)
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]]) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """Returns the table as CSV in full precision; a metric's column is its path in the metrics file, with dots.

    The scores of each class are in the models' own tables.
    """
    rows = [flat({key: value for key, value in result.metrics.items() if key != "classes"}) for result in results]
    columns = [*METRICS, *sorted(set().union(*rows) - set(METRICS))]
    lines = ((result.name, result.backbone, *map(row.get, columns)) for result, row in zip(results, rows, strict=True))
    return tables.as_csv(("model", "backbone", *columns), lines)


def mistakes_as_csv(results: Iterable[Result], classes: Sequence[str]) -> str:
    """Returns all mistakes of all models on the test split, the most confident ones of each model first."""
    rows = (
        (result.name, *names, f"{confidence:.6f}")
        for result in results
        for *names, confidence in prediction_files.read_mistakes(result.figures / "predictions.parquet", classes)
    )
    return tables.as_csv(("model", "filename", "actual", "predicted", "confidence"), rows)


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested objects of numbers as one, whose keys are paths with dots."""
    numbers: dict[str, Any] = {}
    for key, value in content.items():
        numbers |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return numbers
