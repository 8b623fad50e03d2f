"""Many records decoded at once, in memory that does not grow with the size of the images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Decoded:
    """Images one after another, each either as it was decoded and cropped, or as a network takes it.

    Attributes:
      values: uint8 (sum of height * width * 3), RGB, of those as decoded; of the others one black pixel.
      sizes: int32 (n, 2), their heights and widths, 0 for the others.
      fitted: float32 (number of the others, side, side, 3) of [0, 255].
    """

    values: "tf.Tensor"
    sizes: "tf.Tensor"
    fitted: "tf.Tensor"


def decode(
    serialized: "tf.Tensor", preparation: Preprocessing, as_decoded: Callable[["tf.Tensor"], "tf.Tensor"]
) -> Decoded:
    """Decodes records, string (n,), one after another.

    Args:
      serialized: as `preprocessing.parse` reads them.
      preparation: what becomes of each image.
      as_decoded: whether an image of a size, int32 (height, width), stays as decoded and cropped.
    """
    import tensorflow as tf

    count = tf.size(serialized)
    encoded = preprocessing.encoded(serialized)
    side = preparation.input_size_px

    def ragged(dtype: "tf.DType") -> "tf.TensorArray":
        return tf.TensorArray(dtype, count, infer_shape=False, element_shape=(None,))

    def step(number: "tf.Tensor", *arrays: "tf.TensorArray") -> tuple["tf.Tensor | tf.TensorArray", ...]:
        values, sizes, fitted = arrays
        image = preprocessing.decode(encoded[number])
        cropped = tf.image.central_crop(image, preparation.central_crop)
        size = tf.shape(cropped)[:2]
        value, pixels, size = tf.cond(
            as_decoded(size),
            lambda: (tf.reshape(cropped, [-1]), tf.zeros(0), size),
            lambda: (tf.zeros(3, tf.uint8), tf.reshape(preprocessing.fit(image, preparation), [-1]), size * 0),
        )
        return number + 1, values.write(number, value), sizes.write(number, size), fitted.write(number, pixels)

    arrays = ragged(tf.uint8), tf.TensorArray(tf.int32, count, element_shape=(2,)), ragged(tf.float32)
    _, values, sizes, fitted = tf.while_loop(
        lambda number, *_: number < count, step, (tf.constant(0), *arrays), parallel_iterations=1
    )
    return Decoded(values.concat(), sizes.stack(), tf.reshape(fitted.concat(), (-1, side, side, 3)))
