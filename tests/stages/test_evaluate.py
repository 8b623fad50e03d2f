"""The stages that evaluate as a user runs them: a head without TensorFlow, a network, and what is rejected."""

import json
import shutil
from types import SimpleNamespace

import evaluated
import numpy as np
import pytest
import trained

from stages.library.common.console import UserError
from stages.library.features import cache, unlike
from stages.library.heads import trained_head
from stages.library.records import manifest as manifests
from stages.library.scoring import metrics, prediction_files, selection
from stages.library.scoring.probabilities import softmax
from tests import processes

CLASSES = ("cat", "dog", "emu")
HEADS = f"artifacts/heads/{trained.BACKBONE}"


def arguments(root, tmp_path, *model):
    outs = ["--metrics", tmp_path / "metrics.json", "--figures", tmp_path / "figures"]
    return ["--params", root / "params.yaml", "--records", root / "data" / "tfrecord", *model, *outs]


def of_head(root, tmp_path, head):
    return arguments(root, tmp_path, "--head", head, "--bottlenecks", root / "artifacts/bottlenecks" / trained.BACKBONE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ridge", "xgboost"])
def test_a_head_is_evaluated_without_tensorflow(trained_project, tmp_path, name):
    head = trained_project / HEADS / name
    code = "import sys; from stages import evaluate; evaluate.main(); "
    code += "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    printed = processes.run("python", "-c", code, *of_head(trained_project, tmp_path, head)).stdout
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    low, high = (numbers["top1_accuracy_interval"][end] for end in ("low", "high"))
    accuracy = f"{numbers['top1_accuracy']:.4f} [{low:.4f}, {high:.4f}]"
    count = numbers["num_examples"]
    assert f"evaluate: efficientnet_lite0/{name}: top-1 {accuracy} on {count} test images" in printed
    known = trained_head.load(head)
    features = cache.load(trained_project / "artifacts/bottlenecks" / trained.BACKBONE, ["test"], known.features)
    logits = known.logits(features.values)
    assert numbers["top1_accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == features.labels), abs=1e-6)
    calibration = numbers["calibration"]
    for temperature, error in (
        (known.temperature, calibration["expected_calibration_error_before"]),
        (1, numbers["expected_calibration_error"]),
    ):
        expected = metrics.expected_calibration_error(softmax(logits * np.float32(temperature)), features.labels)
        assert error == pytest.approx(expected, abs=1e-6)
    assert calibration["temperature"] == round(json.loads((head / "head.json").read_text())["temperature"], 6) != 1
    assert calibration["expected_calibration_error_before"] != numbers["expected_calibration_error"]
    assert json.loads((tmp_path / "figures" / "evaluation.json").read_text())["model"] == name
    validated = manifests.read(trained_project / "data" / "tfrecord", ["validation"])
    scores = dict(zip(*prediction_files.read(head / "out_of_fold.parquet", "logits"), strict=True))
    found = selection.measure(np.array([scores[key] for key in validated.keys.astype(str)]), validated.labels)
    assert numbers["validation"] == pytest.approx(found | {"num_examples": len(validated.keys)}, abs=1e-6)


@pytest.mark.slow
def test_a_head_of_other_features_is_rejected(trained_project, tmp_path, run_stage):
    head = shutil.copytree(trained_project / HEADS / "ridge", tmp_path / "ridge")
    content = json.loads((head / "head.json").read_text())
    content["source"]["fingerprint"] = "0" * 64
    (head / "head.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="was trained on other features"):
        run_stage("evaluate", *of_head(trained_project, tmp_path, head))


@pytest.mark.parametrize(("batch_norm", "validation"), [(False, [0, 1, 1]), (True, [])])
def test_a_network_is_evaluated_on_the_shards(tmp_path, write_params, run_stage, monkeypatch, batch_norm, validation):
    networks = pytest.importorskip("stages.library.training.trained_network")
    folder = evaluated.write_model(tmp_path / "finetuned", "finetuned")
    evaluated.write_shards(tmp_path / "data" / "tfrecord", CLASSES, np.arange(12) % 3, validation)
    write_params()

    def predict_shards(paths, training_mode=False):
        found = manifests.read(paths[0].parent, [paths[0].name.partition("-")[0]])
        right = np.eye(3, dtype=np.float32)[found.labels]
        return found.keys.astype(str), found.labels, np.roll(right, 1, axis=1) if training_mode else right

    def predict_and_compare(paths, features):
        """Test images lie apart from those of training, and but for the first no farther than validation images."""
        split, (keys, labels, logits) = paths[0].name.partition("-")[0], predict_shards(paths)
        angles = np.linspace(0.1, 0.5, len(keys)) if split == "validation" else np.arange(len(keys)) == 0
        features[:] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return keys, labels, logits

    def features(encoded):
        return np.tile([1.0, 0.0], (len(list(encoded)), 1))

    about = {"kind": "finetuned", "classes": CLASSES, "trained_batch_norm": batch_norm, "backbone": trained.BACKBONE}
    does = {"predict_shards": predict_shards, "predict_and_compare": predict_and_compare, "features": features}
    perfect = SimpleNamespace(**about, **does, width=2)
    monkeypatch.setattr(networks, "load", lambda path: perfect)
    given = "--network", folder, "--logits", tmp_path / "logits"
    run_stage("evaluate_network", *arguments(tmp_path, tmp_path, *given))
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["top1_accuracy"] == 1
    assert not {"cross_validation", "calibration"} & set(numbers)
    assert numbers.get("validation", {}).get("num_examples", 0) == len(validation)
    assert numbers.get("validation", {"top1_accuracy": 1})["top1_accuracy"] == 1
    assert numbers.get("training_mode") == ({"top1_accuracy": 0} if batch_norm else None)
    assert numbers["unlike"] == {"test_fraction": round(1 / 12, 6)}
    reference = unlike.load(tmp_path / "figures")
    assert reference is not None
    assert reference.neighbours == (2 if validation else 1)
    splits = ["test", "validation"] if validation else ["test"]
    assert sorted(path.stem for path in (tmp_path / "logits").iterdir()) == splits
    for split in splits:
        expected = manifests.read(tmp_path / "data" / "tfrecord", [split])
        keys, logits = prediction_files.read(tmp_path / "logits" / f"{split}.parquet", "logits")
        assert keys == expected.keys.astype(str).tolist()
        assert logits.tolist() == np.eye(3)[expected.labels].tolist()
    about = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert (about["model"], about["kind"], about["backbone"]) == ("finetuned", "finetuned", trained.BACKBONE)
