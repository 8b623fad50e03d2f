"""Classes of 1, 2 and 3 images: no stage ends in a traceback, and what is missing is said by name."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import sharded

from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.features.cache import Source
from stages.library.records import manifest as manifests
from stages.library.records.tfrecord import SPLITS
from stages.library.sources import contract as datasets
from stages.library.sources.contract import SourceImage

QUICK = {"softmax__epochs": 3, "dnn__epochs": 3, "dnn__hidden_units": [8], "xgboost__num_trees": 3}
QUICK |= {"xgboost__colsample_byround": 1.0}
HEADS = "ridge", "logistic", "softmax", "dnn", "xgboost"
SIDE = 4


def a_data_set(sizes):
    """Noise, of classes of so many images."""
    rng = np.random.default_rng(0)
    return [
        SourceImage(f"{text}/{index}", text, None, rng.integers(0, 256, (SIDE, SIDE), np.uint8))
        for text, size in sizes.items()
        for index in range(size)
    ]


def write_features(shards, folder):
    """Random features of every record, as bottleneck-extract writes them."""
    classes = tuple(json.loads((shards / "dataset.json").read_text())["classes"])
    source, rng = (
        Source("efficientnet_lite0", 32, 1.0, "bilinear", False, "a" * 64, "f" * 64, classes),
        np.random.default_rng(1),
    )
    folder.mkdir()
    for split in SPLITS:
        found = manifests.read(shards, [split])
        writer = cache.ShardWriter(folder / f"{split}-00000-of-00001.parquet", source, 6, 3)
        values = rng.normal(size=(len(found.keys), 9)) + found.labels[:, None]
        keys, about = found.keys.astype(str).tolist(), (found.groups, found.weights)
        writer.write(keys, found.labels, values[:, :6], values[:, 6:], *about)
        writer.close()
    return folder


@pytest.fixture
def prepared(tmp_path, write_params, run_stage, monkeypatch):
    """Runs tfrecord on classes of given sizes; returns the shards, the features and a function that runs a stage."""

    def run(sizes, **changes):
        items = a_data_set(sizes)
        monkeypatch.setattr(datasets, "lookup", lambda name: SimpleNamespace(read=lambda params, raw: iter(items)))
        params, shards = write_params(**QUICK | changes), tmp_path / "shards"
        run_stage("tfrecord", "--params", params, "--out", shards, "--examples", tmp_path / "examples.png")
        features = write_features(shards, tmp_path / "features")
        return shards, features, lambda name, *options: run_stage(name, "--params", params, *options)

    return run


@pytest.mark.parametrize("sizes", [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3, "d": 30}, {"b": 2, "c": 3}])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_trained_evaluated_and_audited(prepared, tmp_path, capsys, head, sizes):
    shards, features, run = prepared(sizes)
    said = capsys.readouterr().out
    assert f"its recall is not measured: {'a (1 image), ' if 'a' in sizes else ''}b (2 images)\n" in said
    run("train_heads", "--head", head, "--bottlenecks", features, "--out", tmp_path / "head")
    outs = "--metrics", tmp_path / "metrics.json", "--figures", tmp_path / "figures"
    run("evaluate", "--records", shards, "--head", tmp_path / "head", "--bottlenecks", features, *outs)
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["num_examples"] == len(sharded.read(shards)["test"])
    assert [row["class"] for row in tables.read_csv(tmp_path / "figures" / "per_class.csv")] == sorted(
        set(sizes) - {"a", "b"}
    )
    predictions = "--predictions", tmp_path / "figures" / "predictions.parquet"
    run("audit", "--records", shards, "--bottlenecks", features, *predictions,
        "--out-of-fold", tmp_path / "head" / "out_of_fold.parquet", "--out", tmp_path / "audit")  # fmt: skip
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["images"] == sum(sizes.values())
    assert ("the label of a class's only image is not checked: a\n" in capsys.readouterr().out) == ("a" in sizes)


@pytest.mark.parametrize("head", HEADS)
def test_a_fraction_held_out_of_few_images_trains_or_says_why_not(prepared, tmp_path, head):
    _, features, run = prepared({"a": 1, "b": 2, "c": 3}, cross_validation__holdout_fraction=dict.fromkeys(HEADS, 0.5))
    run("train_heads", "--head", head, "--bottlenecks", features, "--out", tmp_path / "head")
    assert (tmp_path / "head" / "head.json").exists()


def test_few_shot_leaves_small_classes_out_or_says_why_it_can_not(prepared, tmp_path):
    shards, features, run = prepared({"a": 1, "b": 2, "c": 3, "d": 4})
    options = "--backbone", "efficientnet_lite0", "--head", "ridge", "--bottlenecks", features, "--records", shards
    outs = "--metrics", tmp_path / "few.json", "--out", tmp_path / "few"
    run("fewshot", *options, *outs, "--shots", 2)
    assert json.loads((tmp_path / "few" / "fewshot.json").read_text())["classes_left_out"] == ["a", "b"]
    with pytest.raises(UserError, match=r"`fewshot\.shots` must leave at least 2 classes an image to test"):
        run("fewshot", *options, *outs, "--shots", 3)
