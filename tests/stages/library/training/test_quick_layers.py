"""Layers that compute in a quicker way give the outputs and gradients of Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from section import section

from stages.library.networks import contract as backbones
from stages.library.training import finetuning, quick_layers
from stages.library.training import loop as training

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def prepared():
    training.prepare(0)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride"), [(8, 7, 5, 1), (9, 8, 5, 2), (8, 8, 7, 2), (6, 6, 3, 1)]
)
def test_a_depthwise_convolution_and_its_gradients(height, width, kernel, stride, padding):
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(size=(2, height, width, 6)), tf.float32)
    weights = tf.constant(rng.normal(size=(kernel, kernel, 6, 2)), tf.float32)

    @tf.function  # as training has it
    def with_gradients(convolution):
        with tf.GradientTape() as tape:
            tape.watch([x, weights])
            found = convolution()
            loss = tf.reduce_sum(tf.sin(found))
        return found, *tape.gradient(loss, [x, weights])

    strides = [1, stride, stride, 1]
    expected = with_gradients(lambda: tf.nn.depthwise_conv2d(x, weights, strides, padding))
    found = with_gradients(lambda: quick_layers.depthwise_convolution(x, weights, stride, padding))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def network(bias, momentum=0.99):
    """Returns a network whose BatchNorm layers have statistics as training leaves them."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, 2, "same", use_bias=bias, name="plain")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="plain_bn")(x))
    x = keras.layers.DepthwiseConv2D(5, depth_multiplier=2, use_bias=bias, name="depthwise")(x)
    x = keras.layers.BatchNormalization(scale=False, name="depthwise_bn")(x)
    both = keras.layers.Conv2D(16, 1, use_bias=bias, name="twice_used")(x)
    x = keras.layers.Concatenate()([both, keras.layers.BatchNormalization(name="twice_used_bn")(both)])
    x = keras.layers.Conv2D(4, 1, activation="gelu", name="activated")(x)
    x = keras.layers.BatchNormalization(name="activated_bn")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", groups=2, name="groups")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=2, name="dilated")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization(name="last")(x)))
    rng = np.random.default_rng(2)
    for variable in model.variables:
        variable.assign(rng.uniform(0.3, 1.5, variable.shape))
    return model


def outputs_and_gradients(model, images):
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function
    def compute():
        with tf.GradientTape() as tape:
            found = model(images, training=True)
            loss = tf.reduce_mean(tf.square(found - 1.0))
        return found, *tape.gradient(loss, variables)

    return compute()


@pytest.mark.parametrize("bias", [False, True])
def test_frozen_batch_norm_is_folded_into_convolutions(bias):
    model = network(bias)
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    images = tf.constant(IMAGES[:, :16, :16] / 255)
    expected = outputs_and_gradients(model, images)
    quick_layers.use(model)
    folded = {layer.name for layer in model.layers if layer.call is quick_layers._unchanged}
    assert folded == {"plain_bn", "depthwise_bn"}
    for one, other in zip(outputs_and_gradients(model, images), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


def test_batch_norm_that_trains_is_left_alone():
    model = network(bias=False)
    quick_layers.use(model)
    assert not [layer.name for layer in model.layers if layer.call is quick_layers._unchanged]


@pytest.mark.slow
def test_a_backbone_that_is_fine_tuned_gives_the_same_logits():
    backbone = backbones.lookup("efficientnet_lite0")
    model = finetuning.build(backbone.build(64), 4, section("finetune"))
    finetuning.freeze(model, backbone.BACKBONE, section("finetune"))
    before = model(IMAGES, training=False)
    trainer = training.compile_trainer(model, 2, section("finetune"))
    np.testing.assert_allclose(trainer.predict(IMAGES, verbose=0), before, atol=1e-4 * np.abs(before).max())
    folded = [layer for layer in model.layers if layer.call is quick_layers._unchanged]
    assert len(folded) == sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
