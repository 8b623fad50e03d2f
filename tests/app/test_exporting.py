"""app.exporting: the parts of an exported graph against the code that they repeat, and against it in each runtime."""

import io
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
import xgboost
from PIL import Image

from app.exporting import check, graph, resizing, trees
from app.exporting.check import Agreement
from app.models import Model
from app.parts import Part
from stages.library.common.console import UserError
from stages.library.features import cache, unlike
from stages.library.features.source import Joined, Source
from stages.library.heads import contract as heads
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.scaling import RowScaling
from stages.library.heads.trained_head import TrainedHead
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.scoring import probabilities
from stages.plugins.heads.xgboost.head import BoostedTrees
from tests.exported import run_in_process

SIZES = ((1, 1), (5, 40), (32, 32), (33, 100), (200, 31))
CLASSES = ("ant", "bee", "cow")
SIDE_PX = 32
DIMS = {"bottleneck": 16, "logits": 7, "probabilities": 7, "joined": 23}


@pytest.fixture(scope="module")
def backbone():
    """A small network with a backbone's outputs, not symmetric in left and right, some features 0 and some tiny."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIDE_PX, SIDE_PX, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1)(pixels)
    x = keras.layers.Conv2D(12, 5, 3, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    bottleneck = keras.layers.Dense(DIMS["bottleneck"], "relu", name="bottleneck")(x)
    logits = keras.layers.Dense(DIMS["logits"], name="logits")(bottleneck)
    return keras.Model(pixels, {"bottleneck": bottleneck, "logits": logits})


def assemble(backbone, head, preparation, features="bottleneck", flip=False):
    source = Source("none", preparation, flip, "", "", CLASSES)
    trained = TrainedHead("known", head, features, DIMS[features], source, {}, temperature=2.5)
    return Model("none/known", CLASSES, (Part(backbone, preparation, flip),), trained)


def random_images(height, width):
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)


class Nearest:
    """A head of one's own: each class by the distance to its centre."""

    centres = np.random.default_rng(1).normal(size=(3, 16)).astype("f4")

    def logits(self, features):
        return -((features[:, None].astype("f4") - self.centres) ** 2).sum(axis=2)

    def save(self, folder):
        """Nothing has to be kept."""


def test_a_head_of_ones_own_is_exported_by_the_function_of_its_module(backbone, monkeypatch):
    def tensorflow_logits(head, features):
        return -tf.reduce_sum((features[:, None] - head.centres) ** 2, axis=2)

    module = SimpleNamespace(tensorflow_logits=tensorflow_logits)
    monkeypatch.setattr(heads, "lookup", lambda name: module)
    model = assemble(backbone, Nearest(), Preprocessing(SIDE_PX))
    images = random_images(SIDE_PX, SIDE_PX).astype(np.float32)
    found = graph.build(model).classify(tf.constant(images))["probabilities"]
    np.testing.assert_allclose(found, model.probabilities([images]), atol=1e-4)
    del module.tensorflow_logits
    message = r"the head known can't be exported: its module lacks `tensorflow_logits\(head, features\)`.*: Nearest"
    with pytest.raises(UserError, match=message):
        graph.build(model)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "bilinear_tf1"])
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.56])  # 0.56 of 100 is more than 56 in float64
@pytest.mark.parametrize("geometry", ["crop", "squash", "pad"])
def test_matrix_products_resize_as_training_does(method, crop, geometry):
    preparation = Preprocessing(SIDE_PX, crop, method, geometry, (10.0, 100.0, 200.0))
    for height, width in (*SIZES, (100, 100)):
        pixels = random_images(height, width)
        ours = resizing.fit(tf.constant(pixels), preparation).numpy()
        np.testing.assert_allclose(ours, preprocessing.fit(pixels, preparation).numpy(), atol=0.004)
        assert ours.shape == (2, SIDE_PX, SIDE_PX, 3)


def test_float16_is_rounded_to_as_in_the_cache():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 100)).astype("f4") * 10.0 ** rng.integers(-9, 6, (300, 100)).astype("f4")
    values[0, :6] = 0, 1e9, -1e9, 6.1e-5, 2.0**-14, 65519
    rounded = tf.function(graph._quantized)(tf.constant(values)).numpy()
    np.testing.assert_array_equal(rounded, cache.quantize(values).astype("f4"))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_trees_give_the_margins_of_the_booster(num_classes):
    rng = np.random.default_rng(1)
    features = rng.integers(-8, 8, (400, 6)).astype("f4") / 4  # many values equal a threshold
    labels = (features[:, 0] > features[:, 1]) + (num_classes > 2) * rng.integers(0, 3, 400)
    parameters = {"objective": "multi:softprob", "num_class": num_classes, "max_depth": 5, "tree_method": "hist"}
    booster = xgboost.train(parameters, xgboost.QuantileDMatrix(features, labels), 7)
    found = trees.logits_of(booster, num_classes)(tf.constant(features)).numpy()
    expected = BoostedTrees(booster, num_classes).logits(features)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(expected) > 0.5
    with pytest.raises(ValueError, match="rounds of 5 classes"):
        trees.logits_of(booster, 5)


KINDS = [
    ("bottleneck", RowScaling(0.5), False, Preprocessing(SIDE_PX, 0.7, "bicubic", "pad", (9.0, 99.0, 199.0))),
    ("joined", RowScaling(0.3, unit_length=True), True, Preprocessing(SIDE_PX)),
    ("logits", RowScaling(1.0, unit_length=True), False, Preprocessing(SIDE_PX, 0.875, "bilinear_tf1")),
    ("probabilities", RowScaling(0.5), True, Preprocessing(SIDE_PX, 0.875, geometry="crop")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("features", "scaling", "flip", "resize"), KINDS)
def test_each_kind_of_features_and_preprocessing_in_each_runtime(backbone, tmp_path, features, scaling, flip, resize):
    rng = np.random.default_rng(5)
    shapes = (DIMS[features], 9), (9, 3)
    layers = [Dense(rng.normal(size=shape).astype("f4"), rng.normal(size=shape[1]).astype("f4")) for shape in shapes]
    model = assemble(backbone, DenseNetwork(tuple(layers), scaling), resize, features, flip)
    built = graph.build(model)
    runs = {form: run_in_process(form, built, tmp_path) for form in ("saved_model", "onnx", "tflite")}
    for height, width in SIZES:
        pixels = random_images(height, width)
        expected = model.probabilities([preprocessing.fit(pixels, resize)])
        assert np.ptp(expected) > 0.1
        for name, run in runs.items():
            np.testing.assert_allclose(run(pixels), expected, atol=5e-4, err_msg=f"{name} {height} x {width}")


@pytest.mark.parametrize("form", ["saved_model", "onnx", "tflite"])
def test_the_share_of_images_farther_out_in_each_runtime(backbone, tmp_path, form):
    parts = Part(backbone, Preprocessing(SIDE_PX), flip=True), Part(backbone, Preprocessing(SIDE_PX, 0.5))
    many = np.random.default_rng(2).integers(0, 256, (40, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    blocks = [part.outputs(part.fit(many))["bottleneck"].numpy() for part in parts]
    params = unlike.Params(neighbours=3, threshold=0.01, max_images=40, seed=0)
    reference = unlike.Reference.fit(blocks, None, params)
    source = Source("none", Preprocessing(SIDE_PX), False, "", "", CLASSES)
    joint = Joined((source, source), (1.0, 2.0))
    head = DenseNetwork((Dense(np.ones((2 * DIMS["bottleneck"], 3), "f4"), np.zeros(3, "f4")),))
    model = Model("none", CLASSES, parts, TrainedHead("known", head, "bottleneck", 32, joint, {}), reference)
    run = run_in_process(form, graph.build(model), tmp_path, "farther_out")
    pixels = np.concatenate([many[:20] // np.arange(1, 21, dtype=np.uint8)[:, None, None, None], many[20:]])
    _, expected = model.answer([part.fit(pixels) for part in parts])
    assert expected is not None
    assert len(set(expected.tolist())) > 5
    np.testing.assert_allclose(run(pixels), expected, atol=1 / 40 + 1e-6)  # one may lie on the other side, by rounding
    assert np.isclose(run(pixels), expected, atol=1e-3).mean() > 0.8


@pytest.mark.parametrize("flip", [False, True])
def test_imagenet_classes_heed_the_flip(backbone, flip):
    part, pixels = Part(backbone, Preprocessing(SIDE_PX), flip), random_images(40, 50)
    model = Model("imagenet/none", CLASSES, (part,))
    found = graph.build(model).of_pixels(portable=True)(tf.constant(pixels))["probabilities"].numpy()
    images = part.fit(pixels).numpy()
    here, there = (backbone(view, training=False)["logits"].numpy() for view in (images, images[:, :, ::-1]))
    assert np.abs(here - there).max() > 0.01
    np.testing.assert_allclose(found, probabilities.softmax((here + there) / 2 if flip else here), atol=1e-5)


def test_what_may_differ():
    assert not Agreement(100, 9e-4, 100, 0, trees=False).fault()
    told = "on 1 of 100 images (0 may), by 0.002 at most (0.001 may be)"
    assert told in Agreement(100, 2e-3, 100, 1, trees=False).fault()
    assert Agreement(5, np.inf, 5, 1, trees=False).fault()
    of_trees = {(0.04, 5): False, (0.04, 6): True, (0.06, 1): True}
    assert {key: bool(Agreement(100, key[0], 99, key[1], trees=True).fault()) for key in of_trees} == of_trees


def test_generated_images_have_other_sizes_and_one_is_grey():
    first = check.generate()[: len(check.GENERATED)]
    found = [Image.open(io.BytesIO(encoded), formats=("PNG",)) for encoded in first]
    assert [(image.height, image.width, len(image.getbands())) for image in found] == list(check.GENERATED)
    assert check.generate() == check.generate()
