"""Hand-made predictions with known metrics, tables and images."""

import hashlib
import json

import contents
import evaluated
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.library.common.console import UserError
from stages.library.evaluation import model_size
from stages.library.evaluation.evaluation import Model, write_evaluation, write_tables
from stages.library.evaluation.measures import Predictions, measure
from stages.library.figures import mosaics, thumbnails
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


def rows_of(path):
    return list(pd.read_csv(path).itertuples(index=False, name=None))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with an evaluation of known predictions, to be read only."""
    folder = tmp_path_factory.mktemp("known")
    evaluated.evaluate(folder, NAME, CLASSES, LABELS, sure_logits(PREDICTED))
    return folder


@pytest.fixture
def figures(root):
    return root / "evaluation" / NAME


def test_metrics_are_those_computed_by_hand(root):
    numbers = json.loads((root / "metrics" / f"{NAME}.json").read_text())
    interval = numbers.pop("top1_accuracy_interval")
    assert numbers == {
        "top1_accuracy": 0.8,
        "top5_accuracy": 1.0,
        "balanced_accuracy": round((3 / 4 + 2 / 3 + 3 / 3) / 3, 6),
        # F1 = 2 TP / (2 TP + FP + FN): cat 6/7, dog 4/6, emu 6/7.
        "macro_f1": round((6 / 7 + 4 / 6 + 6 / 7) / 3, 6),
        "macro_precision": round((3 / 3 + 2 / 3 + 3 / 4) / 3, 6),
        "weighted_precision": round((4 * 1 + 3 * 2 / 3 + 3 * 3 / 4) / 10, 6),
        "weighted_recall": 0.8,
        "weighted_f1": round((4 * 6 / 7 + 3 * 4 / 6 + 3 * 6 / 7) / 10, 6),
        # By chance (4 * 3 + 3 * 3 + 3 * 4) / 100 agree.
        "cohen_kappa": round((0.8 - 0.33) / (1 - 0.33), 6),
        # Pairs of an image of the class and another one, ties by half: cat 18 + 6 / 2 of 24, dog 12 + 8 / 2 of 21, ...
        "roc_auc": round((21 / 24 + 16 / 21 + 19.5 / 21) / 3, 6),
        # The precision at each image of the class: cat 1 three times and 4 / 10, dog 2 / 3 twice and 3 / 10, emu 3 / 4.
        "average_precision": round((3.4 / 4 + (4 / 3 + 0.3) / 3 + 0.75) / 3, 6),
        "classes": {
            "cat": {"precision": 1.0, "recall": 0.75, "f1": round(6 / 7, 6), "count": 4},
            "dog": {"precision": round(2 / 3, 6), "recall": round(2 / 3, 6), "f1": round(4 / 6, 6), "count": 3},
            "emu": {"precision": 0.75, "recall": 1.0, "f1": round(6 / 7, 6), "count": 3},
        },
        "log_loss": pytest.approx(-(8 * np.log(0.9) + 2 * np.log(0.05)) / 10, abs=2e-6),
        "expected_calibration_error": pytest.approx(0.1, abs=2e-6),
        "num_examples": 10,
        # The head's weights and head.json, and its backbone's parameters in float32 without ImageNet's classifier.
        "size_bytes": 1000 + 26 + 4 * (4_652_008 - 1281 * 1000),
        "cross_validation": {"top1_accuracy": {"mean": 0.912346, "std": 0.01}},
    }
    assert interval == {"low": 0.490162, "high": 0.943318}  # Wilson's, of 8 in 10


def test_more_classes_and_the_interval_have_the_metrics_of_cross_validation(tmp_path):
    labels = np.random.default_rng(1).integers(0, 7, 200)
    logits = evaluated.noisy_logits(labels, 7, accuracy=0.7) * np.random.default_rng(2).random((200, 1), np.float32)
    numbers = evaluated.evaluate(tmp_path, NAME, list("abcdefg"), labels, logits)
    assert json.loads((tmp_path / "metrics" / f"{NAME}.json").read_text()) == numbers
    assert numbers["top5_accuracy"] == round(metrics.topk_accuracy(logits, labels), 6) < 1
    found = softmax(logits)
    # As many bins as in cross-validation: heads call the function without a number of them, too.
    error = metrics.expected_calibration_error(found, labels)
    assert numbers["expected_calibration_error"] == round(error, 6)
    assert error == metrics.expected_calibration_error(found, labels, metrics.CALIBRATION_BINS)
    assert error != metrics.expected_calibration_error(found, labels, 10)


def test_what_is_not_defined_is_left_out_and_of_many_classes_there_are_no_scores_of_each():
    classes = tuple(f"{number:02}" for number in range(51))
    one = np.zeros(4, np.int64)
    numbers = measure(Predictions(np.arange(4), one, sure_logits(one, num_classes=50), classes[:50]))
    assert not {"roc_auc", "cohen_kappa"} & set(numbers)
    assert (numbers["average_precision"], numbers["classes"].keys()) == (1, {"00"})
    assert "classes" not in measure(Predictions(np.arange(4), one, sure_logits(one, num_classes=51), classes))


def test_names_of_classes_are_keys_that_steer_no_terminal():
    names = ("a\x1b[2Jb", "a\\u001b[2Jb", "c.d")
    numbers = measure(Predictions(np.arange(3), np.arange(3), sure_logits(np.arange(3)), names))
    assert list(numbers["classes"]) == ["a\\u001b[2Jb", "a\\u005cu001b[2Jb", "c.d"]


def test_the_validation_split_is_measured_where_the_head_did_not_see_it(tmp_path):
    seen = np.full((2, 3), np.nan, np.float32)
    validation = [0, 1, 2, 1, 0], np.concatenate([sure_logits([0, 1, 1]), seen])
    numbers = evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, sure_logits(PREDICTED), validation=validation)
    assert numbers["validation"] == {
        "top1_accuracy": 0.666667,
        "balanced_accuracy": 0.666667,
        "macro_f1": round((1 + 2 / 3 + 0) / 3, 6),
        "log_loss": pytest.approx(-(2 * np.log(0.9) + np.log(0.05)) / 3, abs=2e-6),
        "num_examples": 3,
    }
    everything = validation[0], np.full((5, 3), np.nan, np.float32)
    rest = tmp_path, NAME, CLASSES, LABELS, sure_logits(PREDICTED)
    assert "validation" not in evaluated.evaluate(*rest, validation=everything)
    with pytest.raises(UserError, match=r"logits for 2 validation images: its training diverged"):
        evaluated.evaluate(*rest, "finetuned", "finetuned", validation=validation)
    evaluated.evaluate(*rest, validation=validation)
    keys = pq.read_table(tmp_path / "evaluation" / NAME / "predictions.parquet")["key"].to_numpy()
    model = Model("ridge", "head", "efficientnet_lite0", tmp_path / "models" / NAME, "bottleneck")
    tested = Predictions(keys, np.array(LABELS), sure_logits(PREDICTED), tuple(CLASSES))
    out = tmp_path / "new.json", tmp_path / "new"
    with pytest.raises(UserError, match=r"predictions are of other validation images than"):
        write_evaluation(model, tested, tested, tmp_path / "tfrecord", evaluated.PARAMS, *out)


def test_only_what_predicts_weighs_and_of_a_backbone_as_much_as_its_head_reads(tmp_path):
    for name in ("best.weights.h5", *model_size.BOOKKEEPING):
        (tmp_path / name).write_bytes(bytes(1000))
    whole = 1000 + 4 * 4_652_008
    sizes = {None: 1000, "logits": whole, "joined": whole, "bottleneck": whole - 4 * 1281 * 1000}  # without classifier

    def size(*models):
        return model_size.in_bytes((tmp_path, *model) for model in models)

    assert {features: size(("efficientnet_lite0", features)) for features in sizes} == sizes
    whole, pooled = (size(("vgg16", features)) for features in ("logits", "bottleneck"))
    assert whole - pooled == 4 * ((7 * 7 * 512 + 1) * 4096 + 4097 * 4096 + 4097 * 1000)
    both, own = (size((name, "joined")) for name in ("efficientnet_lite0+xception", None))
    others = [size((name, "joined")) for name in ("efficientnet_lite0", "xception")]
    assert both - own == sum(others) - 2 * own
    # A combination has the files of all its heads, and each backbone once, with what any of them reads.
    heads = [("efficientnet_lite0", "bottleneck"), ("efficientnet_lite0+xception", "joined")]
    assert size((None, None), *heads) == both + 2 * own


def test_temperature_and_training_mode_stand_beside_the_metrics(tmp_path):
    more = {"training_mode_logits": sure_logits([0] * 10), "temperature": 0.5}
    numbers = evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, sure_logits(PREDICTED, 0.6), **more)
    # Before, all logits were half as far apart: p / (1 - p) is the root of what it is now, with two others.
    before = 1 / (1 + 2 * np.sqrt(0.2 / 0.6))
    found = pytest.approx(0.8 - before, abs=2e-6)
    assert numbers["calibration"] == {"temperature": 0.5, "expected_calibration_error_before": found}
    assert numbers["training_mode"] == {"top1_accuracy": 0.4}


def test_tables_count_cells_classes_and_confidences(figures, tmp_path):
    cells = [("cat", "cat", 3), ("cat", "dog", 1), ("dog", "dog", 2), ("dog", "emu", 1), ("emu", "emu", 3)]
    assert rows_of(figures / "confusion.csv") == cells
    rows = [("cat", 1.0, 0.75, 0.857143, 4), ("dog", 0.666667, 0.666667, 0.666667, 3), ("emu", 0.75, 1.0, 0.857143, 3)]
    assert rows_of(figures / "per_class.csv") == rows
    ((confidence, *counted),) = rows_of(figures / "reliability.csv")
    assert (confidence, counted) == (pytest.approx(0.9, abs=1e-6), [0.8, 10])
    # A class without test images is in no table.
    evaluated.evaluate(tmp_path, NAME, [*CLASSES, "fox"], LABELS, sure_logits(PREDICTED, num_classes=4))
    assert rows_of(tmp_path / "evaluation" / NAME / "per_class.csv") == rows


def test_predictions_give_the_metrics_again(root, figures):
    table = pq.read_table(figures / "predictions.parquet")
    assert table.column_names == ["key", "filename", "label", "prediction", "confidence", "probabilities"]
    assert (table["label"].to_pylist(), table["prediction"].to_pylist()) == (LABELS, PREDICTED)
    probabilities = np.array(table["probabilities"].to_pylist())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(table["confidence"].to_numpy(), probabilities.max(axis=1))
    assert np.mean(probabilities.argmax(axis=1) == LABELS) == 0.8
    shards = tfrecord.find_shards(root / "tfrecord", "test")
    found = [(record.key, record.filename) for path in shards for record in tfrecord.read_shard(path)]
    assert [*zip(table["key"].to_pylist(), table["filename"].to_pylist(), strict=True)] == found


def test_the_tables_have_types_classes_and_names_that_are_no_text(tmp_path):
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]))
    predictions = Predictions(np.array(["a" * 64, "b" * 64], object), np.array([0, 1]), logits, ("é", "dog", "emu"))
    write_tables(tmp_path, predictions, ["x.png", "\udce4.png"])
    table = pq.read_table(tmp_path / "predictions.parquet")
    vector = pa.list_(pa.field("element", pa.float32()), 3)
    assert [(field.name, field.type) for field in table.schema] == [
        ("key", pa.string()), ("filename", pa.string()), ("label", pa.int32()), ("prediction", pa.int32()),
        ("confidence", pa.float32()), ("probabilities", vector)]  # fmt: skip
    assert table.schema.metadata[b"decant"].decode() == '{"classes": ["é", "dog", "emu"]}'
    assert table.drop_columns("key").to_pylist() == [
        {"filename": "x.png", "label": 0, "prediction": 0, "confidence": 0.5, "probabilities": [0.5, 0.25, 0.25]},
        {"filename": r"\udce4.png", "label": 1, "prediction": 2, "confidence": 0.75,
         "probabilities": [0.125, 0.125, 0.75]},
    ]  # fmt: skip
    assert pq.read_metadata(tmp_path / "predictions.parquet").row_group(0).column(0).compression == "ZSTD"
    assert (tmp_path / "reliability.csv").read_text().splitlines()[1:] == ["0.500000,1.000000,1", "0.750000,0.000000,1"]


def test_the_evaluation_names_its_model_and_data_set_and_is_the_same_bytes_twice(root, figures, tmp_path):
    digest = hashlib.sha256((root / "tfrecord" / "dataset.json").read_bytes()).hexdigest()
    about = json.loads((figures / "evaluation.json").read_text())
    assert about.pop("dataset") == {"name": "noise", "sha256": digest}
    assert about == {"model": "ridge", "kind": "head", "backbone": "efficientnet_lite0"}
    assert (figures / "curve.csv").read_text() == (root / "models" / NAME / "curve.csv").read_text()
    evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, sure_logits(PREDICTED))
    assert contents.of(figures) == contents.of(tmp_path / "evaluation" / NAME)


def test_images_exist_with_and_without_mistakes(figures, tmp_path):
    evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, sure_logits(LABELS))
    paths = tmp_path / "evaluation" / NAME / "mistakes.png", figures / "mistakes.png", figures / "predictions.png"
    no_cards, two, four = (len(thumbnails.decode(path.read_bytes())) for path in paths)
    assert no_cards < two < four


def test_only_the_records_that_are_shown_are_read(tmp_path, monkeypatch):
    labels = np.arange(60) % 3
    predicted = np.where(np.arange(60) < 50, labels, (labels + 1) % 3)
    read, read_at = [], tfrecord.read_at

    def counted(file, path, offset, length):
        read.append((path.name, offset))
        return read_at(file, path, offset, length)

    monkeypatch.setattr(tfrecord, "read_at", counted)
    monkeypatch.setattr(tfrecord, "read_shard", lambda path: pytest.fail("a shard was scanned"))
    evaluated.evaluate(tmp_path, NAME, CLASSES, labels, sure_logits(predicted))
    assert 4 <= len(set(read)) == len(read) <= 8  # four at random and four mistakes


def test_the_most_confident_mistakes_come_first(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(mosaics, "write_predictions", lambda path, title, cards: shown.update({path.name: cards}))
    logits = sure_logits(PREDICTED)
    logits[6] = sure_logits([2], 0.99)[0]
    evaluated.evaluate(tmp_path, NAME, CLASSES, LABELS, logits)
    mistakes = [(card.actual, *card.likeliest[0]) for card in shown["mistakes.png"]]
    assert mistakes == [("dog", "emu", pytest.approx(0.99)), ("cat", "dog", pytest.approx(0.9))]
    assert [card.filename for card in shown["mistakes.png"]] == ["6.png", "3.png"]
    assert [len(card.likeliest) for card in shown["predictions.png"]] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("step", "broken", "last_class", "message"),
    [
        (
            1,
            2,
            "emu",
            r"^the model gives NaN or infinite logits for 2 test images: its training diverged\. Lower its .* rate$",
        ),
        (1, 0, "fox", r"^the model's classes are not those of .*; they differ in \['emu', 'fox'\]\. Run: dvc repro$"),
        (-1, 0, "emu", r"^the predictions are of other test images than .* holds\. Run: dvc repro$"),
    ],
)
def test_what_does_not_belong_together_is_rejected(root, figures, tmp_path, step, broken, last_class, message):
    keys = pq.read_table(figures / "predictions.parquet")["key"].to_numpy()[::step]
    logits = sure_logits(PREDICTED)
    logits[[3, 5][:broken], [1, 2][:broken]] = [np.nan, np.inf][:broken]
    model = Model("ridge", "head", "efficientnet_lite0", root / "models" / NAME, "bottleneck")
    predictions = Predictions(keys, np.array(LABELS), logits, ("cat", "dog", last_class))
    out = tmp_path / "new.json", tmp_path / "new"
    with pytest.raises(UserError, match=message):
        write_evaluation(model, predictions, None, root / "tfrecord", evaluated.PARAMS, *out)
    assert list(tmp_path.iterdir()) == []
