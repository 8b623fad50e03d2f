"""Antialiased bilinear resizing of images of many sizes at once, in ops that a GPU has.

TensorFlow's own op runs on a CPU only, and takes longer there than decoding does. Here one tap after another, that is
one of the source pixels that count for a pixel of the result, is gathered for all images, weighed and added. What
other images need more of adds zeros, so no image's bits depend on the images beside it.

Reference: Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989, 3.5 (a stretched kernel as antialias).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def resize(flat: "tf.Tensor", heights: "tf.Tensor", widths: "tf.Tensor", side: int) -> "tf.Tensor":
    """Resizes images to a square: half-pixel centres, antialiased where a side shrinks, in float32 arithmetic.

    `flat` has the images' RGB values row by row, one image after another, uint8 (sum of height * width * 3); heights
    and widths are int32 (n,), in pixels, in the CPU's memory. Returns float32 (n, side, side, 3) of [0, 255], on the
    device whose scope this is called in.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):  # what is small, and int32, which TensorFlow does not compute with on a GPU
        rows, row_weights = _taps(heights, side)
        columns, column_weights = _taps(widths, side)
        strides = tf.cast(widths, tf.int64) * 3
        starts = tf.cumsum(tf.cast(heights, tf.int64) * strides, exclusive=True)
        starts = starts[None, :, None] + tf.cast(rows, tf.int64) * strides[None, :, None]
        across = tf.range(tf.reduce_max(strides))
    # A narrower image repeats its last value on the right, where no column of its own looks.
    across = tf.minimum(across, strides[:, None] - 1)
    values = tf.cast(flat, tf.float16)  # whole numbers up to 2048 are exact; bytes can't be gathered on a GPU

    def row(tap: "tf.Tensor") -> "tf.Tensor":
        return tf.cast(tf.gather(values, starts[tap][:, :, None] + across[:, None, :]), tf.float32)

    squeezed = tf.reshape(_weighted(row, row_weights[..., None]), (tf.size(heights), side, -1, 3))

    def column(tap: "tf.Tensor") -> "tf.Tensor":
        return tf.gather(squeezed, columns[tap], axis=2, batch_dims=1)

    return tf.ensure_shape(_weighted(column, column_weights[:, :, None, :, None]), (None, side, side, 3))


def _taps(lengths: "tf.Tensor", side: int) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Returns the pixels that each pixel of the result sees along axes of `lengths` pixels, and their weights.

    Both are (taps, n, side), int32 and float32; the weights need not sum to 1. A triangle of half-width
    max(1, length / side) source pixels stands over each of the result's centres.
    """
    import tensorflow as tf

    lengths = tf.cast(lengths, tf.float32)[:, None]
    scale = lengths / side
    radius = tf.maximum(scale, 1.0)
    centres = (tf.range(side, dtype=tf.float32) + 0.5) * scale - 0.5  # the first source pixel's centre is 0
    most = tf.floor(2 * tf.reduce_max(radius)) + 1
    positions = tf.math.ceil(centres - radius) + tf.range(most)[:, None, None]
    inside = tf.cast((positions >= 0) & (positions < lengths), tf.float32)
    weights = tf.maximum(1 - tf.abs(positions - centres) / radius, 0.0) * inside
    return tf.cast(tf.clip_by_value(positions, 0.0, lengths - 1), tf.int32), weights


def _weighted(values: Callable[["tf.Tensor"], "tf.Tensor"], weights: "tf.Tensor") -> "tf.Tensor":
    """Returns the mean of values(tap) under weights[tap]; tap after tap, as a sum over an axis may take any order."""
    import tensorflow as tf

    _, total, weight = tf.while_loop(
        lambda tap, *_: tap < tf.shape(weights)[0],
        lambda tap, total, weight: (tap + 1, total + weights[tap] * values(tap), weight + weights[tap]),
        (tf.constant(1), weights[0] * values(tf.constant(0)), weights[0]),
        parallel_iterations=1,
    )
    return total / weight
