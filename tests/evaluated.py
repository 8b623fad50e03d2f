"""Shards and predictions made by hand, for the tests of evaluation and report."""

import json

import described
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sharded

from stages.library.common import artifacts, tables
from stages.library.evaluation import evaluation
from stages.library.evaluation.evaluation import Model
from stages.library.evaluation.measures import Predictions
from stages.library.records import leakage
from stages.library.report import fewshot_results

OPERATING = {"target_accuracy": 0.99, "coverage": 0.99}
PARAMS = evaluation.Params(selection_metric="top1_accuracy", images=4, seed=0, **OPERATING)


def write_shards(folder, classes, labels, validation=()):
    """Writes a test split of noise in two shards, with dataset.json, a validation split and two training images.

    Returns the keys of test and validation images in order; both are given by their labels.
    """
    rng = np.random.default_rng(0)
    found = []
    for index, label in enumerate([*labels, *validation]):
        pixels = rng.integers(0, 256, (12, 9 + index % 5, 3), np.uint8)
        found.append(sharded.record(pixels, int(label), classes[label], f"{index}.png"))
    half, end = len(labels) // 2, len(labels)
    training = [sharded.record(np.full((9, 9, 3), grey, np.uint8)) for grey in (1, 2)]
    splits = {"train": [training], "validation": [found[end:]], "test": [found[:half], found[half:end]]}
    sharded.write(folder, splits)
    content = described.dataset("noise", classes, per_split=0) | {"images": end, "rejected": 3}
    content["counts"]["test"] = {name: list(labels).count(label) for label, name in enumerate(classes)}
    artifacts.write_json(folder / "dataset.json", content)
    return np.array([record.key for record in found], object)


def write_model(folder, kind="head"):
    """Writes what an evaluation reads of a trained model's folder, and as many bytes of weights as no model has."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(bytes(1000))
    rows = [(step, series, step / 10, 1 / step) for series in ("training", "held-out") for step in (1, 2, 3)]
    tables.write_csv(folder / "curve.csv", tables.CURVE, rows)
    if kind == "head":
        content = {"top1_accuracy": {"mean": 0.91234567, "std": 0.01}}
        (folder / "cross_validation.json").write_text(json.dumps(content))
        (folder / "head.json").write_text(json.dumps({"features": "bottleneck"}))
        write_trained_on(folder / leakage.OF_HEAD, [artifacts.sha256_bytes(b"a training image")])
    else:
        leakage.write(folder, [artifacts.sha256_bytes(b"a training image")])
    return folder


def write_trained_on(path, keys):
    """Writes keys as the out-of-fold predictions of a head have them."""
    pq.write_table(pa.table({"key": pa.array(keys, pa.string())}), path)


def write_fewshot(root, backbone, digest, head="ridge", mean=0.9, classes_left_out=()):
    """Writes few-shot results, two repeats of 15 images of each class, on the data set of that sha256."""
    place = f"{backbone}/fewshot/{head}/15"
    figures = root / "evaluation" / place
    figures.mkdir(parents=True)
    about = {"features": "bottleneck", "repeats": 2, "classes_left_out": classes_left_out}
    artifacts.write_json(figures / "fewshot.json", about | {"dataset": {"sha256": digest}})
    rows = [(head, 15, repeat, name, 0.9, 0.8) for repeat in range(2) for name in ("with", "without")]
    tables.write_csv(figures / "repeats.csv", fewshot_results.COLUMNS, rows)
    numbers = {"balanced_accuracy": {"mean": 0.8, "std": 0.02}, "num_examples": 1234}
    numbers |= {"top1_accuracy": {"mean": mean, "std": 0.01}}
    without = {"without_background": numbers | {"top1_accuracy": {"mean": 0.95, "std": 0.0}}}
    artifacts.write_json(root / "metrics" / f"{place}.json", numbers | without)


def noisy_logits(labels, num_classes, accuracy, seed=0):
    """Returns random logits of which about the fraction `accuracy` is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (len(labels), num_classes)).astype(np.float32)
    right = rng.random(len(labels)) < accuracy
    logits[np.arange(len(labels)), np.where(right, labels, rng.integers(0, num_classes, len(labels)))] += 5
    return logits


def evaluate(
    root,
    name,
    classes,
    labels,
    logits,
    model="ridge",
    kind="head",
    backbone="efficientnet_lite0",
    validation=None,
    **more,
):
    """Evaluates given logits on hand-made shards; returns the metrics. Writes root/{metrics,evaluation}/NAME.

    `validation` are labels and logits of the validation split.
    """
    keys = write_shards(root / "tfrecord", classes, labels, validation[0] if validation else ())
    tested, validated = np.split(keys, [len(labels)])
    if validation:
        validation = Predictions(validated, np.asarray(validation[0]), np.asarray(validation[1]), tuple(classes))
    features = "bottleneck" if kind == "head" else None
    return evaluation.write_evaluation(
        Model(model, kind, backbone, write_model(root / "models" / name, kind), features),
        Predictions(tested, np.asarray(labels), np.asarray(logits, np.float32), tuple(classes), **more),
        validation,
        root / "tfrecord",
        PARAMS,
        root / "metrics" / f"{name}.json",
        root / "evaluation" / name,
    )
