"""Hand-made predictions with known metrics, tables and images."""

import csv
import hashlib
import json

import contents
import evaluated
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn import metrics as reference

from stages.library.common.console import UserError
from stages.library.evaluation.evaluation import Model, Params, Predictions, measure, write_evaluation
from stages.library.records import tfrecord
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax

CLASSES = ["cat", "dog", "emu"]
LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
PREDICTED = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]  # 8 of 10; cat 3/4, dog 2/3, emu 3/3
NAME = "efficientnet_lite0/ridge"


def sure_logits(predicted, probability=0.9, num_classes=3):
    """Logits whose softmax gives `probability` to the prediction and the rest in equal parts to the others."""
    logits = np.full((len(predicted), num_classes), np.log((1 - probability) / (num_classes - 1)))
    logits[np.arange(len(predicted)), predicted] = np.log(probability)
    return logits.astype(np.float32)


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def known(tmp_path):
    numbers = evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, sure_logits(PREDICTED))
    return numbers, tmp_path / "evaluation" / NAME


def test_metrics_are_those_computed_by_hand(known):
    numbers, _ = known
    interval = numbers.pop("top1_accuracy_interval")
    assert numbers == {
        "top1_accuracy": 0.8,
        "top5_accuracy": 1.0,
        "balanced_accuracy": round((3 / 4 + 2 / 3 + 3 / 3) / 3, 6),
        # F1 = 2 TP / (2 TP + FP + FN): cat 6/7, dog 4/6, emu 6/7.
        "macro_f1": round((6 / 7 + 4 / 6 + 6 / 7) / 3, 6),
        "log_loss": pytest.approx(-(8 * np.log(0.9) + 2 * np.log(0.05)) / 10, abs=2e-6),
        "expected_calibration_error": pytest.approx(0.1, abs=2e-6),
        "num_examples": 10,
        # The head's weights and head.json, and its backbone's parameters in float32 without ImageNet's classifier.
        "size_bytes": 1000 + 26 + 4 * (4_652_008 - 1281 * 1000),
        "cross_validation": {"top1_accuracy": {"mean": 0.912346, "std": 0.01}},
    }
    assert interval["low"] <= 0.8 <= interval["high"] <= 1


@pytest.mark.parametrize(("samples", "seed"), [(100, 0), (1000, 0), (1000, 3)])
def test_the_interval_is_that_of_the_samples_and_the_seed_of_params(samples, seed):
    labels = np.random.default_rng(1).integers(0, 3, 60)
    logits = evaluated.noisy_logits(labels, 3, accuracy=0.7)
    params = Params(bootstrap_samples=samples, images=1, seed=seed)
    keys = np.array([f"{number:064x}" for number in range(60)], object)
    numbers = measure(Predictions(keys, labels, logits, tuple(CLASSES)), params)
    low, high = metrics.bootstrap_interval(logits.argmax(axis=1) == labels, samples, seed)
    assert numbers["top1_accuracy_interval"] == {"low": round(low, 6), "high": round(high, 6)}


def test_the_calibration_error_is_that_of_cross_validation(tmp_path):
    """As many bins in both: heads call `metrics.expected_calibration_error` without a number of them, too."""
    labels = np.random.default_rng(1).integers(0, 3, 200)
    logits = evaluated.noisy_logits(labels, 3, accuracy=0.7) * np.random.default_rng(2).random((200, 1), np.float32)
    numbers = evaluated.evaluate(tmp_path, NAME, CLASSES, labels, logits)
    probabilities = softmax(logits)
    assert numbers["expected_calibration_error"] == round(metrics.expected_calibration_error(probabilities, labels), 6)
    assert numbers["expected_calibration_error"] != metrics.expected_calibration_error(probabilities, labels, 10)
    default = metrics.expected_calibration_error(probabilities, labels)
    assert default == metrics.expected_calibration_error(probabilities, labels, metrics.CALIBRATION_BINS)


def test_metrics_agree_with_scikit_learn(tmp_path):
    labels = np.random.default_rng(1).integers(0, 7, 60)
    logits = evaluated.noisy_logits(labels, 7, accuracy=0.7)
    numbers = evaluated.evaluate(tmp_path, NAME, list("abcdefg"), labels, logits)
    predicted = logits.argmax(axis=1)
    assert numbers["top1_accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted), abs=1e-6)
    assert numbers["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, predicted), abs=1e-6)
    assert numbers["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro"), abs=1e-6)
    assert numbers["top5_accuracy"] == pytest.approx(reference.top_k_accuracy_score(labels, logits, k=5), abs=1e-6)
    probabilities = softmax(logits).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert numbers["log_loss"] == pytest.approx(reference.log_loss(labels, probabilities), abs=1e-5)


def test_the_metrics_file_holds_nested_numbers_only(known, tmp_path):
    numbers, _ = known

    def leaves(content):
        return (
            [leaf for value in content.values() for leaf in leaves(value)] if isinstance(content, dict) else [content]
        )

    content = json.loads((tmp_path / "metrics" / f"{NAME}.json").read_text())
    assert content == numbers
    assert all(type(leaf) in (int, float) and leaf == round(leaf, 6) for leaf in leaves(content))


def test_temperature_and_training_mode_stand_beside_the_metrics(tmp_path):
    keys = evaluated.write_shards(tmp_path / "tfrecord", CLASSES, LABELS)
    logits, mistaken = sure_logits(PREDICTED, 0.6), sure_logits([0] * 10)
    predictions = Predictions(keys, np.array(LABELS), logits, tuple(CLASSES), mistaken, temperature=0.5)
    model = Model("ridge", "head", "efficientnet_lite0", evaluated.write_model(tmp_path / "model"), "bottleneck")
    out = tmp_path / "metrics.json", tmp_path / "figures"
    numbers = write_evaluation(model, predictions, tmp_path / "tfrecord", evaluated.PARAMS, *out)
    # Before, all logits were half as far apart: p / (1 - p) is the root of what it is now, with two others.
    before = 1 / (1 + 2 * np.sqrt(0.2 / 0.6))
    assert numbers["calibration"] == {
        "temperature": 0.5,
        "expected_calibration_error_before": pytest.approx(0.8 - before, abs=2e-6),
    }
    assert numbers["training_mode"] == {"top1_accuracy": 0.4}


def test_a_network_has_no_cross_validation(tmp_path):
    numbers = evaluated.evaluate(
        tmp_path, "scratch", CLASSES, LABELS, sure_logits(PREDICTED), "scratch", "scratch", None
    )
    assert "cross_validation" not in numbers


def test_confusion_table_counts_each_cell(known):
    _, figures = known
    rows = [(row["actual"], row["predicted"], int(row["count"])) for row in read_csv(figures / "confusion.csv")]
    assert rows == [("cat", "cat", 3), ("cat", "dog", 1), ("dog", "dog", 2), ("dog", "emu", 1), ("emu", "emu", 3)]


def test_class_and_reliability_tables(known):
    _, figures = known
    rows = [(row["class"], float(row["accuracy"]), int(row["examples"])) for row in read_csv(figures / "per_class.csv")]
    assert rows == [("cat", 0.75, 4), ("dog", 0.666667, 3), ("emu", 1.0, 3)]
    (only,) = read_csv(figures / "reliability.csv")
    assert float(only["confidence"]) == pytest.approx(0.9, abs=1e-6)
    assert (float(only["accuracy"]), int(only["examples"])) == (0.8, 10)


def test_a_class_without_test_images_is_in_no_table(tmp_path):
    evaluated.evaluate(tmp_path, NAME, [*CLASSES, "fox"], LABELS, sure_logits(PREDICTED, num_classes=4))
    assert [row["class"] for row in read_csv(tmp_path / "evaluation" / NAME / "per_class.csv")] == CLASSES


def test_predictions_give_the_metrics_again(known, tmp_path):
    numbers, figures = known
    table = pq.read_table(figures / "predictions.parquet")
    assert table.column_names == ["key", "filename", "label", "prediction", "confidence", "probabilities"]
    assert table["label"].to_pylist() == LABELS
    assert table["prediction"].to_pylist() == PREDICTED
    probabilities = np.array(table["probabilities"].to_pylist())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(table["confidence"].to_numpy(), probabilities.max(axis=1))
    assert np.mean(probabilities.argmax(axis=1) == LABELS) == numbers["top1_accuracy"]
    shards = tfrecord.find_shards(tmp_path / "tfrecord", "test")
    found = [record for path in shards for record in tfrecord.read_shard(path)]
    assert table["key"].to_pylist() == [record.key for record in found]
    assert table["filename"].to_pylist() == [record.filename for record in found]


def test_the_evaluation_names_its_model_and_data_set(known, tmp_path):
    _, figures = known
    digest = hashlib.sha256((tmp_path / "tfrecord" / "dataset.json").read_bytes()).hexdigest()
    assert json.loads((figures / "evaluation.json").read_text()) == {
        "model": "ridge",
        "kind": "head",
        "backbone": "efficientnet_lite0",
        "dataset": {"name": "noise", "sha256": digest},
    }
    assert (figures / "curve.csv").read_text() == (tmp_path / "models" / NAME / "curve.csv").read_text()


def test_evaluating_twice_gives_the_same_bytes(known, tmp_path):
    _, figures = known
    before = contents.of(figures)
    evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, sure_logits(PREDICTED))
    assert contents.of(figures) == before


def test_images_exist_with_and_without_mistakes(known, tmp_path):
    _, figures = known
    heights = {}
    for name in ("predictions", "mistakes"):
        with Image.open(figures / f"{name}.png", formats=("PNG",)) as image:
            heights[name] = image.height
    evaluated.evaluate(tmp_path, "perfect", CLASSES, LABELS, sure_logits(LABELS))
    with Image.open(tmp_path / "evaluation" / "perfect" / "mistakes.png", formats=("PNG",)) as image:
        assert image.height < heights["mistakes"] < heights["predictions"]  # 0, 2 and 4 cards


def test_the_most_confident_mistakes_come_first(tmp_path, monkeypatch):
    from stages.library.figures import mosaics

    shown = {}
    monkeypatch.setattr(mosaics, "write_predictions", lambda path, title, cards: shown.update({path.name: cards}))
    logits = sure_logits(PREDICTED)
    logits[6] = sure_logits([2], 0.99)[0]
    evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, logits)
    first, second = shown["mistakes.png"]
    assert (first.actual, first.likeliest[0]) == ("dog", ("emu", pytest.approx(0.99)))
    assert (second.actual, second.likeliest[0]) == ("cat", ("dog", pytest.approx(0.9)))
    assert len(shown["predictions.png"]) == 4
    assert all(len(card.likeliest) == 3 for card in shown["predictions.png"])


def reevaluate(tmp_path, keys, logits, classes):
    model = Model("ridge", "head", "efficientnet_lite0", tmp_path / "models" / NAME, "bottleneck")
    predictions = Predictions(keys, np.array(LABELS), logits, tuple(classes))
    out = tmp_path / "new.json", tmp_path / "new"
    write_evaluation(model, predictions, tmp_path / "tfrecord", evaluated.PARAMS, *out)


def test_what_does_not_belong_together_is_rejected(known, tmp_path):
    keys = pq.read_table(known[1] / "predictions.parquet")["key"].to_numpy()
    logits = sure_logits(PREDICTED)
    shards = tmp_path / "tfrecord"
    broken = logits.copy()
    broken[3, 1] = np.nan
    broken[5] = np.inf
    for arguments, message in (
        (
            (keys, broken, CLASSES),
            "^the model gives NaN or infinite logits for 2 test images: its training diverged$",
        ),
        (
            (keys, logits, ["cat", "dog", "fox"]),
            rf"^the model's classes are not those of {shards}; they differ in \['emu', 'fox'\]\. Run: dvc repro$",
        ),
        (
            (keys[::-1], logits, CLASSES),
            rf"^the predictions are of other test images than {shards} holds\. Run: dvc repro$",
        ),
    ):
        with pytest.raises(UserError, match=message):
            reevaluate(tmp_path, *arguments)
    assert not (tmp_path / "new.json").exists()
    assert not (tmp_path / "new").exists()
