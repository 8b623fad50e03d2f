"""The stages that evaluate as a user runs them: a head without TensorFlow, a network, and what is rejected."""

import json
import subprocess
import sys
from types import SimpleNamespace

import evaluated
import numpy as np
import pytest
from conftest import ROOT

from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.features.cache import ShardWriter, Source
from stages.library.heads import contract as heads
from stages.library.heads.cross_validation import cross_validate
from stages.library.heads.trained_head import TrainedHead
from stages.library.records import manifest as manifests
from stages.library.settings import load_params

CLASSES = ("cat", "dog", "emu")
BACKBONE = "efficientnet_lite0"
SOURCE = Source(BACKBONE, 96, 1.0, "bilinear", False, "a" * 64, "f" * 64, CLASSES)
TEMPERATURE = 0.25


def features_of(labels, seed):
    rng = np.random.default_rng(seed)
    return cache.quantize(np.eye(3)[labels] * 3 + rng.normal(0, 0.3, (len(labels), 3)))


@pytest.fixture
def trained(tmp_path):
    """Trains a head on three features that tell the classes apart, and caches those of 12 test images."""
    labels = np.arange(12) % 3
    keys = evaluated.write_shards(tmp_path / "tfrecord", CLASSES, labels)
    (tmp_path / "bottlenecks").mkdir()
    writer = ShardWriter(tmp_path / "bottlenecks" / "test-00000-of-00001.parquet", SOURCE, 3, 3)
    writer.write(list(keys), labels, features_of(labels, 1), features_of(labels, 1))
    writer.close()

    def train(name):
        settings = load_params(ROOT / "params.yaml")[name]
        labels = np.arange(90) % 3
        examples = heads.Examples(features_of(labels, 0), labels, 3, np.arange(90) // 45)
        trainer = heads.lookup(name).Trainer(examples, settings, 0)
        chosen = cross_validate(trainer).best_params
        folder = evaluated.write_model(tmp_path / name)
        TrainedHead(name, trainer.fit(chosen), settings.features, 3, SOURCE, chosen, TEMPERATURE).save(folder)
        return folder

    return train


def arguments(tmp_path, *model):
    outs = ["--metrics", tmp_path / "metrics.json", "--figures", tmp_path / "figures"]
    return list(map(str, ["--params", ROOT / "params.yaml", "--records", tmp_path / "tfrecord", *model, *outs]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ridge", "xgboost"])
def test_a_head_is_evaluated_without_tensorflow(trained, tmp_path, name):
    folder = trained(name)
    given = arguments(tmp_path, "--head", folder, "--bottlenecks", tmp_path / "bottlenecks")
    code = (
        "import sys; from stages import evaluate; sys.argv[1:] = " + repr(given) + "; evaluate.main();"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"evaluate: {name} on efficientnet_lite0: top-1 1.0000 [1.0000, 1.0000] on 12 test images" in done.stdout
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["top1_accuracy"] == 1
    assert numbers["calibration"]["temperature"] == TEMPERATURE
    # All are right, so the error is the mean doubt, which a temperature below 1 takes away.
    assert numbers["calibration"]["expected_calibration_error_before"] > numbers["expected_calibration_error"]
    assert json.loads((tmp_path / "figures" / "evaluation.json").read_text())["model"] == name


def test_a_head_of_other_features_is_rejected(trained, tmp_path, run_stage):
    folder = trained("ridge")
    content = json.loads((folder / "head.json").read_text())
    content["source"]["fingerprint"] = "0" * 64
    (folder / "head.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="was trained on other features"):
        run_stage("evaluate", *arguments(tmp_path, "--head", folder, "--bottlenecks", tmp_path / "bottlenecks"))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_network_is_evaluated_on_the_shards(trained, tmp_path, run_stage, monkeypatch, batch_norm):
    networks = pytest.importorskip("stages.library.training.trained_network")
    folder = evaluated.write_model(tmp_path / "finetuned", "finetuned")

    def predict_shards(paths, training_mode=False):
        found = manifests.read(paths[0].parent, ["test"])
        right = np.eye(3, dtype=np.float32)[found.labels]
        return found.keys.astype(str), found.labels, np.roll(right, 1, axis=1) if training_mode else right

    about = {"kind": "finetuned", "classes": CLASSES, "trained_batch_norm": batch_norm, "backbone": BACKBONE}
    perfect = SimpleNamespace(**about, predict_shards=predict_shards)
    monkeypatch.setattr(networks, "load", lambda path: perfect)
    run_stage("evaluate_network", *arguments(tmp_path, "--network", folder))
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["top1_accuracy"] == 1
    assert not {"cross_validation", "calibration"} & set(numbers)
    assert numbers.get("training_mode") == ({"top1_accuracy": 0} if batch_norm else None)
    about = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert (about["model"], about["kind"], about["backbone"]) == ("finetuned", "finetuned", BACKBONE)
