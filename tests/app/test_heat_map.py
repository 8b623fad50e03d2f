import itertools

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from keras import layers
from PIL import Image

from app import explanation, heat_map
from app.model_cache import ModelCache
from app.models import Model, Project
from stages.library.features.cache import Source
from stages.library.figures import thumbnails
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.trained_head import TrainedHead
from stages.library.networks import contract as backbones
from stages.library.preparation import normalisation
from stages.library.records.preprocessing import Preprocessing
from stages.library.training.trained_network import Network

BACKBONE = "efficientnet_lite0"
SIDE = 4
CLASSES = ("red", "green", "blue")
# Map 0 is red, map 1 is green; the logits of the three classes by their means.
MAPS = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
WEIGHTS = np.array([[2, -1, 0], [-1, 3, 0]], np.float32)


def colours():
    """Red on the left half, green on the lower right quarter, float32 (4, 4, 3)."""
    pixels = np.zeros((SIDE, SIDE, 3), np.float32)
    pixels[:, :2, 0] = 100
    pixels[2:, 2:, 1] = 50
    return pixels


def tiny_network(pooling=False):
    """A network whose maps and logits anyone can compute."""
    inputs = keras.Input((SIDE, SIDE, 3))
    maps = layers.Conv2D(2, 1, use_bias=False, name="maps")(inputs)
    x = layers.MaxPooling2D(2)(maps) if pooling else maps
    pooled = layers.GlobalAveragePooling2D(name="bottleneck")(x)
    logits = layers.Dense(len(CLASSES), use_bias=False, name="logits")(pooled)
    model = keras.Model(inputs, {"bottleneck": pooled, "logits": logits})
    model.get_layer("maps").set_weights([MAPS[None, None]])
    model.get_layer("logits").set_weights([WEIGHTS])
    return model


def as_network(model, flip=False):
    network = Network("scratch", CLASSES, Preprocessing(SIDE), keras.Model(model.input, model.output["logits"]), flip)
    return Model("scratch", CLASSES, network.preprocessing, network=network)


def with_head(features, *dense, flip=False, name="ridge"):
    model = tiny_network()
    source = Source("tiny", SIDE, 1.0, "bilinear", flip, "", "", CLASSES)
    head = DenseNetwork(tuple(Dense(*(np.array(part, np.float32) for part in layer)) for layer in dense))
    known = TrainedHead(name, head, features, len(dense[0][0]), source, {}, temperature=0.5)
    return Model("tiny/" + name, CLASSES, Preprocessing(SIDE), model, flip, known)


def maps_of(model):
    made = heat_map.explainer(model)
    assert not isinstance(made, str)
    return made


def test_the_map_of_a_tiny_network_by_hand():
    explain = maps_of(as_network(tiny_network()))
    # Red: 2 * 100 where red, -50 where green. Green: -100 where red, 3 * 50 where green. Each divided by its largest.
    assert explain(colours(), 0).tolist() == [[1, 1, 0, 0]] * 4
    assert explain(colours(), 1).tolist() == [[0, 0, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    # No map counts for blue.
    assert explain(colours(), 2).tolist() == [[0] * 4] * 4
    pixels = colours()
    pixels[0, 0, 0] = 200
    assert explain(pixels, 0).tolist() == [[1, 0.5, 0, 0], *[[0.5, 0.5, 0, 0]] * 3]
    # Max pooling behind the last convolution is passed over.
    assert maps_of(as_network(tiny_network(pooling=True)))(colours(), 0).shape == (SIDE, SIDE)
    # ImageNet's classes need no head.
    model = Model("imagenet/tiny", CLASSES, Preprocessing(SIDE), tiny_network())
    assert maps_of(model)(colours(), 0).tolist() == [[1, 1, 0, 0]] * 4

    # Mirrored views are laid back upon the image.
    head = with_head("bottleneck", (WEIGHTS, np.zeros(3)), flip=True)
    for model in (as_network(tiny_network(), flip=True), head):
        found = maps_of(model)(colours(), 1)
        np.testing.assert_allclose(found, [[0, 0, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2, atol=1e-4)


@pytest.mark.parametrize(("features", "width"), [("bottleneck", 2), ("logits", 3), ("probabilities", 3), ("joined", 5)])
@pytest.mark.parametrize("hidden", [(), (6,)])
def test_a_head_on_frozen_features_as_if_it_were_part_of_the_network(features, width, hidden):
    rng = np.random.default_rng(3)
    sizes = width, *hidden, 3
    dense = [(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in itertools.pairwise(sizes)]
    model = with_head(features, *dense)
    pixels = rng.uniform(0, 2, (SIDE, SIDE, 3)).astype(np.float32)

    def reference(label):
        whole = keras.Model(model.backbone.input, [model.backbone.get_layer("maps").output, *model.backbone.outputs])
        with tf.GradientTape() as tape:
            maps, pooled, logits = whole(tf.constant(pixels[None]))
            probabilities, joined = tf.nn.softmax(logits), tf.concat([pooled, logits], axis=1)
            x = {"bottleneck": pooled, "logits": logits, "probabilities": probabilities, "joined": joined}[features]
            for layer, (kernel, bias) in enumerate(dense):
                x = (tf.nn.relu(x) if layer else x) @ kernel.astype(np.float32) + bias.astype(np.float32)
            score = x[0, label]
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2))
        return np.maximum(np.sum(maps.numpy() * weights.numpy()[:, None, None], axis=-1)[0], 0)

    explain = maps_of(model)
    expected = [reference(label) for label in range(len(CLASSES))]
    assert any(values.any() for values in expected)
    for label, values in enumerate(expected):
        np.testing.assert_allclose(explain(pixels, label), values / (values.max() or 1), atol=0.01)


def test_a_model_without_a_heat_map_says_why():
    trees = with_head("bottleneck", (WEIGHTS, 0), name="xgboost")
    assert "decision trees answer" in str(heat_map.explainer(trees))
    inputs = keras.Input((SIDE, SIDE, 3))
    flat = layers.Dense(3)(layers.Flatten()(layers.Rescaling(1 / 255)(inputs)))
    flat_network = as_network(keras.Model(inputs, {"logits": flat}))
    assert "no convolution maps" in str(heat_map.explainer(flat_network))
    assert "a single cell" in heat_map.last_maps(backbones.lookup(BACKBONE).build(32))


def test_central_differences():
    gradient = heat_map.central_differences(lambda rows: (rows**2).sum(axis=1), np.array([3.0, 0.0, -2.0]))
    np.testing.assert_allclose(gradient, [6, 0, -4], atol=1e-3)
    point = np.linspace(-1, 1, 700)  # more than one call
    slopes = np.cos(np.arange(700)).astype(np.float32)
    np.testing.assert_allclose(heat_map.central_differences(lambda rows: rows @ slopes, point), slopes, atol=1e-3)
    zero = heat_map.central_differences(lambda rows: rows[:, 0] * 2, np.zeros(2))
    np.testing.assert_allclose(zero, [2, 0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "convnext_tiny"])
def test_the_last_maps_of_real_backbones(name):
    known = backbones.lookup(name)
    network = known.build(96)
    maps = heat_map.last_maps(network)
    assert maps.shape[1:] == (3, 3, known.BACKBONE.feature_width)
    # All that the outputs depend on comes through the maps, and pixels give what the whole network gives.
    lower, upper = keras.Model(network.input, maps), keras.Model(maps, network.output)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype(np.float32)
    np.testing.assert_allclose(upper(lower(pixels))["logits"], network(pixels)["logits"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("cat_is_left", [True, False])
def test_evidence_for_a_cat_lies_where_the_cat_is(cat_is_left, tmp_path, write_params):
    """Two photographs side by side, a cat and a cup of coffee, before a network that knows cats and computer mice."""
    write_params()
    explained = ModelCache(Project.open(tmp_path), 1).get(f"imagenet/{BACKBONE}", explanation.Deadline(900))
    cat, cup = (Image.fromarray(p).resize((224, 224)) for p in (skimage.data.chelsea(), skimage.data.coffee()))
    pixels = np.hstack([cat, cup] if cat_is_left else [cup, cat])
    seen = np.asarray(explained.model.pixels(normalisation.normalise(pixels).encoded))
    explain = explained.heat_map
    assert not isinstance(explain, str)
    for name, left in (("Egyptian cat", cat_is_left), ("tiger cat", cat_is_left), ("mouse", not cat_is_left)):
        values = explain(seen, explained.model.classes.index(name))
        assert values.shape == (7, 7)
        left_half, right_half = values[:, :3].mean(), values[:, 4:].mean()
        assert left_half > 1.5 * right_half if left else right_half > 1.5 * left_half


def test_overlay_colours_what_the_model_sees():
    pixels = np.full((40, 80, 3), 100, np.uint8)
    values = np.array([[0, 1]], np.float32)
    shown = thumbnails.decode(explanation.overlay(pixels, values, central_crop=0.5))
    assert shown.shape == (40, 80, 3)
    assert (shown[:10] == 100).all()  # the border that is cropped away stays grey
    assert (shown[:, :20] == 100).all()
    # Viridis runs from (68, 1, 84) to (253, 231, 37), mixed 0.6 : 0.4 with the grey below.
    np.testing.assert_allclose(shown[20, 21], [80.8, 40.6, 90.4], atol=1)
    np.testing.assert_allclose(shown[20, 58], [191.8, 178.6, 62.2], atol=1)
