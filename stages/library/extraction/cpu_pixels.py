"""From encoded images to pixels in memory, on the thread that calls.

Small images of one size, as data sets of tiny images have them, are enlarged together: one by one TensorFlow's
calls take longer than their work. Others are resized as soon as they are decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stages.library.extraction import decoding
from stages.library.records import preprocessing
from stages.library.records.preprocessing import CPU, Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf


def block(preparation: Preprocessing) -> Callable[[np.ndarray], "Sequence[tf.Tensor]"]:
    """Returns a function from serialized records, as `preprocessing.parse` reads them, to the pixels of each batch.

    It takes an array of bytes (batches, batch_size) and gives float32 (batch_size, side, side, 3) of [0, 255] for each
    batch, bit for bit those of `preprocessing.parse`. Threads may call it at once.
    """
    import tensorflow as tf

    def images(serialized: "tf.Tensor") -> "tf.Tensor":
        with tf.device(CPU):  # where there is a GPU, image by image would go there and come back
            return _pixels(serialized, preparation)

    traced = tf.function(images, autograph=False, input_signature=[tf.TensorSpec((None,), tf.string)])
    concrete = traced.get_concrete_function()

    def pixels(serialized: np.ndarray) -> "Sequence[tf.Tensor]":
        with tf.device(CPU):
            flat = concrete(tf.constant(serialized.ravel().tolist(), tf.string))
            batches: Sequence[tf.Tensor] = tf.split(flat, len(serialized))
        return batches

    return pixels


def _pixels(serialized: "tf.Tensor", preparation: Preprocessing) -> "tf.Tensor":
    import tensorflow as tf

    side = preparation.input_size_px
    whole = replace(preparation, central_crop=1.0)  # what is decoded is cropped, too

    def no_side_shrinks(size: "tf.Tensor") -> "tf.Tensor":
        return tf.reduce_all(size <= side)

    decoded = decoding.decode(serialized, preparation, no_side_shrinks)
    sizes = decoded.sizes
    lengths = tf.reduce_prod(tf.maximum(sizes, 1), 1) * 3
    starts = tf.cumsum(lengths, exclusive=True)
    rank = tf.cumsum(tf.cast(sizes[:, 0] == 0, tf.int32)) - 1  # among those that are fitted

    def one(number: "tf.Tensor") -> "tf.Tensor":
        size = sizes[number]

        def small() -> "tf.Tensor":
            values = decoded.values[starts[number] : starts[number] + lengths[number]]
            return preprocessing.fit(tf.reshape(values, (size[0], size[1], 3)), whole)

        return tf.cond(size[0] > 0, small, lambda: decoded.fitted[rank[number]])

    def one_by_one() -> "tf.Tensor":
        each = tf.TensorSpec((side, side, 3), tf.float32)
        return tf.map_fn(one, tf.range(tf.size(serialized)), fn_output_signature=each, parallel_iterations=1)

    def together() -> "tf.Tensor":
        return preprocessing.fit(tf.reshape(decoded.values, (-1, sizes[0, 0], sizes[0, 1], 3)), whole)

    found = tf.cond(
        tf.reduce_all(sizes == 0),
        lambda: decoded.fitted,
        lambda: tf.cond(tf.reduce_all(sizes == sizes[:1]), together, one_by_one),
    )
    return tf.ensure_shape(found, (None, side, side, 3))
