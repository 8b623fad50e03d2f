"""Training from scratch and fine-tuning: order, resumption, what is trained and what lies on disk."""

import csv

import numpy as np
import pandas as pd
import pytest
from conftest import write_pictures

from stages.library import artifacts, backbones, checkpoints, finetuning, networks, params, records, scratch, training
from stages.library.augmentation import Augmentation
from stages.library.checkpoints import Progress
from stages.library.console import UserError
from stages.library.training_data import Stream, held_out

SMALL = {
    "scratch__input_size_px": 16,
    "scratch__epochs": 3,
    "scratch__batch_size": 16,
    "finetune__epochs": 2,
    "finetune__head_epochs": 5,
    "finetune__batch_size": 16,
    "extract__input_size_px": 32,
}


class Project:
    """A folder of pictures that went through fetch and tfrecord; called, it runs a stage on it and returns the out."""

    def __init__(self, params_path, shards, run_stage):
        self.params, self.shards, self._run_stage = params_path, shards, run_stage

    def __call__(self, name, out, *arguments):
        folder = self.shards.parent
        common = ("--params", self.params, "--records", self.shards, "--out", folder / out)
        self._run_stage(name, *common, "--tensorboard", folder / "tensorboard" / out, *arguments)
        return folder / out


@pytest.fixture
def project(tmp_path, write_params, run_stage):
    pictures = write_pictures(tmp_path / "pictures", per_class=30)
    path = write_params(dataset__name="folder", dataset__folder=str(pictures), **SMALL)
    shards = tmp_path / "tfrecord"
    run_stage("fetch", "--params", path, "--out", tmp_path / "raw")
    run_stage(
        "tfrecord",
        "--params",
        path,
        "--raw",
        tmp_path / "raw",
        "--out",
        shards,
        "--examples",
        tmp_path / "examples.png",
    )

    return Project(path, shards, run_stage)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def batch_bytes(stream, first, end):
    return [(images.numpy().tobytes(), targets.numpy().tobytes()) for images, targets in stream.epochs(first, end)]


@pytest.fixture
def shards(tmp_path):
    rng = np.random.default_rng(0)
    from stages.library import pictures

    paths = records.shard_paths(tmp_path / "shards", "train", 2)
    paths[0].parent.mkdir()
    for shard, path in enumerate(paths):
        found = [pictures.normalise(pixels) for pixels in rng.integers(0, 256, (10, 4, 4, 3), np.uint8)]
        records.write_shard(
            path,
            (
                records.Record(f.key, f.encoded, f.format, 4, 4, (shard + i) % 2, "x", f"{i}")
                for i, f in enumerate(found)
            ),
        )
    return paths


def test_an_epoch_has_every_example_once_in_an_order_of_its_own(shards):
    stream = Stream(shards, 4, 2, 5, Augmentation(False, 0.0, 0.0, 0.0), seed=0)
    originals = sorted(image.tobytes() for images, _ in held_out(shards, 4, 2, 7) for image in images.numpy())
    epochs = [
        [image.tobytes() for images, _ in stream.epochs(epoch, epoch + 1) for image in images.numpy()]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == originals for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_stream_from_a_later_epoch_is_the_rest_of_the_whole_stream(shards):
    stream = Stream(shards, 4, 2, 4, Augmentation(True, 0.1, 0.1, 10.0), seed=3)
    assert batch_bytes(stream, 2, 4) == batch_bytes(stream, 0, 4)[10:]
    assert batch_bytes(stream, 0, 1) != batch_bytes(Stream(shards, 4, 2, 4, stream.augmentation, seed=4), 0, 1)


def test_pixels_and_targets_keep_together(shards):
    stream = Stream(shards, 4, 2, 4, Augmentation(False, 0.0, 0.0, 0.0), seed=0)

    def pairs(batches):
        return {
            (image.tobytes(), target.tobytes())
            for images, targets in batches
            for image, target in zip(images.numpy(), targets.numpy(), strict=True)
        }

    assert pairs(stream.epochs(0, 2)) == pairs(held_out(shards, 4, 2, 3))


def test_the_learning_rate_rises_and_falls():
    import keras

    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    settings = parse_scratch(epochs=11, warmup_epochs=1.0, learning_rate=0.1)
    schedule = training.compile_trainer(model, steps_per_epoch=10, params=settings).optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-6)


def parse_scratch(**changes):
    from conftest import ROOT

    defaults = params.load(ROOT / "params.yaml")["scratch"]
    return scratch.Params(**{**{name: getattr(defaults, name) for name in defaults.__dataclass_fields__}, **changes})


def test_the_published_network_has_the_published_shape():
    model = scratch.build(10, parse_scratch(activation="linear"))
    # 7x7x3x32+32, 3x3x32x64+64, 2x2x64x128+128, 512x1024+1024, 1024x128+128, 128x10+10
    assert model.count_params() == 4736 + 18496 + 32896 + 525312 + 131200 + 1290
    assert model.get_layer("flatten").output.shape == (None, 512)
    spread = float(np.std(model.get_layer("dense_1").kernel))
    # A normal distribution cut at two standard deviations has 0.88 of its spread.
    assert spread == pytest.approx(0.05 * 0.8796, rel=0.01)
    black, white = (model.predict(np.full((1, 32, 32, 3), value), verbose=0) for value in (0.0, 255.0))
    assert np.abs(white - black).max() > 0.01


def test_the_best_epoch_is_the_most_accurate_and_then_the_surest():
    history = [
        {"val_accuracy": accuracy, "val_loss": loss}
        for accuracy, loss in ((0.5, 1.0), (0.9, 0.5), (0.9, 0.4), (0.8, 0.1))
    ]
    assert Progress(history).best == 2


def test_scratch_learns_and_writes_what_loads_again(project, capsys):
    out = project("train_scratch", "scratch")
    assert {"best.weights.h5", "last.weights.h5", "config.json", "curve.csv"} <= {path.name for path in out.iterdir()}
    curve = pd.read_csv(out / "curve.csv")
    assert list(curve.columns) == ["step", "series", "accuracy", "loss"]
    assert curve["step"].tolist() == [1, 2, 3, 1, 2, 3]
    assert (out / "dvclive" / "plots" / "metrics" / "eval" / "accuracy.tsv").exists()
    assert "train-scratch: " in capsys.readouterr().out
    network = networks.load(out)
    keys, labels, logits = network.predict_shards(records.find_shards(project.shards, "validation"))
    assert logits.shape == (len(keys), 3)
    best = curve[curve["series"] == "held-out"]["accuracy"].max()
    assert np.mean(logits.argmax(axis=1) == labels) == pytest.approx(best, abs=1e-6)


class Killed(BaseException):
    """Stands for SIGKILL: no handler of an ordinary exception sees it."""


@pytest.mark.parametrize("instant", ["before the checkpoint", "after the weights", "after the state"])
def test_a_killed_training_resumes_to_the_same_bytes(project, monkeypatch, capsys, instant):
    whole = contents(project("train_scratch", "whole"))
    save, write_json = checkpoints.Checkpoints.save, artifacts.write_json

    def killed_save(self, logs):
        if len(self.progress.history) == 1 and instant == "before the checkpoint":
            raise Killed
        save(self, logs)
        if len(self.progress.history) == 2 and instant == "after the state":
            raise Killed

    def killed_write(path, content):
        if path.name == "state.json" and len(content["history"]) == 2 and instant == "after the weights":
            raise Killed
        write_json(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", killed_save)
        patch.setattr(artifacts, "write_json", killed_write)
        with pytest.raises(Killed):
            project("train_scratch", "resumed")
    assert not (project.shards.parent / "resumed").exists()
    assert contents(project("train_scratch", "resumed")) == whole
    finished = 2 if instant == "after the state" else 1
    assert f"resuming after epoch {finished} of 3" in capsys.readouterr().out


def test_a_changed_parameter_starts_anew(project, write_params, capsys, monkeypatch):
    def stop(self, logs):
        save(self, logs)
        raise Killed

    save = checkpoints.Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", stop)
        with pytest.raises(Killed):
            project("train_scratch", "scratch")
    write_params(scratch__learning_rate=0.002)
    project("train_scratch", "scratch")
    assert "resuming" not in capsys.readouterr().out


def test_a_diverging_training_is_one_clear_error(project, write_params):
    write_params(scratch__learning_rate=1e30, scratch__warmup_epochs=0.0)
    with pytest.raises(UserError, match="Lower the learning rate"):
        project("train_scratch", "scratch")


@pytest.fixture(scope="module")
def built():
    training.prepare(0)
    return backbones.lookup("efficientnet_lite0").build(32)


@pytest.fixture
def lite0(built):
    """The network with random weights, all of its layers trainable, and what is known of it."""
    for layer in built.layers:
        layer.trainable = True
    return built, backbones.lookup("efficientnet_lite0").BACKBONE


def parse_finetune(**changes):
    from conftest import ROOT

    defaults = params.load(ROOT / "params.yaml")["finetune"]
    return finetuning.Params(**{**{name: getattr(defaults, name) for name in defaults.__dataclass_fields__}, **changes})


@pytest.mark.parametrize(("blocks", "batch_norm"), [(0, True), (2, True), (2, False), (9, True), (9, False)])
def test_freezing_leaves_the_last_blocks(lite0, blocks, batch_norm):
    import keras

    pretrained, backbone = lite0
    model = finetuning.build(pretrained, 4)
    finetuning.freeze(model, backbone, parse_finetune(trained_blocks=blocks, train_batch_norm=batch_norm))
    trained = {layer.name for layer in model.layers if layer.trainable and layer.trainable_variables}
    names = list(backbone.blocks)
    if blocks < len(names):
        boundary = backbone.blocks[names[len(names) - blocks - 1]]
        below = {layer.name for layer in keras.Model(model.input, model.get_layer(boundary).output).layers}
        assert not trained & below
        assert trained == {
            layer.name
            for layer in model.layers
            if layer.name not in below
            and layer.variables
            and (batch_norm or not isinstance(layer, keras.layers.BatchNormalization))
        }
    else:
        assert "stem" in str(sorted(trained)) or len(trained) > 50
    assert finetuning.CLASSIFIER in trained


def test_a_frozen_batch_norm_keeps_its_statistics(lite0):
    import keras

    pretrained, backbone = lite0
    model = finetuning.build(pretrained, 4)
    finetuning.freeze(model, backbone, parse_finetune(trained_blocks=1, train_batch_norm=True))
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [[array.copy() for array in layer.get_weights()] for layer in layers]
    trainer = training.compile_trainer(model, 2, parse_finetune(warmup_epochs=0.0, learning_rate=0.01))
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
    trainer.fit(images, np.eye(4)[[0, 1, 2, 3] * 2], epochs=1, verbose=0, shuffle=False)
    for layer, old in zip(layers, before, strict=True):
        unchanged = all(np.array_equal(a, b) for a, b in zip(old, layer.get_weights(), strict=True))
        assert unchanged == (not layer.trainable), layer.name
    assert any(layer.trainable for layer in layers)


def test_too_many_blocks_are_an_error_that_names_them(lite0):
    pretrained, backbone = lite0
    with pytest.raises(UserError, match=r"`finetune.trained_blocks` must be at most 9.*stem.*Received: 10"):
        finetuning.freeze(finetuning.build(pretrained, 4), backbone, parse_finetune(trained_blocks=10))


@pytest.mark.slow
def test_finetune_starts_from_the_head_and_says_what_it_trains(project, run_stage, tmp_path):
    features = tmp_path / "bottlenecks"
    run_stage(
        "bottleneck_extract",
        "--params",
        project.params,
        "--backbone",
        "efficientnet_lite0",
        "--records",
        project.shards,
        "--out",
        features,
    )
    arguments = ("--backbone", "efficientnet_lite0", "--bottlenecks", features)
    out = project("finetune", "finetuned", *arguments)
    with (out / "variables.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["origin"] for row in rows if row["variable"].startswith("classifier/")} == {"fresh"}
    assert {row["origin"] for row in rows if not row["variable"].startswith("classifier/")} == {"restored"}
    assert {row["state"] for row in rows} == {"trained", "frozen"}
    config = artifacts.read_json(out / "config.json")
    assert config["backbone"] == "efficientnet_lite0"
    assert config["classes"] == ["cat", "dog", "emu"]
    keys, labels, logits = networks.load(out).predict_shards(records.find_shards(project.shards, "test"))
    assert np.isfinite(logits).all()
    assert len(set(keys)) == len(labels)
    again = project("finetune", "again", *arguments)
    assert contents(out) == contents(again)


def test_no_network_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="holds no trained network"):
        networks.load(tmp_path)
