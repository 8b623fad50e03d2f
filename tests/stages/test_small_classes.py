"""Classes of 1, 2 and 3 images: no stage ends in a traceback, and what is missing is said by name."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import sharded
import trained
from conftest import write_images

from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.features.source import Source
from stages.library.preparation.summary import FOLLOWS
from stages.library.records import manifest as manifests
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import SPLITS
from stages.library.scoring import prediction_files
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
    source = Source("efficientnet_lite0", Preprocessing(32), False, "a" * 64, "f" * 64, classes)
    rng = np.random.default_rng(1)
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
def test_a_head_is_trained_evaluated_and_audited_with_balanced_weights(prepared, tmp_path, capsys, head, sizes):
    shards, features, run = prepared(sizes, class_weights="balanced")
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
    run("map", "--records", shards, "--bottlenecks", features, *predictions, "--audit", tmp_path / "audit",
        "--out-of-fold", tmp_path / "head" / "out_of_fold.parquet", "--out", tmp_path / "map")  # fmt: skip
    assert len(tables.read_csv(tmp_path / "map" / "map.csv")) == sum(sizes.values())
    assert ("the label of a class's only image is not checked: a\n" in capsys.readouterr().out) == ("a" in sizes)


@pytest.mark.parametrize("head", HEADS)
def test_a_fraction_held_out_of_few_images_trains_and_names_the_classes_that_have_none_of_it(
    prepared, tmp_path, capsys, head
):
    sizes, fractions = {"a": 1, "b": 2, "c": 3}, dict.fromkeys(HEADS, 0.5)
    _, features, run = prepared(sizes, cross_validation__holdout_fraction=fractions)
    run("train_heads", "--head", head, "--bottlenecks", features, "--out", tmp_path / "head")
    _, scores = prediction_files.read(tmp_path / "head" / "out_of_fold.parquet", "logits")
    labels = cache.load(features, ("train", "validation"), "bottleneck").labels
    seen = set(labels[np.isfinite(scores).all(axis=1)].tolist())
    assert 0 < len(seen) < len(sizes)
    names = ", ".join(name for label, name in enumerate(sizes) if label not in seen)
    said = f"train-heads: none held out to validate {head}, so they have no part in its scores: {names}\n"
    assert said in capsys.readouterr().out


def test_a_fraction_that_holds_out_none_of_five_images_is_an_error_with_the_remedy(prepared, tmp_path):
    _, features, run = prepared({"a": 2, "b": 3}, cross_validation__holdout_fraction={"ridge": 0.01})
    message = r"holdout_fraction\.ridge` must leave some of the 4 images .* 0\.01\. Without it there are folds"
    with pytest.raises(UserError, match=message):
        run("train_heads", "--head", "ridge", "--bottlenecks", features, "--out", tmp_path / "head")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"a": 1, "b": 2, "c": 3, "d": 30}, f"{FOLLOWS['validation']}: a (1 image), b (2 images)"),
        ({"a": 2, "b": 3}, f"{FOLLOWS['validation']}: a (2 images)"),
        (
            {"train/a": 8, "train/b": 1, "val/a": 2, "test/a": 2, "test/c": 2},
            f"{FOLLOWS['train']}: c (2 images)",
        ),
    ],
)  # fmt: skip
def test_every_kind_of_model_is_trained_and_reported_with_balanced_weights(tmp_path, capsys, sizes, said):
    for seed, (place, size) in enumerate(sizes.items()):
        path = tmp_path / "images" / place
        write_images(path.parent, per_class=size, classes=(path.name,), seed=seed)
    chosen = {"class_weights": "balanced", "evaluate.selection_metric": "balanced_accuracy", "combine.finetuned": []}
    trained.build(tmp_path, tmp_path / "images", trained.CHANGES | chosen)
    assert said in capsys.readouterr().out
    models = {row["model"] for row in tables.read_csv(tmp_path / "artifacts" / "report" / "leaderboard.csv")}
    assert models == {
        *(f"{trained.BACKBONE}/{name}" for name in (*trained.HEADS, "finetuned")),
        *("scratch", "combined/average", "combined/stacking"),
    }


def test_few_shot_leaves_small_classes_out_or_says_why_it_can_not(prepared, tmp_path):
    shards, features, run = prepared({"a": 1, "b": 2, "c": 3, "d": 4})
    options = "--head", "ridge", "--bottlenecks", features, "--records", shards
    outs = "--metrics", tmp_path / "few.json", "--out", tmp_path / "few"
    run("fewshot", *options, *outs, "--shots", 2)
    assert json.loads((tmp_path / "few" / "fewshot.json").read_text())["classes_left_out"] == ["a", "b"]
    with pytest.raises(UserError, match=r"`fewshot\.shots` must leave at least 2 classes an image to test"):
        run("fewshot", *options, *outs, "--shots", 3)
