import csv
import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.library import bottlenecks, folds, metrics, trained_head
from stages.library.bottlenecks import Source
from stages.library.console import UserError

SOURCE = Source(backbone="tiny", input_size_px=32, fingerprint="f" * 64, classes=("Ameise", "Bär", "none", "犬"))
QUICK = {
    "softmax__epochs": 3,
    "dnn__epochs": 8,
    "dnn__learning_rate": 0.01,
    "dnn__hidden_units": [16],
    "xgboost__num_trees": 3,
    "xgboost__colsample_bytree": 1.0,
}


def write_bottlenecks(folder, n=120, labels=(0, 1, 3)):
    """Two shards of training, one of validation; class 2 has no picture."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 10)) * 2
    for name, count in (("train-00000-of-00002", n), ("train-00001-of-00002", n), ("validation-00000-of-00001", n)):
        writer = bottlenecks.ShardWriter(folder / f"{name}.parquet", SOURCE, 10, 6)
        if count:
            ids = rng.choice(labels, count)
            keys = [hashlib.sha256(f"{name} {i}".encode()).hexdigest() for i in range(count)]
            values = centres[ids] + rng.normal(size=(count, 10)) + 2
            writer.write(keys, ids, values, values[:, :6])
        writer.close()
    return folder


@pytest.fixture
def train(tmp_path, run_stage, write_params):
    def run(head, source, out="out", **changes):
        params = write_params(**QUICK | changes)
        run_stage("train_heads", "--params", params, "--head", head, "--bottlenecks", source, "--out", tmp_path / out)
        return tmp_path / out

    return run


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("ridge", "bottleneck"),
        ("softmax", "logits"),
        ("xgboost", "probabilities"),
        pytest.param("dnn", "bottleneck", marks=pytest.mark.slow),
    ],
)
def test_outs_agree_with_each_other(tmp_path, train, capsys, head, kind):
    source = write_bottlenecks(tmp_path / "features")
    out = train(head, source, **{f"{head}__features": kind})
    trained = trained_head.load(out)
    assert (trained.name, trained.features, trained.source) == (head, kind, SOURCE)
    features = bottlenecks.load(source, ("train", "validation"), kind)
    assert trained.dim == features.values.shape[1]
    assert metrics.top1_accuracy(trained.head.logits(features.values), features.labels) > 0.8

    table = pq.read_table(out / "out_of_fold.parquet")
    assert table["key"].to_pylist() == list(features.keys)
    assert table["label"].to_pylist() == list(features.labels)
    logits = np.array(table["logits"].to_pylist())
    assert logits.shape == (360, 4)
    fold_of = folds.assign(features.keys, folds.Params(folds=5, seed=0))
    accuracies = [metrics.top1_accuracy(logits[fold_of == f], features.labels[fold_of == f]) for f in range(5)]
    validation = json.loads((out / "cross_validation.json").read_text())
    assert validation == {
        "top1_accuracy": {"mean": pytest.approx(np.mean(accuracies)), "std": pytest.approx(np.std(accuracies, ddof=1))}
    }
    with (out / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["series"] for row in rows} == {"training", "held-out"}
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["loss"]) >= 0 for row in rows)
    assert f"cross-validated top-1 {np.mean(accuracies):.4f} ± " in capsys.readouterr().out


@pytest.mark.parametrize("head", ["ridge", "softmax", "xgboost", pytest.param("dnn", marks=pytest.mark.slow)])
def test_a_second_run_writes_the_same_bytes(tmp_path, train, head):
    source = write_bottlenecks(tmp_path / "features")
    first, second = train(head, source, "first"), train(head, source, "second")
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    assert len(files) == 6
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_one_class_is_an_error(tmp_path, train):
    with pytest.raises(UserError, match=r"at least 2 classes.*Bär"):
        train("ridge", write_bottlenecks(tmp_path / "features", labels=(1,)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pictures_for_the_folds_are_an_error(tmp_path, train, n):
    with pytest.raises(UserError, match=r"at least 2 classes|`cross_validation.folds`: .* 50 folds"):
        train("ridge", write_bottlenecks(tmp_path / "features", n=n), cross_validation__folds=50)


def test_an_empty_fold_is_an_error(tmp_path, train):
    with pytest.raises(UserError, match=r"`cross_validation.folds`: .* 50 folds for 60 pictures, fold .* is empty"):
        train("ridge", write_bottlenecks(tmp_path / "features", n=20), cross_validation__folds=50)


@pytest.mark.parametrize("name", ["head.json", "weights.safetensors"])
def test_a_damaged_head_is_a_one_line_error(tmp_path, train, name):
    out = train("ridge", write_bottlenecks(tmp_path / "features"))
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="no readable head") as caught:
        trained_head.load(out)
    assert "\n" not in str(caught.value)
    (out / name).unlink()
    with pytest.raises(UserError, match="no readable head"):
        trained_head.load(out)


def test_a_damaged_booster_is_a_one_line_error(tmp_path, train):
    out = train("xgboost", write_bottlenecks(tmp_path / "features"))
    (out / "model.ubj").write_bytes((out / "model.ubj").read_bytes()[:500])
    with pytest.raises(UserError, match="no readable head"):
        trained_head.load(out)
