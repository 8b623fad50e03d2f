"""The assembled model against the cached features: what is evaluated is what predicts."""

import json

import numpy as np
import pytest
from conftest import write_images

from app import models
from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.heads import trained_head
from stages.library.records import preprocessing, tfrecord
from stages.library.scoring import probabilities

FEATURES = {"ridge": "bottleneck", "logistic": "logits", "softmax": "probabilities", "xgboost": "joined"}


@pytest.mark.slow
def test_pixels_give_the_probabilities_of_the_cached_features(tmp_path, write_params, run_stage):
    images = write_images(tmp_path / "images", per_class=20, size_px=40)
    path = write_params(
        dataset__name="folder",
        dataset__folder=str(images),
        extract__input_size_px=64,
        cross_validation__folds=2,
        xgboost__num_trees=10,
        softmax__learning_rate=0.01,
        **{f"{head}__features": kind for head, kind in FEATURES.items()},
    )
    common = ("--params", path)
    shards, features = tmp_path / "tfrecord", tmp_path / "bottlenecks"
    run_stage("fetch", *common, "--out", tmp_path / "raw")
    run_stage("tfrecord", *common, "--raw", tmp_path / "raw", "--out", shards, "--examples", tmp_path / "examples.png")
    extraction = ("--backbone", "efficientnet_lite0", "--records", shards)
    run_stage("bottleneck_extract", *common, *extraction, "--out", features)
    batches = list(preprocessing.dataset(tfrecord.find_shards(shards, "test"), preprocessing.Preprocessing(64), 7))
    for head, kind in FEATURES.items():
        run_stage("train_heads", *common, "--head", head, "--bottlenecks", features, "--out", tmp_path / head)
        assembled = models._head(head, tmp_path / head, {})
        fitted = trained_head.load(tmp_path / head)
        assert fitted.features == kind
        cached = probabilities.softmax(fitted.logits(cache.load(features, ["test"], kind).values))
        predicted = np.concatenate([assembled.probabilities(batch["image"].numpy()) for batch in batches])
        assert len(cached) > 5
        np.testing.assert_allclose(predicted, cached, atol=1e-3)
        assert np.ptp(cached) > 0.1

    path = tmp_path / "ridge" / "head.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["source"]["weights_sha256"] = "0" * 64
    artifacts.write_json(path, content)
    with pytest.raises(UserError, match="other weights"):
        models._head("ridge", tmp_path / "ridge", {})
