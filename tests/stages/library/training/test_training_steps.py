"""The stream of training examples, their random changes, and single steps of the optimizers, computed by hand."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import sharded
import tensorflow as tf
from section import section

from stages.library.common.console import UserError
from stages.library.records import manifest as manifests
from stages.library.records.preprocessing import Preprocessing
from stages.library.training import loop as training
from stages.library.training.batches import Augmentation, Stream, augment, changed, held_out

INPUT, UNCHANGED = Preprocessing(4), Augmentation(False, 0.0, 0.0, 0.0)


def batch_bytes(batches):
    return [tuple(part.numpy().tobytes() for part in batch) for batch in batches]


@pytest.fixture
def shards(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    records = [sharded.record(image, number % 2) for number, image in enumerate(pixels)]
    sharded.write(tmp_path / "shards", {"train": [records[:12], [], records[12:]]})
    return replace(manifests.read(tmp_path / "shards", ["train"]), weights=np.linspace(0.5, 5, 20))


def test_a_pass_has_every_example_once_with_its_target_and_weight_in_an_order_of_its_own(shards):
    stream = Stream(shards, INPUT, 2, 5, UNCHANGED, seed=0)
    examples = batch_bytes(held_out(shards, INPUT, 2, 7).unbatch())
    weights = [np.float32(weight).tobytes() for weight in shards.weights]
    originals = sorted((*example, weight) for example, weight in zip(examples, weights, strict=True))
    passes = [batch_bytes(stream.batches(4 * number, 4 * number + 4).unbatch()) for number in range(3)]
    assert all(sorted(found) == originals for found in passes)
    assert len({tuple(found) for found in passes}) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("first", "end"), [(10, 20), (3, 4), (4, 12), (7, 18)])
def test_a_later_part_of_the_stream_is_the_same_alone(shards, first, end):
    stream, other = (Stream(shards, INPUT, 2, 4, Augmentation(True, 0.1, 0.1, 10.0), seed) for seed in (3, 4))
    whole = batch_bytes(stream.batches(0, 20))
    assert len(whole) == len(set(whole)) == 20
    assert batch_bytes(stream.batches(first, end)) == whole[first:end]
    assert batch_bytes(other.batches(0, 5)) != whole[:5]


@pytest.fixture
def line():
    """A linear classifier of one feature into two classes: kernel [[2, 0]], bias [0, 0]."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.set_weights([np.array([[2.0, 0.0]]), np.zeros(2)])
    return model


RATES = [("cosine", 1.0, [0, 0.05, 0.1, 0.05, 0]), ("constant", 1.0, [0, 0.05, 0.1, 0.1, 0.1])]


@pytest.mark.parametrize(("schedule", "warmup", "expected"), [*RATES, ("constant", 0.0, [0.1] * 5)])
def test_the_learning_rate_follows_the_schedule(line, schedule, warmup, expected):
    settings = section("scratch", epochs=11, warmup_epochs=warmup, learning_rate=0.1, schedule=schedule)
    rate = training.compile_trainer(line, steps_per_epoch=10, params=settings).optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 5, 10, 60, 110)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "decay", "loss", "kernel", "bias"),
    [
        ("adamw", 0.5, np.log(2), 2 * (1 - 0.1 * 0.5), 0.1),  # shrinks by rate times decay
        ("adam", 0.5, np.log(2) + 0.5 / 2 * 2**2, 2 - 0.1, 0.1),  # the first step is the rate, for the penalty, too
        ("sgd", 0.5, np.log(2) + 1, 2 - 0.1 * 0.5 * 2, 0.05),  # half of the probability is on the wrong class
        ("adam", 0.0, np.log(2), 2, 0.1),
    ],
)
def test_a_step_moves_against_the_gradient_of_loss_and_penalty(line, optimizer, decay, loss, kernel, bias):
    """One step on an image of feature 0, so that the cross-entropy has no gradient by the kernel."""
    given = {"schedule": "constant", "warmup_epochs": 0.0, "learning_rate": 0.1, "label_smoothing": 0.0}
    settings = section("scratch", **given, optimizer=optimizer, weight_decay=decay)
    trainer = training.compile_trainer(line, 1, settings)
    assert float(trainer.train_on_batch(np.zeros((1, 1)), np.array([[1.0, 0.0]]))[0]) == pytest.approx(loss)
    kernels, biases = line.get_weights()
    assert kernels[0].tolist() == pytest.approx([kernel, 0], abs=1e-5)
    assert biases.tolist() == pytest.approx([bias, -bias], abs=1e-5)
    assert getattr(trainer.optimizer, "momentum", 0.9) == 0.9


def test_every_kernel_decays_and_nothing_else_does():
    layers = keras.layers
    pixels = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="bn")(layers.SeparableConv2D(4, 3, name="separable")(pixels))
    model = keras.Model(pixels, layers.Dense(2, name="dense")(layers.GlobalAveragePooling2D()(x)))
    names = {variable.path for variable in model.variables if training.is_kernel(variable)}
    assert names == {"separable/depthwise_kernel", "separable/pointwise_kernel", "dense/kernel"}


def test_a_shard_of_more_classes_is_found_out(shards):
    training.check_shards(shards, 2)
    with pytest.raises(UserError, match=r"train-\S+ holds class 1 where there are 1. Run: dvc repro -f tfrecord"):
        training.check_shards(shards, 1)


def test_where_flips_alternate_each_image_is_mirrored_in_every_other_pass(shards):
    stream = Stream(shards, INPUT, 2, 5, Augmentation("alternating", 0.0, 0.0, 0.0), seed=0)
    originals = [image.numpy() for image, _ in held_out(shards, INPUT, 2, 1).unbatch()]
    turns = np.zeros((4, 20), int)  # 1: as it is, -1: mirrored
    for number, turn in enumerate(turns):
        for seen, _, _ in stream.batches(4 * number, 4 * number + 4).unbatch():
            for index, original in enumerate(originals):
                turn[index] += np.array_equal(seen, original)
                turn[index] -= np.array_equal(seen, original[:, ::-1])
    assert (np.abs(turns) == 1).all()
    assert (turns[1:] == -turns[:-1]).all()
    assert 5 <= (turns[0] > 0).sum() <= 15
    whole = batch_bytes(stream.batches(0, 8))
    assert batch_bytes(stream.batches(5, 8)) == whole[5:]


def test_an_image_that_only_moves_moves_by_whole_pixels():
    pixels = image(8)
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), "edge")
    places = {padded[top : top + 8, left : left + 8].tobytes() for top in range(5) for left in range(5)}
    limits = Augmentation(flip=False, shift=0.25, zoom=0.0, rotation_degrees=0.0)
    found = {augment(pixels, tf.constant([0, number], tf.int64), limits).numpy().tobytes() for number in range(200)}
    assert found == places


def image(side=6):
    return tf.reshape(tf.range(side * side * 3, dtype=tf.float32), (side, side, 3))


def apply(pixels, flip=1.0, shift=(0.0, 0.0), scale=1.0, angle=0.0):
    return changed(pixels, flip, tf.constant(shift), scale, angle).numpy()


def test_each_change_is_what_it_is_called():
    pixels = image().numpy()
    assert augment(pixels, tf.constant([0, 3], tf.int64), UNCHANGED) is pixels  # nothing is computed,
    np.testing.assert_array_equal(apply(image()), pixels)  # for it would have changed nothing
    np.testing.assert_allclose(apply(image(), flip=-1.0), pixels[:, ::-1], atol=1e-4)
    moved = apply(image(), shift=(2.0, 1.0))  # right and down
    np.testing.assert_allclose(moved[1:, 2:], pixels[:-1, :-2], atol=1e-4)
    np.testing.assert_allclose(moved[1:, 0], pixels[:-1, 0], atol=1e-4)  # the border is repeated
    turned = apply(image(), angle=math.pi / 2)
    assert any(np.allclose(turned, np.rot90(pixels, quarters), atol=1e-3) for quarters in (1, 3))
    ramp = tf.tile(tf.range(9, dtype=tf.float32)[None, :, None], (9, 1, 1))
    # At a scale of 2, output x shows input 4 + (x - 4) / 2.
    np.testing.assert_allclose(apply(ramp, scale=2.0)[0, :, 0], np.arange(2, 6.5, 0.5), atol=1e-4)


def test_the_seed_decides_limits_hold_and_half_of_the_images_are_mirrored():
    limits = Augmentation(flip=True, shift=0.2, zoom=0.2, rotation_degrees=15.0)
    results = [augment(image(), tf.constant([1, number], tf.int64), limits).numpy() for number in (*range(20), 7)]
    np.testing.assert_array_equal(results[7], results.pop())
    assert len({result.tobytes() for result in results}) == 20
    assert all(result.min() >= 0 and result.max() <= 107 for result in results)
    limits = Augmentation(flip=True, shift=0.0, zoom=0.0, rotation_degrees=0.0)
    ramp = tf.tile(tf.range(4, dtype=tf.float32)[None, :, None], (4, 1, 1))
    mirrored = [augment(ramp, tf.constant([0, number], tf.int64), limits)[0, 0, 0].numpy() > 1 for number in range(200)]
    assert 70 <= sum(mirrored) <= 130  # half of them
