"""From encoded images to pixels in a GPU's memory: the CPU decodes, and the bytes are resized where they are needed.

Shrinking a photograph with antialias takes a CPU longer than decoding it, so 16 cores kept an H200 waiting.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stages.library.extraction import decoding, resampling
from stages.library.records.preprocessing import CPU, Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf

# A larger image is resized on the CPU: some in each thread at once would take GBs, and decoding it takes far longer.
MAX_PIXELS = 1 << 21


def block(preparation: Preprocessing, device: str) -> Callable[[Sequence[bytes]], "tf.Tensor"]:
    """Returns a function from serialized records, as `preprocessing.parse` reads them, to their pixels.

    Threads may call it at once. The pixels are those of `preprocessing.fit` but for rounding, and those of an image do
    not depend on the others.

    Args:
      preparation: what becomes of each image; antialiased bilinear is done on `device`, everything else on the CPU.
      device: where the pixels are wanted.

    Returns:
      Takes n records, gives float32 (n, side, side, 3) of [0, 255] on `device`.
    """
    import tensorflow as tf

    side = preparation.input_size_px

    def on_device(size: "tf.Tensor") -> "tf.Tensor":
        return tf.constant(preparation.resize == "bilinear") & (size[0] * size[1] <= MAX_PIXELS)

    def pixels(serialized: "tf.Tensor") -> "tf.Tensor":
        with tf.device(CPU):
            decoded = decoding.decode(serialized, preparation, on_device)
            here = tf.cast(decoded.sizes[:, 0] == 0, tf.int32)
            sizes = tf.maximum(decoded.sizes, 1)
            count = tf.size(here)
            chosen = tf.where(here == 1, count + tf.cumsum(here, exclusive=True), tf.range(count))
        with tf.device(device):
            resized = resampling.resize(decoded.values, sizes[:, 0], sizes[:, 1], side)
            return tf.gather(tf.concat([resized, decoded.fitted], 0), chosen)

    traced = tf.function(pixels, autograph=False, input_signature=[tf.TensorSpec((None,), tf.string)])
    concrete = traced.get_concrete_function()

    def of(serialized: Sequence[bytes]) -> "tf.Tensor":
        with tf.device(CPU):
            strings = tf.constant(serialized, tf.string)
        with tf.device(device):  # or the result would be fetched back
            return concrete(strings)

    return of
