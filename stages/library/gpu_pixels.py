"""From encoded pictures to pixels in a GPU's memory: the CPU decodes, and the bytes are resized where they are needed.

Shrinking a photograph with antialias takes a CPU longer than decoding it, so 16 cores kept an H200 waiting.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stages.library import preprocessing, resampling
from stages.library.preprocessing import CPU, Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf

# A larger picture is resized on the CPU: some in each thread at once would take GBs, and decoding it takes far longer.
MAX_PIXELS = 1 << 21


def block(preparation: Preprocessing, device: str) -> Callable[[Sequence[bytes]], "tf.Tensor"]:
    """Returns a function from serialized records, as `preprocessing.parse` reads them, to their pixels.

    Threads may call it at once. The pixels are those of `preprocessing.fit` but for rounding, and those of a picture do
    not depend on the others.

    Args:
      preparation: what becomes of each picture; antialiased bilinear is done on `device`, everything else on the CPU.
      device: where the pixels are wanted.

    Returns:
      Takes n records, gives float32 (n, side, side, 3) of [0, 255] on `device`.
    """
    import tensorflow as tf

    side = preparation.input_size_px

    def pixels(serialized: "tf.Tensor") -> "tf.Tensor":
        with tf.device(CPU):
            flat, sizes, fitted = _decoded(serialized, preparation)
            large = tf.cast(sizes[:, 0] == 0, tf.int32)
            sizes = tf.maximum(sizes, 1)
            count = tf.size(large)
            chosen = tf.where(large == 1, count + tf.cumsum(large, exclusive=True), tf.range(count))
        with tf.device(device):
            resized = resampling.resize(flat, sizes[:, 0], sizes[:, 1], side)
            return tf.gather(tf.concat([resized, tf.reshape(fitted, (-1, side, side, 3))], 0), chosen)

    traced = tf.function(pixels, autograph=False, input_signature=[tf.TensorSpec((None,), tf.string)])
    concrete = traced.get_concrete_function()

    def of(serialized: Sequence[bytes]) -> "tf.Tensor":
        with tf.device(CPU):
            strings = tf.constant(serialized, tf.string)
        with tf.device(device):  # or the result would be fetched back
            return concrete(strings)

    return of


def _decoded(serialized: "tf.Tensor", preparation: Preprocessing) -> tuple["tf.Tensor", "tf.Tensor", "tf.Tensor"]:
    """Decodes records, string (n,), one after another.

    Returns:
      uint8, the values of one picture after another; int32 (n, 2), their heights and widths; float32, the pixels of
      those that were resized here, one after another, which have three values and a size of 0 in the others.
    """
    import tensorflow as tf

    count = tf.size(serialized)
    here = preparation.resize != "bilinear"

    def ragged(dtype: "tf.DType") -> "tf.TensorArray":
        return tf.TensorArray(dtype, count, infer_shape=False, element_shape=(None,))

    def step(number: "tf.Tensor", *arrays: "tf.TensorArray") -> tuple["tf.Tensor | tf.TensorArray", ...]:
        flat, sizes, fitted = arrays
        picture = preprocessing.picture(serialized[number])
        cropped = preprocessing.central_crop(picture, preparation.central_crop)
        shape = tf.shape(cropped)
        large = tf.constant(True) if here else shape[0] * shape[1] > MAX_PIXELS
        values, pixels = tf.cond(
            large,
            lambda: (tf.zeros(3, tf.uint8), tf.reshape(preprocessing.fit(picture, preparation), [-1])),
            lambda: (tf.reshape(cropped, [-1]), tf.zeros(0)),
        )
        size = tf.where(large, 0, shape[:2])
        return number + 1, flat.write(number, values), sizes.write(number, size), fitted.write(number, pixels)

    arrays = ragged(tf.uint8), tf.TensorArray(tf.int32, count, element_shape=(2,)), ragged(tf.float32)
    _, flat, sizes, fitted = tf.while_loop(
        lambda number, *_: number < count, step, (tf.constant(0), *arrays), parallel_iterations=1
    )
    return flat.concat(), sizes.stack(), fitted.concat()
