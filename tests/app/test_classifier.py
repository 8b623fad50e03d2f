"""The assembled model against the cached features: what is evaluated is what predicts."""

import json

import numpy as np
import pytest
from conftest import write_images

from app import classifier
from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.heads import trained_head
from stages.library.records import preprocessing, tfrecord
from stages.library.scoring import probabilities

pytestmark = pytest.mark.slow

HEADS = ("ridge", "logistic", "softmax", "dnn", "xgboost")


@pytest.fixture
def trained(tmp_path, write_params, run_stage):
    """Shards, features and heads of a small folder of images."""

    def train(kind):
        images = write_images(tmp_path / "images", per_class=20, size_px=40)
        changes = {f"{head}__features": kind for head in HEADS}
        path = write_params(
            dataset__name="folder",
            dataset__folder=str(images),
            extract__input_size_px=64,
            cross_validation__folds=2,
            dnn__hidden_units=[32],
            xgboost__num_trees=10,
            softmax__learning_rate=0.01,
            **changes,
        )
        common = ("--params", path)
        run_stage("fetch", *common, "--out", tmp_path / "raw")
        shards, features = tmp_path / "tfrecord", tmp_path / "bottlenecks"
        run_stage(
            "tfrecord", *common, "--raw", tmp_path / "raw", "--out", shards, "--examples", tmp_path / "examples.png"
        )
        run_stage(
            "bottleneck_extract", *common, "--backbone", "efficientnet_lite0", "--records", shards, "--out", features
        )
        for head in HEADS:
            run_stage("train_heads", *common, "--head", head, "--bottlenecks", features, "--out", tmp_path / head)
        return shards, features

    return train


@pytest.mark.parametrize("kind", ["bottleneck", "logits", "probabilities", "joined"])
def test_pixels_give_the_probabilities_of_the_cached_features(trained, tmp_path, kind):
    shards, features_folder = trained(kind)
    paths = tfrecord.find_shards(shards, "test")
    for head in HEADS:
        assembled = classifier.load(tmp_path / head, {})
        fitted = trained_head.load(tmp_path / head)
        assert fitted.features == kind
        features = cache.load(features_folder, ["test"], kind)
        cached = probabilities.softmax(fitted.logits(features.values))
        batches = preprocessing.dataset(paths, preprocessing.Preprocessing(64), 7)
        predicted = np.concatenate([assembled.probabilities(batch["image"].numpy()) for batch in batches])
        assert len(cached) > 5
        np.testing.assert_allclose(predicted, cached, atol=1e-3)
        assert np.ptp(cached) > 0.1


def test_a_head_of_other_weights_is_rejected(trained, tmp_path):
    trained("bottleneck")
    path = tmp_path / "ridge" / "head.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["source"]["weights_sha256"] = "0" * 64
    artifacts.write_json(path, content)
    with pytest.raises(UserError, match="other weights"):
        classifier.load(tmp_path / "ridge", {})
