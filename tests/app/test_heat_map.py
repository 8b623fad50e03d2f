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
from app.parts import Part
from stages.library.features.source import Joined, Source
from stages.library.figures import thumbnails
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.trained_head import TrainedHead
from stages.library.networks import block_features
from stages.library.networks import contract as backbones
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing

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
    network = keras.Model(model.input, {"logits": model.output["logits"]})
    return Model("scratch", CLASSES, (Part(network, Preprocessing(SIDE), flip),))


def with_head(features, *dense, flip=False, name="ridge"):
    model = tiny_network()
    source = Source("tiny", Preprocessing(SIDE), flip, "", "", CLASSES)
    head = DenseNetwork(tuple(Dense(*(np.array(part, np.float32) for part in layer)) for layer in dense))
    known = TrainedHead(name, head, features, len(dense[0][0]), source, {}, temperature=0.5)
    return Model("tiny/" + name, CLASSES, (Part(model, Preprocessing(SIDE), flip),), known)


def maps_of(model):
    made = heat_map.explainer(model)
    assert not isinstance(made, str)
    return made


def test_the_map_of_a_tiny_network_by_hand():
    explain = maps_of(as_network(tiny_network()))
    # Red: 2 * 100 where red, -50 where green. Green: -100 where red, 3 * 50 where green. Each divided by its largest.
    assert explain([colours()], 0)[0].tolist() == [[1, 1, 0, 0]] * 4
    assert explain([colours()], 1)[0].tolist() == [[0, 0, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    # No map counts for blue.
    assert explain([colours()], 2)[0].tolist() == [[0] * 4] * 4
    pixels = colours()
    pixels[0, 0, 0] = 200
    assert explain([pixels], 0)[0].tolist() == [[1, 0.5, 0, 0], *[[0.5, 0.5, 0, 0]] * 3]
    # Max pooling behind the last convolution is passed over.
    assert maps_of(as_network(tiny_network(pooling=True)))([colours()], 0)[0].shape == (SIDE, SIDE)
    # ImageNet's classes need no head.
    model = Model("imagenet/tiny", CLASSES, (Part(tiny_network(), Preprocessing(SIDE)),))
    assert maps_of(model)([colours()], 0)[0].tolist() == [[1, 1, 0, 0]] * 4

    # Mirrored views are laid back upon the image.
    head = with_head("bottleneck", (WEIGHTS, np.zeros(3)), flip=True)
    for model in (as_network(tiny_network(), flip=True), head):
        found = maps_of(model)([colours()], 1)[0]
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
        network = model.parts[0].network
        whole = keras.Model(network.input, [network.get_layer("maps").output, *network.outputs])
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
        np.testing.assert_allclose(explain([pixels], label)[0], values / (values.max() or 1), atol=0.01)


def test_each_network_of_a_joined_backbone_has_its_own_map_and_its_share_by_hand():
    member = Source("tiny", Preprocessing(SIDE), False, "", "", CLASSES)
    # Red speaks for the first class by the first network, green by the second, whose features are doubled.
    kernel = np.array([[2, 0, 0], [0, 0, 0], [0, 0, 0], [3, 0, 0]], np.float32)
    head = DenseNetwork((Dense(kernel, np.zeros(3, np.float32)),))
    known = TrainedHead("ridge", head, "bottleneck", 4, Joined((member, member), (1.0, 2.0)), {})
    parts = Part(tiny_network(), Preprocessing(SIDE)), Part(tiny_network(pooling=True), Preprocessing(SIDE))
    first, second = maps_of(Model("tiny+tiny/ridge", CLASSES, parts, known))([colours()] * 2, 0)
    # 2 * 100 where red, 2 * 3 * 50 where green; pooling makes no difference, for it takes the largest of equal cells.
    np.testing.assert_allclose(first, [[2 / 3, 2 / 3, 0, 0]] * 4, atol=1e-4)
    np.testing.assert_allclose(second, [[0, 0, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2, atol=1e-4)


def test_features_of_earlier_blocks_go_past_the_last_maps():
    network = tiny_network()
    past = layers.GlobalAveragePooling2D()(network.input)  # the mean of each channel
    joined = layers.Concatenate(name=block_features.JOINED)([past, network.output["bottleneck"]])
    wide = keras.Model(network.input, network.output | {"bottleneck": joined})
    # As large as they are, they say nothing of a place.
    kernel = np.vstack([np.full((3, 3), 7), WEIGHTS]).astype(np.float32)
    head = DenseNetwork((Dense(kernel, np.zeros(3, np.float32)),))
    source = Source("tiny", Preprocessing(SIDE), False, "", "", CLASSES, feature_blocks=2)
    known = TrainedHead("ridge", head, "bottleneck", 5, source, {})
    model = Model("tiny/ridge", CLASSES, (Part(wide, Preprocessing(SIDE)),), known)
    plain = maps_of(with_head("bottleneck", (WEIGHTS, np.zeros(3))))
    for label in range(3):
        expected = plain([colours()], label)[0]
        np.testing.assert_allclose(maps_of(model)([colours()], label)[0], expected, atol=1e-3)


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
    seen = preprocessing.fit(pixels, Preprocessing(224)).numpy()  # both; the network's own geometry cuts them in halves
    explain = explained.heat_map
    assert not isinstance(explain, str)
    for name, left in (("Egyptian cat", cat_is_left), ("tiger cat", cat_is_left), ("mouse", not cat_is_left)):
        (values,) = explain([seen], explained.model.classes.index(name))
        assert values.shape == (7, 7)
        left_half, right_half = values[:, :3].mean(), values[:, 4:].mean()
        assert left_half > 1.5 * right_half if left else right_half > 1.5 * left_half


# Viridis runs from (68, 1, 84) to (253, 231, 37), mixed 0.6 : 0.4 with the grey below, 100.
NONE, MOST = [80.8, 40.6, 90.4], [191.8, 178.6, 62.2]


def overlaid(size, preparation, values, thumbnail=None):
    at = explanation.placement(np.empty((*size, 3), np.uint8), preparation)
    pixels = np.full((*(thumbnail or size), 3), 100, np.uint8)
    side = preparation.input_size_px
    return thumbnails.decode(explanation.overlay(pixels, [(np.array(values, np.float32), at, side)], size))


def test_overlay_colours_what_the_model_sees():
    shown = overlaid((40, 80), Preprocessing(SIDE, 0.5), [[0, 1]])
    assert shown.shape == (40, 80, 3)
    assert (shown[:10] == 100).all()  # the border that is cropped away stays grey
    assert (shown[:, :20] == 100).all()
    np.testing.assert_allclose(shown[20, 21], NONE, atol=1)
    np.testing.assert_allclose(shown[20, 58], MOST, atol=1)


def test_overlay_of_a_central_square_on_a_smaller_image():
    shown = overlaid((80, 160), Preprocessing(SIDE, 0.5, geometry="crop"), [[0, 1]], thumbnail=(40, 80))
    grey = (shown == 100).all(axis=-1)
    rows, columns = np.flatnonzero(~grey.all(axis=1)), np.flatnonzero(~grey.all(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (10, 29, 30, 49)
    np.testing.assert_allclose(shown[20, [30, 49]], [NONE, MOST], atol=1)


def test_overlays_of_several_networks_are_added_up():
    # The first sees all, the second the middle half; both speak for its right side.
    pixels, size = np.full((20, 40, 3), 100, np.uint8), (20, 40)
    prepared = Preprocessing(4), Preprocessing(8, 0.5)
    placed = [explanation.placement(pixels, each) for each in prepared]
    values = [np.array([[0, 0, 1, 1]], np.float32), np.array([[0, 1]], np.float32)]
    maps = list(zip(values, placed, (4, 8), strict=True))
    shown = thumbnails.decode(explanation.overlay(pixels, maps, size))
    np.testing.assert_allclose(shown[10, 29], MOST, atol=1)  # both, and so the most
    np.testing.assert_allclose(shown[[0, 10, 10], [0, 0, 11]], np.broadcast_to(NONE, (3, 3)), atol=1)
    half = explanation.overlay(pixels, [(values[0] / 2, *maps[0][1:])], size)
    np.testing.assert_allclose(shown[0], thumbnails.decode(half)[0], atol=1)  # where the first sees alone


def test_overlay_of_an_image_with_bars_leaves_their_evidence_out():
    # Rows 1 and 2 of 4 show the image; of the map's four rows the outer two, in the bars, say most.
    values = [[1, 1], [0, 0], [0, 0], [1, 1]]
    shown = overlaid((20, 40), Preprocessing(4, geometry="pad"), values)
    np.testing.assert_allclose(shown[9:11], np.broadcast_to(NONE, (2, 40, 3)), atol=1)
    assert (shown[0, 0] == shown[19, 39]).all()
    assert not (shown == 100).all(axis=-1).any()


@pytest.mark.parametrize("geometry", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 3)])
def test_overlay_of_narrow_images(geometry, size):
    small = tuple(max(1, edge // 10) for edge in size)
    preparation = Preprocessing(224, 0.875, geometry=geometry)
    assert overlaid(size, preparation, np.ones((7, 7)), small).shape == (*small, 3)
