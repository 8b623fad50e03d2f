"""How unlike the training images an image is, in TensorFlow, as `Model.farther_out` tells it in NumPy."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from app.combinations import CombinedModel
from app.models import Model
from stages.library.features.unlike import Reference


def farther_out(model: Model, outputs: Sequence[Mapping[str, tf.Tensor]]) -> tf.Tensor | None:
    """Returns float32 (n,) for what each part of a model gives for n images, or None, as the model does."""
    if not isinstance(model, CombinedModel):
        return _share(model.reference, outputs) if model.reference else None
    ways = dict(zip(model.places, zip(model.members, model.of_members(outputs), strict=True), strict=True))
    found = [farther_out(member, own) for member, own in ways.values()]
    shares = [share for share in found if share is not None]
    return tf.minimum(tf.reduce_min(tf.stack(shares), axis=0) * len(shares), 1.0) if shares else None


def _share(reference: Reference, outputs: Sequence[Mapping[str, tf.Tensor]]) -> tf.Tensor:
    blocks = [output["bottleneck"][:, -width:] for output, width in zip(outputs, reference.widths, strict=True)]
    rows = tf.concat([_unit_length(block) for block in blocks], axis=1) / np.sqrt(len(blocks))
    known = reference.features.astype(np.float32)
    squares = tf.reduce_sum(tf.square(rows), axis=1, keepdims=True) + np.square(known).sum(axis=1)
    nearest = -tf.math.top_k(2 * tf.matmul(rows, known.T) - squares, reference.neighbours).values[:, -1:]
    if not len(reference.distances):
        return tf.ones_like(nearest[:, 0])
    farther = reference.distances >= tf.sqrt(tf.maximum(nearest, 0.0))
    return tf.reduce_mean(tf.cast(farther, tf.float32), axis=1)


def _unit_length(values: tf.Tensor) -> tf.Tensor:
    length = tf.sqrt(tf.reduce_sum(tf.square(values), axis=1, keepdims=True))
    return values / tf.maximum(length, np.finfo(np.float32).tiny)
