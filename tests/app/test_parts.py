"""app.models.Model of several networks, each with an input of its own: what it gives, and its export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.exporting import graph
from app.models import Model
from app.parts import Part
from stages.library.features import cache
from stages.library.features.source import Joined, Source
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.trained_head import TrainedHead
from stages.library.preparation import normalisation
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.scoring import probabilities
from tests.exported import run_in_process

CLASSES = ("ant", "bee", "cow")
PREPARED = Preprocessing(8), Preprocessing(6, 0.7, "bicubic", "crop")
DIM, SCALE = 5 + 4, 3.3


def network(side, width, seed):
    """A small network with a backbone's outputs, not symmetric in left and right."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((side, side, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 128, offset=-1)(pixels))
    bottleneck = keras.layers.Dense(width, name="bottleneck")(x)
    return keras.Model(pixels, {"bottleneck": bottleneck, "logits": keras.layers.Dense(2)(bottleneck)})


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    head = DenseNetwork((Dense(rng.normal(size=(DIM, 3)).astype("f4"), rng.normal(size=3).astype("f4")),))
    flips, networks = (False, True), (network(8, 5, 1), network(6, 4, 2))
    members = (Source("none", prepared, flip, "", "", CLASSES) for prepared, flip in zip(PREPARED, flips, strict=True))
    source = Joined(tuple(members), (1.0, SCALE))
    parts = tuple(map(Part, networks, PREPARED, flips))
    return Model("none+none/known", CLASSES, parts, TrainedHead("known", head, "bottleneck", DIM, source, {}, 2.0))


@pytest.fixture(scope="module")
def images():
    sizes = (9, 7), (40, 20), (8, 8)
    return [np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


def expected(model, images):
    """By the parts one after the other."""
    first, second = model.parts
    one = np.concatenate([first.network(preprocessing.fit(image, PREPARED[0])[None])["bottleneck"] for image in images])
    inputs = [preprocessing.fit(image, PREPARED[1])[None] for image in images]
    views = [[second.network(view)["bottleneck"][0] for view in (pixels, pixels[:, :, ::-1])] for pixels in inputs]
    blocks = [cache.quantize(np.asarray(values)) for values in (one, np.mean(views, axis=1))]
    scaled = cache.quantize(blocks[1].astype(np.float32) * np.float32(SCALE))
    return probabilities.softmax(model.trained.logits(np.hstack([blocks[0], scaled])))


def test_a_head_reads_the_features_of_all_networks_side_by_side(model, images):
    encoded = [normalisation.normalise(image).encoded for image in images]
    wanted = expected(model, images)
    assert np.ptp(wanted) > 0.3
    np.testing.assert_allclose(model.predict(encoded), wanted, atol=1e-3)
    np.testing.assert_allclose(model.compiled().predict(encoded), wanted, atol=1e-3)


def test_one_graph_holds_all_networks(model, images):
    built = graph.build(model)
    for image, wanted in zip(images, expected(model, images), strict=True):
        for portable in (False, True):
            found = built.of_pixels(portable)(tf.constant(image[None]))["probabilities"][0]
            np.testing.assert_allclose(found, wanted, atol=1e-3)
    encoded = tf.constant([normalisation.normalise(image).encoded for image in images])
    np.testing.assert_allclose(built.of_encoded()(encoded)["probabilities"], expected(model, images), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["saved_model", "onnx", "tflite"])
def test_one_file_holds_all_networks(model, images, tmp_path, form):
    run = run_in_process(form, graph.build(model), tmp_path)
    for image, wanted in zip(images, expected(model, images), strict=True):
        np.testing.assert_allclose(run(image[None])[0], wanted, atol=1e-3)
