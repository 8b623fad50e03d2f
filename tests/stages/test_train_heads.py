import json
import os

import contents
import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.features.source import Source
from stages.library.heads import calibration, folds, trained_head
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.records.preprocessing import Preprocessing
from stages.library.scoring import metrics, probabilities, selection
from tests.stages.library.test_fewshot import key_of

SOURCE = Source("tiny", Preprocessing(32), False, "a" * 64, "f" * 64, ("Ameise", "Bär", "none", "犬"))
QUICK = {"softmax__epochs": 3, "dnn__epochs": 8, "dnn__learning_rate": 0.01, "dnn__hidden_units": [16]}
QUICK |= {"xgboost__num_trees": 3, "xgboost__colsample_byround": 1.0}
KINDS = {"ridge": "bottleneck", "logistic": "joined", "softmax": "logits", "xgboost": "probabilities"}


class CaughtError(Exception):
    """Carries what a stand-in was given."""


def write_bottlenecks(folder, n=120, labels=(0, 1, 3), weights=None):
    """Two shards of training, one of validation; class 2 has no image."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 10)) * 2
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        ids = rng.choice(labels, n)
        values = centres[ids] + rng.normal(size=(n, 10)) + 2
        writer = cache.ShardWriter(folder / f"{name}.parquet", SOURCE, 10, 6)
        writer.write([key_of(f"{name} {i}") for i in range(n)], ids, values, values[:, :6], weights=weights)
        writer.close()
    return folder


def results(out):
    """Returns keys and logits of out_of_fold.parquet, and the content of cross_validation.json."""
    table, numbers = pq.read_table(out / "out_of_fold.parquet"), json.loads((out / "cross_validation.json").read_text())
    return table["key"].to_pylist(), np.array(table["logits"].to_pylist(), np.float32), numbers


@pytest.fixture
def train(tmp_path, run_stage, write_params):
    def run(head, source, out="out", **changes):
        params = write_params(**QUICK | changes)
        run_stage("train_heads", "--params", params, "--head", head, "--bottlenecks", source, "--out", tmp_path / out)
        return tmp_path / out

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("head", "kind"), [*KINDS.items(), ("dnn", "bottleneck")])
def test_outs_agree_with_each_other_and_a_second_run_writes_the_same_bytes(tmp_path, train, capsys, head, kind):
    source = write_bottlenecks(tmp_path / "features")
    out = train(head, source, **{f"{head}__features": kind})
    trained = trained_head.load(out)
    assert (trained.name, trained.features, trained.source) == (head, kind, SOURCE)
    features = cache.load(source, ("train", "validation"), kind)
    assert trained.dim == features.values.shape[1]
    assert metrics.top1_accuracy(trained.logits(features.values), features.labels) > 0.8
    keys, logits, found = results(out)
    assert keys == list(features.keys)
    five = folds.Params(folds=5, holdout_fraction={}, seed=0, temperature_scaling=True)
    fold_of = folds.assign(features.groups, features.labels, five, head)
    accuracies = [metrics.top1_accuracy(logits[fold_of == f], features.labels[fold_of == f]) for f in range(5)]
    both = [probabilities.softmax(scores) for scores in (logits * trained.temperature, logits)]
    errors = [metrics.expected_calibration_error(scores, features.labels) for scores in both]
    assert found["top1_accuracy"] == pytest.approx({"mean": np.mean(accuracies), "std": np.std(accuracies, ddof=1)})
    scores = [selection.measure(logits[fold_of == f], features.labels[fold_of == f]) for f in range(5)]
    for metric in selection.METRICS:
        values = [score[metric] for score in scores]
        assert found[metric] == pytest.approx({"mean": np.mean(values), "std": np.std(values, ddof=1)})
    assert found["expected_calibration_error"] == pytest.approx({"before": errors[0], "after": errors[1]})
    assert calibration.fit_temperature(logits, features.labels, np.ones(360)) == pytest.approx(1, abs=1e-3), (
        "they are calibrated"
    )
    rows = tables.read_csv(out / "curve.csv", tables.CURVE)
    assert {row["series"] for row in rows} == {"training", "held-out"}
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["loss"]) >= 0 for row in rows)
    assert f"cross-validated top-1 {np.mean(accuracies):.4f} ± " in capsys.readouterr().out
    assert contents.of(train(head, source, "again", **{f"{head}__features": kind})) == contents.of(out)


def test_a_head_validated_once_scores_that_part_and_is_fitted_on_all(tmp_path, train, capsys):
    source = write_bottlenecks(tmp_path / "features")
    out = train("ridge", source, cross_validation__holdout_fraction={"ridge": 0.25})
    features = cache.load(source, ("train", "validation"), "bottleneck")
    once = folds.Params(folds=5, holdout_fraction={"ridge": 0.25}, seed=0, temperature_scaling=True)
    held_out = folds.assign(features.groups, features.labels, once, "ridge") != folds.NEVER
    assert held_out.sum() == pytest.approx(90, abs=3)
    keys, logits, numbers = results(out)
    assert keys == list(features.keys), "what it was trained on is all of it"
    assert np.isnan(logits[~held_out]).all()
    accuracy = metrics.top1_accuracy(logits[held_out], features.labels[held_out])
    assert accuracy > 0.7
    assert numbers["top1_accuracy"] == {"mean": pytest.approx(accuracy)}
    assert f"{accuracy:.4f} on the {held_out.sum()} held out, 360 examples" in capsys.readouterr().out
    # Without temperature scaling logits stay as they are.
    plain = train("ridge", source, "plain", cross_validation__temperature_scaling=False)
    assert trained_head.load(plain).temperature == 1 != trained_head.load(out).temperature
    assert len(set(results(plain)[2]["expected_calibration_error"].values())) == 1


@pytest.mark.parametrize(
    ("features", "changes", "message"),
    [
        ({"labels": (1,)}, {}, r"at least 2 classes.*Bär"),
        ({"n": 5}, {"holdout_fraction": {"ridge": 1e-4}}, r"n.ridge` must leave some of the 15 images .* 0.0001"),
    ],
)
def test_too_few_images_are_an_error(tmp_path, train, features, changes, message):
    source = write_bottlenecks(tmp_path / "features", **features)
    with pytest.raises(UserError, match=message):
        train("ridge", source, **{f"cross_validation__{key}": value for key, value in changes.items()})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("softmax", {"softmax__weight_decay": 50, "softmax__epochs": 400}),
        ("ridge", {"ridge__penalties": [1.0, 1e-300]}),
    ],
)
def test_a_head_that_diverges_is_a_one_line_error_with_the_remedy(tmp_path, train, capfd, head, changes):
    source = write_bottlenecks(tmp_path / "features", n=4)
    with pytest.raises(UserError, match=r"^the head gives NaN or infinite .*Lower its learning rate .*penalties$"):
        train(head, source, cross_validation__folds=2, **changes)
    assert "Warning" not in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_fine_tuning_starts_from_no_head_that_diverged(tmp_path, run_stage, write_params, capfd):
    params = write_params(softmax__weight_decay=50, finetune__head_epochs=400)
    places = "--tensorboard", tmp_path / "board", "--out", tmp_path / "out"
    given = "--bottlenecks", write_bottlenecks(tmp_path / "features", n=4), *places
    with pytest.raises(UserError, match=r"^the head gives NaN or infinite .*Lower its learning rate"):
        run_stage("finetune", "--params", params, "--backbone", "efficientnet_lite0", *given)
    assert "Warning" not in capfd.readouterr().err


def test_a_head_that_diverges_only_on_all_rows_is_not_written(tmp_path, train, monkeypatch):
    fitted = DenseNetwork((Dense(np.full((10, 4), np.nan, np.float32), np.zeros(4, np.float32)),))
    monkeypatch.setattr("stages.plugins.heads.ridge.head.Trainer.fit", lambda *_: fitted)
    with pytest.raises(UserError, match="its training diverged"):
        train("ridge", write_bottlenecks(tmp_path / "features"))


def test_more_folds_than_images_are_as_many_as_there_can_be(tmp_path, train, capsys):
    train("ridge", write_bottlenecks(tmp_path / "features", n=3), cross_validation__folds=50)
    assert "of 50 folds, for 9 images fill no more" in capsys.readouterr().out


@pytest.mark.parametrize(("head", "name"), [("ridge", "weights.safetensors"), ("xgboost", "model.ubj")])
def test_a_damaged_head_is_a_one_line_error(tmp_path, train, head, name):
    out = train(head, write_bottlenecks(tmp_path / "features"))
    for damage in (lambda path: os.truncate(path, path.stat().st_size // 2), os.remove):
        damage(out / name)
        with pytest.raises(UserError, match=r"\A[^\n]*no readable head[^\n]*\Z"):
            trained_head.load(out)


def test_images_weigh_what_they_and_their_class_do_and_a_name_that_is_no_class_is_an_error(
    tmp_path, train, monkeypatch
):
    def trainer(examples, params, seed):
        raise CaughtError(examples.weights)

    source = write_bottlenecks(tmp_path / "features", n=4, weights=[0.5, 1, 2, 4])
    labels = cache.load(source, ("train", "validation"), "bottleneck").labels
    with pytest.raises(UserError, match=r"`class_weights` must name classes of .*Ameise.* Received: \['Bar'\]"):
        train("ridge", source, cross_validation__folds=2, class_weights={"Bar": 2})
    monkeypatch.setattr("stages.plugins.heads.ridge.head.Trainer", trainer)
    for setting, of_class in (("none", [1, 1, 1, 1]), ({"Bär": 3.0, "none": 9.0}, [1, 3, 9, 1])):
        with pytest.raises(CaughtError) as caught:
            train("ridge", source, cross_validation__folds=2, class_weights=setting)
        np.testing.assert_array_equal(caught.value.args[0], np.tile([0.5, 1, 2, 4], 3) * np.array(of_class)[labels])
