"""`preprocessing.fit` as two matrix products, for ONNX and TFLite, which have no op that resizes as TensorFlow does.

A resize along one axis is linear in the pixels: row i of a matrix (side, length) holds what each pixel contributes to
pixel i of the result. The matrix depends on the image's size alone and is computed in the graph from elementary ops,
so the file takes images of any size. Values of [0, 255] differ from TensorFlow's own op by less than 0.002.

Reference: Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989, 3.5 (a stretched kernel as antialias).
"""

import numpy as np
import tensorflow as tf

from stages.library.records.preprocessing import Preprocessing

MAX_SIDE_PX = 65_535  # of a cropped image: JPEG's own limit


def fit(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Crops and resizes uint8 (n, height, width, 3) to float32 (n, side, side, 3) of [0, 255]."""
    side = preprocessing.input_size_px
    n, height, width = tf.unstack(tf.shape(pixels)[:3])
    rows = tf.reshape(tf.cast(pixels, tf.float32), (n, height, width * 3))
    rows = tf.matmul(_weights(height, preprocessing), rows)  # (n, side, width * 3)
    columns = tf.matmul(_weights(width, preprocessing), tf.reshape(rows, (n * side, width, 3)))
    resized = tf.reshape(columns, (n, side, side, 3))
    # A cubic overshoots at edges.
    return tf.clip_by_value(resized, 0.0, 255.0) if preprocessing.resize == "bicubic" else resized


def _weights(length: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns float32 (side, length), whose rows sum to 1, for an axis of `length` pixels, scalar int32."""
    border = _border(length, preprocessing.central_crop)
    kept = tf.cast(length, tf.float32) - 2 * border
    scale = kept / preprocessing.input_size_px  # source pixels for each pixel of the result
    target = tf.range(preprocessing.input_size_px, dtype=tf.float32)[:, None]
    source = tf.range(tf.cast(length, tf.float32))[None, :] - border
    if preprocessing.resize == "bilinear_tf1":
        weights = _triangle(source - target * scale)
    else:
        kernel = _cubic if preprocessing.resize == "bicubic" else _triangle
        weights = kernel((source + 0.5 - (target + 0.5) * scale) / tf.maximum(scale, 1.0))
    inside = tf.cast((source >= 0) & (source < kept), tf.float32)
    weights *= inside
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def _border(length: tf.Tensor, fraction: float) -> tf.Tensor:
    """Returns how many pixels the central crop takes at each end, scalar float32.

    `preprocessing.central_crop` finds it in float64, which TFLite can't calculate with: a table has all its results.
    """
    if fraction == 1:
        return tf.constant(0.0)
    lengths = np.arange(MAX_SIDE_PX + 1, dtype=np.float64)
    return tf.gather(((lengths - lengths * fraction) / 2).astype(np.int32).astype(np.float32), length)


def _triangle(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(0.0, 1.0 - tf.abs(x))


def _cubic(x: tf.Tensor) -> tf.Tensor:
    """Keys' cubic convolution kernel with a = -1/2, which TensorFlow's antialiased bicubic uses, too."""
    x = tf.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))
