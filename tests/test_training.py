"""Training: order of the pictures, optimizers, resumption, and what lies on disk."""

import csv

import contents
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import write_pictures
from section import section

from stages.library import artifacts, checkpoints, networks, records, training
from stages.library.augmentation import NONE, Augmentation
from stages.library.checkpoints import Progress
from stages.library.console import UserError
from stages.library.preprocessing import Preprocessing
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


INPUT = Preprocessing(4)


def batch_bytes(stream, first, end):
    return [(images.numpy().tobytes(), targets.numpy().tobytes()) for images, targets in stream.batches(first, end)]


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


def test_a_pass_has_every_example_once_in_an_order_of_its_own(shards):
    stream = Stream(shards, INPUT, 2, 4, 5, NONE, seed=0)
    originals = sorted(image.tobytes() for images, _ in held_out(shards, INPUT, 2, 7) for image in images.numpy())
    passes = [
        [image.tobytes() for images, _ in stream.batches(4 * number, 4 * number + 4) for image in images.numpy()]
        for number in range(3)
    ]
    assert all(sorted(found) == originals for found in passes)
    assert len({tuple(found) for found in passes}) == 3


@pytest.mark.parametrize(("first", "end"), [(10, 20), (3, 4), (4, 12), (7, 18)])
def test_a_later_part_of_the_stream_is_the_same_alone(shards, first, end):
    stream = Stream(shards, INPUT, 2, 5, 4, Augmentation(True, 0.1, 0.1, 10.0), seed=3)
    whole = batch_bytes(stream, 0, 20)
    assert len(whole) == len(set(whole)) == 20
    assert batch_bytes(stream, first, end) == whole[first:end]
    other = Stream(shards, INPUT, 2, 5, 4, stream.augmentation, seed=4)
    assert batch_bytes(other, 0, 5) != whole[:5]


def test_pixels_and_targets_keep_together(shards):
    stream = Stream(shards, INPUT, 2, 5, 4, NONE, seed=0)

    def pairs(batches):
        return {
            (image.tobytes(), target.tobytes())
            for images, targets in batches
            for image, target in zip(images.numpy(), targets.numpy(), strict=True)
        }

    assert pairs(stream.batches(0, 10)) == pairs(held_out(shards, INPUT, 2, 3))


@pytest.fixture
def line():
    """A linear classifier of one feature into two classes: kernel [[2, 0]], bias [0, 0]."""
    import keras

    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.set_weights([np.array([[2.0, 0.0]]), np.zeros(2)])
    return model


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("cosine", 1.0, [0, 0.05, 0.1, 0.05, 0]),
        ("constant", 1.0, [0, 0.05, 0.1, 0.1, 0.1]),
        ("constant", 0.0, [0.1] * 5),
    ],
)
def test_the_learning_rate_follows_the_schedule(line, schedule, warmup, expected):
    settings = section("scratch", epochs=11, warmup_epochs=warmup, learning_rate=0.1, schedule=schedule)
    rate = training.compile_trainer(line, steps_per_epoch=10, params=settings).optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 5, 10, 60, 110)] == pytest.approx(expected, abs=1e-6)


def one_step(model, **changes):
    """Trains one step on a picture of feature 0, so that the cross-entropy has no gradient by the kernel."""
    given = {"schedule": "constant", "warmup_epochs": 0.0, "learning_rate": 0.1, "label_smoothing": 0.0} | changes
    trainer = training.compile_trainer(model, 1, section("scratch", **given))
    loss, _ = trainer.train_on_batch(np.zeros((1, 1)), np.array([[1.0, 0.0]]))
    kernel, bias = model.get_weights()
    return float(loss), kernel[0].tolist(), bias.tolist()


def test_adamw_shrinks_kernels_by_rate_times_decay(line):
    loss, kernel, bias = one_step(line, optimizer="adamw", weight_decay=0.5)
    assert loss == pytest.approx(np.log(2))
    assert kernel == pytest.approx([2 * (1 - 0.1 * 0.5), 0], abs=1e-6)
    assert bias == pytest.approx([0.1, -0.1], abs=1e-5)  # Adam's first step is the learning rate


def test_adam_has_the_penalty_in_the_loss_and_scales_its_gradient(line):
    loss, kernel, bias = one_step(line, optimizer="adam", weight_decay=0.5)
    assert loss == pytest.approx(np.log(2) + 0.5 / 2 * 2**2)
    assert kernel == pytest.approx([2 - 0.1, 0], abs=1e-5)
    assert bias == pytest.approx([0.1, -0.1], abs=1e-5)


def test_sgd_moves_against_the_gradient_of_loss_and_penalty_with_momentum(line):
    loss, kernel, bias = one_step(line, optimizer="sgd", weight_decay=0.5)
    assert loss == pytest.approx(np.log(2) + 1)
    assert kernel == pytest.approx([2 - 0.1 * 0.5 * 2, 0])
    assert bias == pytest.approx([0.05, -0.05])  # half of the probability is on the wrong class
    assert training.compile_trainer(line, 1, section("scratch", optimizer="sgd")).optimizer.momentum == 0.9


def test_without_weight_decay_the_loss_is_the_cross_entropy(line):
    loss, kernel, _ = one_step(line, optimizer="adam", weight_decay=0.0)
    assert loss == pytest.approx(np.log(2))
    assert kernel == [2, 0]


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
    trained_on = set(pq.read_table(out / "trained_on.parquet")["key"].to_pylist())
    assert trained_on == keys_of(project.shards, "train") | keys_of(project.shards, "validation")
    assert not trained_on & keys_of(project.shards, "test")


def keys_of(shards, split):
    return {record.key for path in records.find_shards(shards, split) for record in records.read_shard(path)}


def hide_test_split(shards):
    """Leaves nothing in the test shards that could be read: whoever opens them fails."""
    for path in records.find_shards(shards, "test"):
        path.write_bytes(b"no record")


def test_a_network_is_trained_and_its_epoch_chosen_without_the_test_split(project):
    whole = contents.of(project("train_scratch", "whole"))
    hide_test_split(project.shards)
    assert contents.of(project("train_scratch", "blind")) == whole


class Killed(BaseException):
    """Stands for SIGKILL: no handler of an ordinary exception sees it."""


PARTS_OF_PASSES = {"scratch__steps_per_epoch": 2, "scratch__batch_norm": True, "scratch__optimizer": "sgd"}


@pytest.mark.parametrize(
    ("instant", "changes"),
    [
        ("before the checkpoint", {}),
        ("after the weights", {}),
        ("after the state", {}),
        ("after the state", PARTS_OF_PASSES),
    ],
)
def test_a_killed_training_resumes_to_the_same_bytes(project, write_params, monkeypatch, capsys, instant, changes):
    write_params(**changes)
    whole = contents.of(project("train_scratch", "whole"))
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
    assert contents.of(project("train_scratch", "resumed")) == whole
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
    dropped = [row["variable"] for row in rows if row["variable"].startswith("dropout")]
    assert not dropped  # seeds are no variables of the network
    config = artifacts.read_json(out / "config.json")
    assert config["backbone"] == "efficientnet_lite0"
    assert config["classes"] == ["cat", "dog", "emu"]
    keys, labels, logits = networks.load(out).predict_shards(records.find_shards(project.shards, "test"))
    assert np.isfinite(logits).all()
    assert len(set(keys)) == len(labels)
    assert not set(keys) & set(pq.read_table(out / "trained_on.parquet")["key"].to_pylist())
    hide_test_split(project.shards)  # what is not read changes nothing
    for path in features.glob("test-*.parquet"):
        path.write_bytes(b"no features")
    again = project("finetune", "again", *arguments)
    assert contents.of(out) == contents.of(again)


def test_no_network_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="holds no trained network"):
        networks.load(tmp_path)


def test_every_kernel_decays_and_nothing_else_does():
    import keras

    layers = keras.layers
    pixels = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="bn")(layers.SeparableConv2D(4, 3, name="separable")(pixels))
    model = keras.Model(pixels, layers.Dense(2, name="dense")(layers.GlobalAveragePooling2D()(x)))
    names = {variable.path for variable in model.variables if training.is_kernel(variable)}
    assert names == {"separable/depthwise_kernel", "separable/pointwise_kernel", "dense/kernel"}


def test_a_flipped_bit_in_a_shard_ends_in_one_line_before_the_training(project):
    path = records.find_shards(project.shards, "validation")[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path.name} is damaged \(checksum or length\). Run: dvc repro -f tfrecord"):
        project("train_scratch", "scratch")
    assert not (project.shards.parent / "scratch").exists()


def test_a_shard_of_more_classes_is_found_out(shards):
    training.check_shards(shards, 2)
    with pytest.raises(UserError, match=r"train-\S+ holds class 1 where there are 1. Run: dvc repro -f tfrecord"):
        training.check_shards(shards, 1)
