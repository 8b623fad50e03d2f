"""From a model's logits on the test split to its metrics, tables and images."""

import argparse
import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from stages.library.common import artifacts, console, tables
from stages.library.common.console import UserError
from stages.library.common.params import CONFIG
from stages.library.evaluation import model_size
from stages.library.features.cache import METADATA_KEY
from stages.library.records import dataset_file, leakage
from stages.library.records import manifest as manifests
from stages.library.records.manifest import Manifest
from stages.library.scoring import metrics, result_files
from stages.library.scoring.probabilities import softmax


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `evaluate` of params.yaml."""

    bootstrap_samples: Annotated[int, pydantic.Field(ge=100, le=1_000_000, description="resamples for the interval")]
    images: Annotated[int, pydantic.Field(ge=1, le=100, description="test images shown in each image")]
    seed: Annotated[int, pydantic.Field(ge=0, description="chooses the test images shown and the resamples")]


@dataclass(frozen=True)
class Model:
    """What is evaluated; its folder has `curve.csv`, what it was trained on and, for heads, `cross_validation.json`."""

    name: str  # of its head, or its kind: "ridge", "finetuned", "scratch"
    kind: str  # "head", "finetuned" or "scratch"
    backbone: str | None  # its pretrained network
    folder: Path
    features: str | None = None  # those of `cache.COLUMNS` that a head reads

    def __str__(self) -> str:
        return f"{self.name} on {self.backbone}" if self.backbone else self.name


@dataclass(frozen=True)
class Predictions:
    """A model's scores on the test split, in the order of its shards."""

    keys: np.ndarray  # hex sha256 of each image, object (n,)
    labels: np.ndarray  # int64 (n,)
    logits: np.ndarray  # float32 (n, classes), finite
    classes: tuple[str, ...]  # in the order of the labels
    training_mode_logits: np.ndarray | None = None  # as `logits`; see `Network.predict_shards`
    temperature: float | None = None  # by which a head's logits are divided

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        return np.asarray(self.logits.argmax(axis=1))

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        return metrics.confusion_matrix(self.labels, self.predicted, len(self.classes))


def parser(doc: str | None, module: str, stage: str) -> console.Parser:
    """Returns a command line with the options that the stages have in common."""
    made = console.parser(doc, module, stage)
    made.add_argument("--params", type=Path, default=Path("params.yaml"))
    made.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    made.add_argument("--metrics", type=Path, required=True)
    made.add_argument("--figures", type=Path, required=True)
    return made


def finish(
    stopwatch: console.Stopwatch, model: Model, predictions: Predictions, params: Params, arguments: argparse.Namespace
) -> None:
    """Writes what `write_evaluation` does, and the stage's closing line."""
    with console.notice(f"measuring and drawing {model}"):
        numbers = write_evaluation(model, predictions, arguments.records, params, arguments.metrics, arguments.figures)
    interval, count = numbers["top1_accuracy_interval"], numbers["num_examples"]
    accuracy = f"top-1 {numbers['top1_accuracy']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]"
    stopwatch.close("evaluate", f"{model}: {accuracy} on {count:,} test images", count, following="report")


def write_evaluation(
    model: Model, predictions: Predictions, shards: Path, params: Params, metrics_path: Path, figures: Path
) -> dict[str, Any]:
    """Writes the folder of tables and images, then the metrics file; returns the metrics.

    UserError where logits are not finite, images or classes are not those of the shards, or some were trained on.
    """
    dataset = dataset_file.read(shards / "dataset.json")
    manifest = manifests.read(shards, ["test"])
    _check(predictions, manifest, shards, dataset["classes"])
    filenames = manifest.names()
    tested = dict(zip(predictions.keys, filenames, strict=True))
    leakage.check(model.folder, tested, dataset["duplicates"]["across_official_split"])
    numbers = measure(predictions, params)
    if model.kind == "head":
        numbers["cross_validation"] = rounded(
            result_files.read_cross_validation(model.folder / "cross_validation.json")
        )
    numbers["size_bytes"] = model_size.in_bytes(model.folder, model.backbone, model.features)
    about = {
        "model": model.name,
        "kind": model.kind,
        "backbone": model.backbone,
        "dataset": {"name": dataset["name"], "sha256": artifacts.sha256_file(shards / "dataset.json")},
    }
    with artifacts.new_folder(figures) as folder:
        write_tables(folder, predictions, filenames)
        _write_images(folder, model, predictions, manifest, params)
        shutil.copyfile(model.folder / "curve.csv", folder / "curve.csv")
        artifacts.write_json(folder / "evaluation.json", about)
    artifacts.write_json(metrics_path, numbers)
    return numbers


def _check(predictions: Predictions, manifest: Manifest, shards: Path, classes: Sequence[str]) -> None:
    if not np.isfinite(predictions.logits).all():
        rows = int((~np.isfinite(predictions.logits)).any(axis=1).sum())
        raise UserError(f"the model gives NaN or infinite logits for {rows} test images: its training diverged")
    if predictions.classes != tuple(classes):
        different = sorted(set(predictions.classes) ^ set(classes))[:5]
        raise UserError(f"the model's classes are not those of {shards}; they differ in {different}. Run: dvc repro")
    if manifest.keys.astype(str).tolist() != list(predictions.keys):
        raise UserError(f"the predictions are of other test images than {shards} holds. Run: dvc repro")


def measure(predictions: Predictions, params: Params) -> dict[str, Any]:
    """Returns the metrics: nested objects of numbers, rounded to six decimals."""
    logits, labels, probabilities = predictions.logits, predictions.labels, predictions.probabilities
    low, high = metrics.bootstrap_interval(predictions.predicted == labels, params.bootstrap_samples, params.seed)
    numbers = {
        "top1_accuracy": metrics.top1_accuracy(logits, labels),
        "top1_accuracy_interval": {"low": low, "high": high},
        "top5_accuracy": metrics.topk_accuracy(logits, labels, 5),
        "balanced_accuracy": metrics.balanced_accuracy(predictions.confusion),
        "macro_f1": metrics.macro_f1(predictions.confusion),
        "log_loss": metrics.log_loss(probabilities, labels),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "num_examples": len(labels),
    }
    if predictions.temperature is not None:
        before = metrics.expected_calibration_error(softmax(logits * np.float32(predictions.temperature)), labels)
        numbers["calibration"] = {"temperature": predictions.temperature, "expected_calibration_error_before": before}
    if predictions.training_mode_logits is not None:
        numbers["training_mode"] = {"top1_accuracy": metrics.top1_accuracy(predictions.training_mode_logits, labels)}
    return rounded(numbers)


def rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested objects of numbers with six decimals, more than any test set resolves."""
    return {key: rounded(value) if isinstance(value, dict) else round(value, 6) for key, value in content.items()}


def write_tables(folder: Path, predictions: Predictions, filenames: Sequence[str]) -> None:
    """Writes predictions.parquet, confusion.csv, per_class.csv and reliability.csv."""
    classes, confusion = predictions.classes, predictions.confusion
    chosen, probabilities = predictions.predicted, predictions.probabilities
    columns = {
        "key": pa.array(predictions.keys, pa.string()),
        # Bytes of a file name that are no UTF-8 are shown as escapes.
        "filename": pa.array([name.encode(errors="backslashreplace").decode() for name in filenames], pa.string()),
        "label": pa.array(predictions.labels, pa.int32()),
        "prediction": pa.array(chosen, pa.int32()),
        "confidence": pa.array(probabilities[np.arange(len(chosen)), chosen], pa.float32()),
        "probabilities": pa.FixedSizeListArray.from_arrays(probabilities.reshape(-1), len(classes)),
    }
    about = {METADATA_KEY: json.dumps({"classes": classes}, ensure_ascii=False)}
    table = pa.table(columns).replace_schema_metadata(about)
    pq.write_table(table, folder / "predictions.parquet", compression="zstd")
    cells = ((classes[row], classes[column], confusion[row, column]) for row, column in np.argwhere(confusion))
    tables.write_csv(folder / "confusion.csv", tables.CONFUSION, cells)
    rows = zip(classes, metrics.recall(confusion), confusion.sum(axis=1), strict=True)
    tested = ((name, f"{accuracy:.6f}", count) for name, accuracy, count in rows if count)
    tables.write_csv(folder / "per_class.csv", tables.PER_CLASS, tested)
    found = metrics.reliability(probabilities, predictions.labels)
    bins = zip(found.confidence, found.accuracy, found.count, strict=True)
    filled = ((f"{confidence:.6f}", f"{accuracy:.6f}", count) for confidence, accuracy, count in bins if count)
    tables.write_csv(folder / "reliability.csv", tables.RELIABILITY, filled)


def _write_images(folder: Path, model: Model, predictions: Predictions, manifest: Manifest, params: Params) -> None:
    """Writes predictions.png, random test images, and mistakes.png, the most confident mistakes."""
    from stages.library.figures import mosaics, thumbnails

    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    confident = wrong[np.argsort(-predictions.probabilities[wrong].max(axis=1), kind="stable")]
    chosen = np.random.default_rng(params.seed).permutation(len(predictions.labels))[: params.images]
    mistakes = confident[: params.images]
    rows = np.union1d(chosen, mistakes)
    cards = {}
    for row, record in zip(rows, manifest.records(rows), strict=True):
        shown = thumbnails.thumbnail(record.encoded, mosaics.CARD_PX), record.text, predictions.classes
        cards[row] = mosaics.card(*shown, predictions.probabilities[row], predictions.logits[row])
    bold = "; bold: the true class"
    title = f"{model}: {len(chosen)} random test images{bold}"
    mosaics.write_predictions(folder / "predictions.png", title, [cards[row] for row in chosen])
    many = f"the most confident of {len(wrong):,} mistakes"
    found = {0: "no mistake", 1: "the only mistake"}.get(len(wrong), many)
    title = f"{model}: {found} on {len(predictions.labels):,} test images{bold if len(wrong) else ''}"
    mosaics.write_predictions(folder / "mistakes.png", title, [cards[row] for row in mistakes])
