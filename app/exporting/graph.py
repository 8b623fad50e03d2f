"""A model as one TensorFlow function, pixels in and probabilities out, which all formats are written from.

It repeats in TensorFlow what `models.Model`, `dense.DenseNetwork` and `trained_network.Network` do in NumPy;
the check of every export compares the two. Import it after `tensorflow_runtime.start`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.exporting import resizing, trees
from app.models import Model
from stages.library.common.console import UserError
from stages.library.extraction import runtime as runtimes
from stages.library.features import cache
from stages.library.heads import contract as heads
from stages.library.heads.dense import DenseNetwork
from stages.library.heads.scaling import RowScaling
from stages.library.heads.trained_head import TrainedHead
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.plugins.heads.xgboost.head import BoostedTrees

FLOAT16 = np.finfo(np.float16)
FLOAT16_SPLIT = 2.0**13 + 1  # float32 has 13 more bits in its significand
FLOAT16_SUBNORMALS = 2.0**24  # the inverse of their spacing
Function = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Graph:
    """A model's parts in TensorFlow."""

    classify: Function  # float32 (n, side, side, 3) of [0, 255] to float32 (n, classes), a graph of constants
    preprocessing: Preprocessing  # how an image becomes its input

    def of_pixels(self, portable: bool) -> Any:
        """Returns a tf.function from uint8 "pixels" (n, height, width, 3) to {"probabilities": float32 (n, classes)}.

        The resize is made of ops that ONNX and TFLite have where it must be `portable`, else it is TensorFlow's own.
        """
        fit = resizing.fit if portable else preprocessing.fit

        def of_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": self.classify(fit(pixels, self.preprocessing))}

        signature = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")]
        return tf.function(of_pixels, input_signature=signature, autograph=False)

    def of_encoded(self) -> Any:
        """Returns a tf.function from "encoded", JPEG or PNG files (n,), to {"probabilities": float32 (n, classes)}."""
        side = self.preprocessing.input_size_px
        spec = tf.TensorSpec((side, side, 3), tf.float32)

        def input_of(encoded: tf.Tensor) -> tf.Tensor:
            return preprocessing.fit(preprocessing.decode(encoded), self.preprocessing)

        def of_encoded(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": self.classify(tf.map_fn(input_of, encoded, fn_output_signature=spec))}

        signature = [tf.TensorSpec((None,), tf.string, name="encoded")]
        return tf.function(of_encoded, input_signature=signature, autograph=False)


def build(model: Model) -> Graph:
    """Builds the graph of a loaded model."""
    logits = _logits_of(model)
    side = model.preprocessing.input_size_px

    def probabilities(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(logits(images))

    signature = [tf.TensorSpec((None, side, side, 3), tf.float32)]
    frozen = runtimes.freeze(tf.function(probabilities, input_signature=signature, autograph=False))

    def classify(images: tf.Tensor) -> tf.Tensor:
        result = frozen(images)
        return result[0] if isinstance(result, list) else result

    return Graph(classify, model.preprocessing)


def _logits_of(model: Model) -> Function:
    """Returns what gives logits (n, classes), float32, for images (n, side, side, 3)."""
    if model.network is not None:
        return _views(model.network.model, model.network.flip)
    if model.trained is None:
        return _views(_outputs(model, "logits"), model.flip)
    trained, head = model.trained, _head(model.trained)
    features = _views(_outputs(model, *cache.COLUMNS[trained.features]), model.flip)

    def logits(images: tf.Tensor) -> tf.Tensor:
        values = _quantized(features(images))
        return head(tf.nn.softmax(values) if trained.features == "probabilities" else values) / trained.temperature

    return logits


def _outputs(model: Model, *names: str) -> keras.Model:
    """Returns the part of a backbone that gives some of its outputs, side by side."""
    assert model.backbone is not None
    outputs = [model.backbone.output[name] for name in names]
    return keras.Model(model.backbone.input, keras.layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0])


def _views(network: keras.Model, flip: bool) -> Function:
    """Returns the network's inference; with `flip` the mean over each image and its mirror image."""

    def mean(images: tf.Tensor) -> tf.Tensor:
        result = network(images, training=False)
        return (result + network(images[:, :, ::-1], training=False)) / 2 if flip else result

    return mean


def _head(trained: TrainedHead) -> Function:
    """Returns a head in TensorFlow: features, float32 (n, dim), to logits (n, classes)."""
    head = trained.head
    if isinstance(head, BoostedTrees):
        return trees.logits_of(head.booster, head.num_classes)
    if not isinstance(head, DenseNetwork):
        own = getattr(heads.lookup(trained.name), "tensorflow_logits", None)
        if own is None:
            raise UserError(
                f"the head {trained.name} can't be exported: its module lacks `tensorflow_logits(head, features)` "
                f"(see stages/library/heads/contract.py). Received: {type(head).__name__}"
            )
        return lambda features: own(head, features)
    *hidden, last = head.layers

    def logits(features: tf.Tensor) -> tf.Tensor:
        x = _scaled(features, head.row_scaling, of_float16=trained.features != "probabilities")
        for layer in hidden:
            x = tf.nn.relu(tf.matmul(x, layer.kernel) + layer.bias)
        return tf.matmul(x, last.kernel) + last.bias

    return logits


def _scaled(features: tf.Tensor, scaling: RowScaling, of_float16: bool) -> tf.Tensor:
    """Returns `scaling` of float32 features (n, dim); those that were float16 are rounded to it afterwards."""
    if scaling == RowScaling():
        return features
    if scaling.power != 1:
        size = tf.abs(features)
        root = tf.sqrt(size) if scaling.power == 0.5 else tf.pow(size, scaling.power)
        features = tf.sign(features) * root
    if scaling.unit_length:
        length = tf.sqrt(tf.reduce_sum(tf.square(features), axis=1, keepdims=True))
        features /= tf.maximum(length, np.finfo(np.float32).tiny)
    return _quantized(features) if of_float16 else features


def _quantized(values: tf.Tensor) -> tf.Tensor:
    """Rounds to float16 as the cache does (`cache.quantize`), but for ties, by float32 arithmetic.

    A cast to float16 and back would not last: converters and runtimes take it for superfluous.

    Reference: Dekker, A floating-point technique for extending the available precision, 1971 (Veltkamp's splitting).
    """
    values = tf.clip_by_value(values, float(FLOAT16.min), float(FLOAT16.max))
    shifted = values * FLOAT16_SPLIT
    normal = shifted - (shifted - values)
    subnormal = tf.round(values * FLOAT16_SUBNORMALS) / FLOAT16_SUBNORMALS
    return tf.where(tf.abs(values) < float(FLOAT16.smallest_normal), subnormal, normal)
