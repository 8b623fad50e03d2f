"""`preprocessing.fit` as two matrix products, for ONNX and TFLite, which have no op that resizes as TensorFlow does.

A resize along one axis is linear in the pixels: row i of a matrix (side, length) holds what each pixel contributes to
pixel i of the result, which is nothing where that lies in a bar. The matrix depends on the image's size alone and is
computed in the graph from elementary ops, so the file takes images of any size. Values of [0, 255] differ from
TensorFlow's own op by less than 0.002.

Reference: Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989, 3.5 (a stretched kernel as antialias).
"""

from typing import Any

import tensorflow as tf

from stages.library.common.params import ResizeMethod
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing

MAX_SIDE_PX = 65_535  # of an image: JPEG's own limit


def fit(pixels: tf.Tensor, preparation: Preprocessing) -> tf.Tensor:
    """Brings uint8 (n, height, width, 3) to float32 (n, side, side, 3) of [0, 255]."""
    side, method = preparation.input_size_px, preparation.resize
    n, height, width = tf.unstack(tf.shape(pixels)[:3])
    at = preprocessing.placement(height, width, preparation, _kept)
    vertical = _weights(side, method, height, (at.top, at.height), (at.first_row, at.rows))
    horizontal = _weights(side, method, width, (at.left, at.width), (at.first_column, at.columns))
    rows = tf.reshape(tf.cast(pixels, tf.float32), (n, height, width * 3))
    rows = tf.matmul(vertical, rows)  # (n, side, width * 3)
    columns = tf.matmul(horizontal, tf.reshape(rows, (n * side, width, 3)))
    resized = tf.reshape(columns, (n, side, side, 3))
    if method == "bicubic":
        resized = tf.clip_by_value(resized, 0.0, 255.0)  # a cubic overshoots at edges
    if preparation.geometry == "pad":
        inside = tf.reduce_sum(vertical, 1)[:, None] * tf.reduce_sum(horizontal, 1)
        resized += tf.where(inside > 0.5, 0.0, 1.0)[..., None] * tf.constant(preparation.bars_rgb)
    return resized


def _weights(
    side: int, method: ResizeMethod, length: tf.Tensor, kept: tuple[Any, Any], filled: tuple[Any, Any]
) -> tf.Tensor:
    """Returns float32 (side, length) for an axis; its rows sum to 1, or in bars to 0.

    `kept` and `filled` are the first pixel and their number, of the image and of the input.
    """
    first, count = (tf.cast(value, tf.float32) for value in kept)
    start, size = (tf.cast(value, tf.float32) for value in filled)
    scale = count / size  # source pixels for each pixel of the result
    line = tf.range(side, dtype=tf.float32)[:, None] - start
    target = tf.clip_by_value(line, 0.0, size - 1)  # that of a bar is its neighbour's, for the sum not to be 0
    source = tf.range(tf.cast(length, tf.float32))[None, :] - first
    if method == "bilinear_tf1":
        weights = _triangle(source - target * scale)
    else:
        kernel = _cubic if method == "bicubic" else _triangle
        weights = kernel((source + 0.5 - (target + 0.5) * scale) / tf.maximum(scale, 1.0))
    weights *= tf.cast((source >= 0) & (source < count), tf.float32)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True) * tf.cast(tf.equal(line, target), tf.float32)


def _kept(length: tf.Tensor, fraction: float) -> tf.Tensor:
    """Returns `preprocessing.kept`, which is in float64, that TFLite can't calculate with: from a table."""
    if fraction == 1:
        return length
    with tf.init_scope():  # now, and not in the graph
        table = preprocessing.kept(tf.range(MAX_SIDE_PX + 1), fraction).numpy()
    return tf.gather(table, length)


def _triangle(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(0.0, 1.0 - tf.abs(x))


def _cubic(x: tf.Tensor) -> tf.Tensor:
    """Keys' cubic convolution kernel with a = -1/2, which TensorFlow's antialiased bicubic uses, too."""
    x = tf.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))
