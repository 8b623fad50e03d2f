"""A model as one TensorFlow function, pixels in and probabilities out, which all formats are written from.

It repeats in TensorFlow what `models.Model`, `dense.DenseNetwork` and `trained_network.Network` do in NumPy;
the check of every export compares the two. Import it after `tensorflow_runtime.start`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from app.combinations import CombinedModel
from app.exporting import distances, resizing, trees
from app.models import Model
from stages.library.combination.averaging import SMALLEST, Average
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
Outputs = Mapping[str, tf.Tensor]
Reader = Callable[[Sequence[Outputs]], tf.Tensor]


@dataclass(frozen=True)
class Graph:
    """A model in TensorFlow."""

    classify: Callable[..., dict[str, tf.Tensor]]  # inputs, as of `Model.answer`, to what `of_pixels` gives
    preprocessing: tuple[Preprocessing, ...]  # how an image becomes the input of each

    def of_pixels(self, portable: bool) -> Any:
        """Returns a tf.function from uint8 "pixels" (n, height, width, 3) to {"probabilities": float32 (n, classes)}.

        Of a model that has training images to compare with, to "farther_out", float32 (n,), as well.
        The resize is made of ops that ONNX and TFLite have where it must be `portable`, else it is TensorFlow's own.
        """
        fit = resizing.fit if portable else preprocessing.fit

        def of_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.classify(*(fit(pixels, each) for each in self.preprocessing))

        signature = [tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")]
        return tf.function(of_pixels, input_signature=signature, autograph=False)

    def of_encoded(self) -> Any:
        """Returns a tf.function from "encoded", JPEG or PNG files (n,), to what `of_pixels` gives."""
        specs = tuple(tf.TensorSpec((each.input_size_px, each.input_size_px, 3)) for each in self.preprocessing)

        def inputs_of(encoded: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image = preprocessing.decode(encoded)
            return tuple(preprocessing.fit(image, each) for each in self.preprocessing)

        def of_encoded(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.classify(*tf.map_fn(inputs_of, encoded, fn_output_signature=specs))

        signature = [tf.TensorSpec((None,), tf.string, name="encoded")]
        return tf.function(of_encoded, input_signature=signature, autograph=False)


def build(model: Model) -> Graph:
    """Builds the graph of a loaded model, its weights as constants."""
    read = _reader(model)

    def answer(inputs: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        outputs = [part.outputs(images) for part, images in zip(model.parts, inputs, strict=True)]
        share = distances.farther_out(model, outputs)
        return (read(outputs),) if share is None else (read(outputs), share)

    sides = [part.preprocessing.input_size_px for part in model.parts]
    signature = [[tf.TensorSpec((None, side, side, 3)) for side in sides]]
    frozen = runtimes.freeze(tf.function(answer, input_signature=signature, autograph=False))

    def classify(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = frozen(*inputs)
        return dict(zip(("probabilities", "farther_out"), found if isinstance(found, list) else [found], strict=False))

    return Graph(classify, tuple(part.preprocessing for part in model.parts))


def _reader(model: Model) -> Reader:
    """Returns what `model.read` does."""
    if isinstance(model, CombinedModel):
        return _combined_reader(model)
    if model.trained is None:
        return lambda outputs: tf.nn.softmax(outputs[0]["logits"])
    trained, head = model.trained, _head(model.trained)
    kind = trained.features

    def block(output: Outputs, scale: float) -> tf.Tensor:
        values = _quantized(tf.concat([output[column] for column in cache.COLUMNS[kind]], axis=1))
        if kind == "probabilities":
            return tf.nn.softmax(values) * scale
        return values if scale == 1 else _quantized(values * scale)

    def read(outputs: Sequence[Outputs]) -> tf.Tensor:
        values = tf.concat(list(map(block, outputs, trained.source.scales)), axis=1)
        return tf.nn.softmax(head(values) / trained.temperature)

    return read


def _combined_reader(model: CombinedModel) -> Reader:
    readers, rule = [_reader(member) for member in model.members], model.combined.rule

    def read(outputs: Sequence[Outputs]) -> tf.Tensor:
        found = [reader(own) for reader, own in zip(readers, model.of_members(outputs), strict=True)]
        if isinstance(rule, Average):
            mean = tf.add_n([each * weight for each, weight in zip(found, rule.weights, strict=True)])
            logits = tf.math.log(tf.maximum(mean, SMALLEST))
        else:
            logits = _dense(rule.network, of_float16=False)(tf.concat(found, axis=1))
        return tf.nn.softmax(logits / model.combined.temperature)

    return read


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
    return _dense(head, of_float16=trained.features != "probabilities")


def _dense(head: DenseNetwork, of_float16: bool) -> Function:
    *hidden, last = head.layers

    def logits(features: tf.Tensor) -> tf.Tensor:
        x = _scaled(features, head.row_scaling, of_float16)
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
