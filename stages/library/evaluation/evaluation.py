"""From a model's logits on the test split to its metrics, tables and images."""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from stages.library.common import artifacts, console, path_options, tables
from stages.library.common.console import UserError
from stages.library.common.model_names import COMBINED
from stages.library.common.params import CONFIG, Seed
from stages.library.evaluation import measures, model_size
from stages.library.evaluation.measures import Predictions
from stages.library.features.cache import METADATA_KEY
from stages.library.features.unlike import Reference
from stages.library.records import dataset_file, leakage
from stages.library.records import manifest as manifests
from stages.library.records.manifest import Manifest
from stages.library.scoring import metrics, operating, result_files, selection
from stages.library.scoring.operating import Operating
from stages.library.scoring.probabilities import softmax
from stages.library.scoring.selection import SelectionMetric


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `evaluate` of params.yaml."""

    selection_metric: Annotated[
        SelectionMetric,
        pydantic.Field(description="chooses penalties in cross-validation; in validation epochs and the best model"),
    ]
    target_accuracy: Annotated[float, pydantic.Field(gt=0, le=1, description="of answers that are sure enough")]
    coverage: Annotated[float, pydantic.Field(gt=0, lt=1, description="share of images whose set has the true class")]
    images: Annotated[int, pydantic.Field(ge=1, le=100, description="test images shown in each image")]
    seed: Annotated[Seed, pydantic.Field(description="chooses the test images shown")]


@dataclass(frozen=True)
class Model:
    """What is evaluated; its folder has `curve.csv`, what it was trained on and `cross_validation.json`, if it was."""

    name: str  # of its head, its kind or its method: "ridge", "finetuned", "scratch", "combined/average"
    kind: str  # "head", "finetuned", "scratch" or "combined"
    backbone: str | None  # its pretrained network
    folder: Path
    features: str | None = None  # those of `cache.COLUMNS` that a head reads
    members: tuple["Model", ...] = ()  # of a combination

    @property
    def cross_validated(self) -> bool:
        """Whether its predictions of validation images are out of fold."""
        return self.kind in ("head", COMBINED)

    def __str__(self) -> str:
        return f"{self.backbone}/{self.name}" if self.backbone else self.name


@dataclass(frozen=True)
class Compared:
    """What tells images unlike the training images by the model's own features, and those of the test images."""

    reference: Reference
    tested: Sequence[np.ndarray]  # (n, dim) of each network

    @property
    def test_fraction(self) -> float:
        """The fraction of test images that are called unlike the training images."""
        return float((self.reference.farther_out(self.tested) < self.reference.threshold).mean())


def parser(doc: str | None, module: str, stage: str) -> console.Parser:
    """Returns a command line with the options that the stages have in common."""
    made = console.parser(doc, module, stage)
    path_options.add(made, "params", "records", "metrics", "figures")
    return made


def finish(
    stopwatch: console.Stopwatch,
    model: Model,
    predictions: Predictions,
    validation: Predictions | None,
    params: Params,
    arguments: argparse.Namespace,
    compared: Compared | None = None,
    unseen: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Writes what `write_evaluation` does, and the stage's closing line."""
    with console.notice(f"measuring and drawing {model}"):
        outs = arguments.metrics, arguments.figures
        numbers = write_evaluation(model, predictions, validation, arguments.records, params, *outs, compared, unseen)
    interval, count = numbers["top1_accuracy_interval"], numbers["num_examples"]
    accuracy = f"top-1 {numbers['top1_accuracy']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]"
    stopwatch.close(
        "evaluate", f"{model}: {accuracy} on {console.count(count, 'test image')}", count, following="report"
    )


def write_evaluation(
    model: Model,
    predictions: Predictions,
    validation: Predictions | None,
    shards: Path,
    params: Params,
    metrics_path: Path,
    figures: Path,
    compared: Compared | None = None,
    unseen: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Writes the folder of tables and images, then the metrics file; returns the metrics.

    `validation` is on the validation split, where there is one, by models that did not see the image; of images that
    every head saw, a head's logits are NaN, and are not counted. A combination has nothing `compared`: its members do.
    `unseen`: logits and labels of images that the model was not fitted to, by default those of `validation`.

    UserError where logits are not finite, images or classes are not those of the shards, or some were trained on.
    """
    dataset = dataset_file.read(shards / "dataset.json")
    manifest = manifests.read(shards, ["test"])
    _check(predictions, manifest, shards, "test", dataset["classes"])
    filenames = manifest.names()
    tested = dict(zip(predictions.keys, filenames, strict=True))
    leakage.check(model.folder, tested, dataset["duplicates"]["across_official_split"])
    numbers = measures.measure(predictions)
    if validation:
        validated = manifests.read(shards, ["validation"])
        never = np.isnan(validation.logits).all(axis=1) & model.cross_validated
        _check(validation, validated, shards, "validation", dataset["classes"], never)
        if len(seen := np.flatnonzero(~never)):
            found = selection.measure(validation.logits[seen], validated.labels[seen])
            numbers["validation"] = measures.rounded(found | {"num_examples": len(seen)})
    if model.cross_validated:
        numbers["cross_validation"] = measures.rounded(
            result_files.read_cross_validation(model.folder / "cross_validation.json")
        )
    if unseen is None and validation:
        unseen = validation.logits, validation.labels
    if point := operating_point(unseen, params):
        worth = operating.measure(point, predictions.probabilities, predictions.labels)
        numbers["operating"] = measures.rounded(worth)
    if compared:
        numbers["unlike"] = measures.rounded({"test_fraction": compared.test_fraction})
    numbers["size_bytes"] = model_size.in_bytes(
        (each.folder, each.backbone, each.features) for each in (model, *model.members)
    )
    about = {
        "model": model.name,
        "kind": model.kind,
        "backbone": model.backbone,
        "dataset": {"name": dataset["name"], "sha256": artifacts.sha256_file(shards / "dataset.json")},
    }
    with artifacts.new_folder(figures) as folder:
        write_tables(folder, predictions, filenames)
        _write_images(folder, model, predictions, manifest, filenames, params)
        shutil.copyfile(model.folder / "curve.csv", folder / "curve.csv")
        artifacts.write_json(folder / "evaluation.json", about)
        if compared:
            compared.reference.save(folder)
    artifacts.write_json(metrics_path, numbers)
    return numbers


def operating_point(unseen: tuple[np.ndarray, np.ndarray] | None, params: Params) -> Operating | None:
    """Finds it on logits (n, classes) and labels (n,); rows of NaN are not counted. None where there is no other."""
    if unseen is None:
        return None
    logits, labels = unseen
    rows = np.flatnonzero(np.isfinite(logits).all(axis=1))
    if not len(rows):
        return None
    return operating.find(softmax(logits[rows]), labels[rows], params.target_accuracy, params.coverage)


def _check(
    predictions: Predictions,
    manifest: Manifest,
    shards: Path,
    split: str,
    classes: Sequence[str],
    left_out: np.ndarray | bool = False,
) -> None:
    if rows := int(np.count_nonzero(~np.isfinite(predictions.logits).all(axis=1) & ~np.asarray(left_out))):
        cause = "its training diverged. Lower its learning rate"
        raise UserError(f"the model gives NaN or infinite logits for {rows} {split} images: {cause}")
    if predictions.classes != tuple(classes):
        different = sorted(set(predictions.classes) ^ set(classes))[:5]
        raise UserError(f"the model's classes are not those of {shards}; they differ in {different}. Run: dvc repro")
    if manifest.keys.astype(str).tolist() != list(predictions.keys):
        raise UserError(f"the predictions are of other {split} images than {shards} holds. Run: dvc repro")


def write_tables(folder: Path, predictions: Predictions, filenames: Sequence[str]) -> None:
    """Writes predictions.parquet, confusion.csv, per_class.csv, reliability.csv and coverage.csv."""
    classes, chosen, probabilities = predictions.classes, predictions.predicted, predictions.probabilities
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
    pairs, counts = np.unique(predictions.labels * len(classes) + chosen, return_counts=True)
    ids = zip(*divmod(pairs, len(classes)), counts, strict=True)
    cells = ((classes[actual], classes[predicted], count) for actual, predicted, count in ids)
    tables.write_csv(folder / "confusion.csv", tables.CONFUSION, cells)
    rows = ((name, *(f"{score:.6f}" for score in scores), count) for name, *scores, count in predictions.class_rows())
    tables.write_csv(folder / "per_class.csv", tables.PER_CLASS, rows)
    found = metrics.reliability(probabilities, predictions.labels)
    bins = zip(found.confidence, found.accuracy, found.count, strict=True)
    filled = ((f"{confidence:.6f}", f"{accuracy:.6f}", count) for confidence, accuracy, count in bins if count)
    tables.write_csv(folder / "reliability.csv", tables.RELIABILITY, filled)
    points = ([f"{value:.6f}" for value in point] for point in operating.curve(probabilities, predictions.labels))
    tables.write_csv(folder / "coverage.csv", tables.COVERAGE, points)


def _write_images(
    folder: Path,
    model: Model,
    predictions: Predictions,
    manifest: Manifest,
    filenames: Sequence[str],
    params: Params,
) -> None:
    """Writes predictions.png, random test images, and mistakes.png, the most confident mistakes."""
    from stages.library.figures import mosaics, thumbnails

    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    confident = wrong[np.argsort(-predictions.probabilities[wrong].max(axis=1), kind="stable")]
    chosen = np.random.default_rng(params.seed).permutation(len(predictions.labels))[: params.images]
    mistakes = confident[: params.images]
    rows = np.union1d(chosen, mistakes)
    cards = {}
    for row, record in zip(rows, manifest.records(rows), strict=True):
        pixels = thumbnails.thumbnail(record.encoded, mosaics.CARD_PX)
        shown = pixels, filenames[row], record.text, predictions.classes
        cards[row] = mosaics.card(*shown, predictions.probabilities[row], predictions.logits[row])
    bold = "; bold: the true class"
    title = f"{model}: {len(chosen)} random test images{bold}"
    mosaics.write_predictions(folder / "predictions.png", title, [cards[row] for row in chosen])
    some = f"the {len(mistakes)} most confident of {len(wrong):,} mistakes"
    many = some if len(mistakes) < len(wrong) else f"all {len(wrong)} mistakes"
    found = {0: "no mistake", 1: "the only mistake"}.get(len(wrong), many)
    title = f"{model}: {found} on {len(predictions.labels):,} test images{bold if len(wrong) else ''}"
    mosaics.write_predictions(folder / "mistakes.png", title, [cards[row] for row in mistakes])
