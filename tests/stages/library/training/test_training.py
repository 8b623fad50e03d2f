"""Training by its stages: what is learnt, resumption, and what lies on disk."""

from typing import Any

import contents
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import write_images

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.features.source import Source
from stages.library.records import manifest as manifests
from stages.library.records import tfrecord
from stages.library.records.preprocessing import Preprocessing
from stages.library.scoring import selection
from stages.library.training import checkpoints, trained_network
from stages.plugins.heads.softmax import head as softmax

SMALL = {
    "scratch__input_size_px": 16,
    "scratch__epochs": 3,
    "scratch__batch_size": 16,
    "finetune__epochs": 2,
    "finetune__head_epochs": 5,
    "finetune__batch_size": 16,
    "extract__input_size_px": 32,
}


@pytest.fixture
def shards(tmp_path, make_records):
    """Shards of a folder of images, beside the params.yaml that they were made with."""
    images = write_images(tmp_path / "images", per_class=30)
    return make_records(dataset__name="folder", dataset__folder=str(images), **SMALL)


@pytest.fixture
def run(tmp_path, shards, write_params, run_stage):
    """Runs a stage on the shards, with changed parameters, and returns its out."""

    def run(name, out, *arguments, **changes):
        common = ("--params", write_params(**SMALL | changes), "--records", shards, "--out", tmp_path / out)
        run_stage(name, *common, "--tensorboard", tmp_path / "tensorboard" / out, *arguments)
        return tmp_path / out

    return run


@pytest.mark.slow
def test_scratch_learns_and_writes_what_loads_again(run, shards, capsys):
    out = run("train_scratch", "scratch")
    assert (out / "last.weights.h5").exists()
    curve = pd.read_csv(out / "curve.csv")
    assert curve.columns.tolist() == ["step", "series", "accuracy", "loss"]
    assert curve["step"].tolist() == [1, 2, 3, 0, 1, 2, 3]
    assert (out / "dvclive" / "plots" / "metrics" / "eval" / "accuracy.tsv").exists()
    assert "train-scratch: " in capsys.readouterr().out
    network = trained_network.load(out)
    keys, labels, logits = network.predict_shards(tfrecord.find_shards(shards, "validation"))
    assert logits.shape == (len(keys), 3)
    best = curve[curve["series"] == "held-out"]["accuracy"].max()
    assert np.mean(logits.argmax(axis=1) == labels) == pytest.approx(best, abs=1e-6)
    trained_on = set(pq.read_table(out / "trained_on.parquet")["key"].to_pylist())
    assert trained_on == set(manifests.read(shards, ["train", "validation"]).keys.astype(str))
    assert not trained_on & set(manifests.read(shards, ["test"]).keys.astype(str))
    hide_test_split(shards)  # neither the network nor the choice of its epoch needs it
    assert contents.of(run("train_scratch", "blind")) == contents.of(out)


def hide_test_split(shards):
    """Leaves nothing in the test shards that could be read: whoever opens them fails."""
    for path in tfrecord.find_shards(shards, "test"):
        path.write_bytes(b"no record")


@pytest.mark.slow
def test_the_best_epoch_is_that_of_the_metric_of_selection(run, shards):
    out = run("train_scratch", "scratch", evaluate__selection_metric="macro_f1", class_weights={"cat": 3.0})
    curve = pd.read_csv(out / "dvclive" / "plots" / "metrics" / "eval" / "macro_f1.tsv", sep="\t")["macro_f1"]
    assert len(curve) == 4
    _, labels, logits = trained_network.load(out).predict_shards(tfrecord.find_shards(shards, "validation"))
    assert selection.measure(logits, labels)["macro_f1"] == pytest.approx(curve.max(), abs=1e-6)


class Killed(BaseException):
    """Stands for SIGKILL: no handler of an ordinary exception sees it."""


INSTANTS = {"before the checkpoint": 1, "after the weights": 1, "after the state": 2}  # and epochs that are kept
PARTS_OF_PASSES = {"scratch__steps_per_epoch": 2, "scratch__batch_norm": True, "scratch__optimizer": "sgd"}
PARTS_OF_PASSES |= {"evaluate__selection_metric": "log_loss", "scratch__flip": "alternating"}
PARTS_OF_PASSES |= {"scratch__whitening": True, "scratch__convolutions": 2, "scratch__pooling": "max"}


def kill(run, monkeypatch, instant, **changes):
    """Runs train_scratch, which is killed in its second epoch."""
    save, write_json = checkpoints.Checkpoints.save, artifacts.write_json

    def save_until(self, logs):
        if (self.finished, instant) == (1, "before the checkpoint"):
            raise Killed
        save(self, logs)
        if (self.finished, instant) == (2, "after the state"):
            raise Killed

    def write_until(path, content):
        if (instant, len(content.get("history", ()))) == ("after the weights", 3):
            raise Killed
        write_json(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", save_until)
        patch.setattr(artifacts, "write_json", write_until)
        with pytest.raises(Killed):
            run("train_scratch", instant, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "instants"), [({}, INSTANTS), (PARTS_OF_PASSES, ["after the state"])])
def test_a_killed_training_resumes_to_the_same_bytes(run, tmp_path, monkeypatch, capsys, changes, instants):
    whole = contents.of(run("train_scratch", "whole", **changes))
    for instant in instants:
        kill(run, monkeypatch, instant, **changes)
        assert not (tmp_path / instant).exists()
        assert contents.of(run("train_scratch", instant, **changes)) == whole
        assert f"resuming after epoch {INSTANTS[instant]} of 3" in capsys.readouterr().out
    kill(run, monkeypatch, "after the state", **changes)
    for changed in ({"scratch__learning_rate": 0.002}, {"class_weights": {"cat": 2.0}}):  # start anew
        assert contents.of(run("train_scratch", "changed", **changes | changed)) != whole
        assert "resuming" not in capsys.readouterr().out


@pytest.mark.slow
def test_finetune_starts_from_the_head_and_is_never_worse(run, shards, run_stage, tmp_path, capsys):
    features = tmp_path / "bottlenecks"
    chosen = ("--backbone", "efficientnet_lite0")
    places = ("--params", tmp_path / "params.yaml", "--records", shards, "--out", features)
    run_stage("bottleneck_extract", *chosen, *places)
    arguments = (*chosen, "--bottlenecks", features)
    out = run("finetune", "finetuned", *arguments)
    table = pd.read_csv(out / "variables.csv")
    head = table["variable"].str.startswith("classifier/")
    assert (set(table["origin"][head]), set(table["origin"][~head])) == ({"fresh"}, {"restored"})
    assert set(table["state"]) == {"trained", "frozen"}
    assert not table["variable"].str.startswith("dropout").any()  # seeds are no variables of the network
    network = trained_network.load(out)
    assert (network.backbone, network.classes) == ("efficientnet_lite0", ("cat", "dog", "emu"))
    keys, labels, logits = network.predict_shards(tfrecord.find_shards(shards, "test"))
    assert np.isfinite(logits).all()
    assert len(set(keys)) == len(labels)
    assert not set(keys) & set(pq.read_table(out / "trained_on.parquet")["key"].to_pylist())
    start = pd.read_csv(out / "curve.csv").query("step == 0")
    assert (start["series"].tolist(), start["accuracy"].item() > 0.5) == (["held-out"], True)  # the fitted head
    hide_test_split(shards)  # what is not read changes nothing
    for path in features.glob("test-*.parquet"):
        path.write_bytes(b"no features")
    assert contents.of(run("finetune", "again", *arguments)) == contents.of(out)
    # Such a rate destroys the network.
    changes = {"finetune__learning_rate": 30.0, "finetune__warmup_epochs": 0.0, "finetune__optimizer": "adam"}
    worse = run("finetune", "worse", *arguments, **changes)
    curve = pd.read_csv(worse / "curve.csv").query("series == 'held-out'").set_index("step")["accuracy"]
    assert curve[0] > curve[1:].max()
    assert "best epoch 0 of 2" in capsys.readouterr().out
    validation = tfrecord.find_shards(shards, "validation")
    _, labels, logits = trained_network.load(worse).predict_shards(validation)
    assert np.mean(logits.argmax(axis=1) == labels) == pytest.approx(curve[0], abs=1e-6)


def test_finetunes_first_head_is_fitted_as_the_softmax_head(write_params, run_stage, tmp_path, monkeypatch):
    def trainer(examples, params, seed):
        raise Killed(params, examples.num_classes, seed)

    source = Source("efficientnet_lite0", Preprocessing(32), False, "", "", ("cat", "dog"))
    nothing = np.empty(0, object), np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0), np.empty(0, object)
    features = cache.Features(*nothing, np.empty((0, 3), np.float16), source)
    monkeypatch.setattr(cache, "load", lambda *arguments: features)
    monkeypatch.setattr(softmax, "Trainer", trainer)
    changed: dict[str, Any] = {"learning_rate": 0.25, "momentum": 0.5, "weight_decay": 0.125, "dropout": 0.75}
    changed["batch_size"] = 9
    given = {f"softmax__{key}": value for key, value in changed.items()}
    path = write_params(**given, softmax__features="logits", finetune__head_epochs=7, finetune__seed=3)
    places = ("--bottlenecks", tmp_path, "--tensorboard", tmp_path, "--out", tmp_path / "out")
    with pytest.raises(Killed) as caught:
        run_stage("finetune", "--params", path, "--backbone", "efficientnet_lite0", *places)
    assert caught.value.args == (softmax.Params(features="bottleneck", epochs=7, **changed), 2, 3)


def test_a_diverging_training_and_a_flipped_bit_in_a_shard_end_in_one_line(run, shards, tmp_path):
    with pytest.raises(UserError, match="Lower the learning rate"):
        run(
            "train_scratch", "scratch", scratch__learning_rate=1e6, scratch__optimizer="sgd", scratch__warmup_epochs=0.0
        )
    path = tfrecord.find_shards(shards, "validation")[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path.name} is damaged \(checksum or length\). Run: dvc repro -f tfrecord"):
        run("train_scratch", "scratch")
    assert not (tmp_path / "scratch").exists()
