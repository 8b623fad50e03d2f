"""From encoded images to pixels, in memory that does not grow with the size of the images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stages.library.extraction import resampling
from stages.library.records import preprocessing
from stages.library.records.preprocessing import CPU, Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf

# A larger image is resized on the CPU: some in each thread at once would take GBs, and decoding it takes far longer.
MAX_PIXELS_ON_GPU = 1 << 21


def on_cpu(preparation: Preprocessing) -> Callable[[Sequence[bytes]], "tf.Tensor"]:
    """Returns a function from n serialized records to their pixels, float32 (n, side, side, 3) of [0, 255].

    They are bit for bit those of `preprocessing.parse`. Small images of one size, as data sets of tiny images have
    them, are enlarged together: one by one TensorFlow's calls take longer than their work. Threads may call it at once.
    """
    import tensorflow as tf

    side = preparation.input_size_px
    whole = replace(preparation, central_crop=1.0)  # what is decoded is cropped, too

    def pixels(serialized: "tf.Tensor") -> "tf.Tensor":
        values, sizes, fitted = _decoded(serialized, preparation, lambda size: tf.reduce_all(size <= side))
        lengths = tf.reduce_prod(tf.maximum(sizes, 1), 1) * 3
        starts = tf.cumsum(lengths, exclusive=True)
        rank = tf.cumsum(tf.cast(sizes[:, 0] == 0, tf.int32)) - 1  # among those that are fitted

        def one(number: "tf.Tensor") -> "tf.Tensor":
            def small() -> "tf.Tensor":
                flat = values[starts[number] : starts[number] + lengths[number]]
                return preprocessing.fit(tf.reshape(flat, (sizes[number, 0], sizes[number, 1], 3)), whole)

            return tf.cond(sizes[number, 0] > 0, small, lambda: fitted[rank[number]])

        def one_by_one() -> "tf.Tensor":
            each = tf.TensorSpec((side, side, 3), tf.float32)
            return tf.map_fn(one, tf.range(tf.size(serialized)), fn_output_signature=each, parallel_iterations=1)

        def together() -> "tf.Tensor":
            return preprocessing.fit(tf.reshape(values, (-1, sizes[0, 0], sizes[0, 1], 3)), whole)

        def some_small() -> "tf.Tensor":
            return tf.cond(tf.reduce_all(sizes == sizes[:1]), together, one_by_one)

        return tf.ensure_shape(tf.cond(tf.reduce_all(sizes == 0), lambda: fitted, some_small), (None, side, side, 3))

    return _traced(pixels, CPU)


def on_gpu(preparation: Preprocessing, device: str) -> Callable[[Sequence[bytes]], "tf.Tensor"]:
    """Returns a function from n serialized records to their pixels on a device, float32 (n, side, side, 3) of [0, 255].

    They are those of `on_cpu` but for rounding, and those of an image do not depend on the others. Antialiased bilinear
    without bars is done on the device: shrinking a photograph takes a CPU longer than decoding it, so 16 cores kept an
    H200 waiting.
    Threads may call it at once.
    """
    import tensorflow as tf

    resized_here = preparation.resize == "bilinear" and preparation.geometry != "pad"

    def on_device(size: "tf.Tensor") -> "tf.Tensor":
        return tf.constant(resized_here) & (size[0] * size[1] <= MAX_PIXELS_ON_GPU)

    def pixels(serialized: "tf.Tensor") -> "tf.Tensor":
        values, sizes, fitted = _decoded(serialized, preparation, on_device)
        here = tf.cast(sizes[:, 0] == 0, tf.int32)
        sizes = tf.maximum(sizes, 1)
        count = tf.size(here)
        chosen = tf.where(here == 1, count + tf.cumsum(here, exclusive=True), tf.range(count))
        with tf.device(device):
            resized = resampling.resize(values, sizes[:, 0], sizes[:, 1], preparation.input_size_px)
            return tf.gather(tf.concat([resized, fitted], 0), chosen)

    return _traced(pixels, device)


def _traced(pixels: Callable[["tf.Tensor"], "tf.Tensor"], device: str) -> Callable[[Sequence[bytes]], "tf.Tensor"]:
    """Compiles a function of strings (n,), for the CPU where it says nothing else; its result stays on a device."""
    import tensorflow as tf

    def from_cpu(serialized: "tf.Tensor") -> "tf.Tensor":
        with tf.device(CPU):  # where there is a GPU, image by image would go there and come back
            return pixels(serialized)

    traced = tf.function(from_cpu, autograph=False, input_signature=[tf.TensorSpec((None,), tf.string)])
    concrete = traced.get_concrete_function()

    def call(serialized: Sequence[bytes]) -> "tf.Tensor":
        with tf.device(CPU):
            strings = tf.constant(serialized, tf.string)
        with tf.device(device):  # or the result would be fetched back
            return concrete(strings)

    return call


def _decoded(
    serialized: "tf.Tensor", preparation: Preprocessing, as_decoded: Callable[["tf.Tensor"], "tf.Tensor"]
) -> tuple["tf.Tensor", "tf.Tensor", "tf.Tensor"]:
    """Decodes records, one after another; `as_decoded` says of a size whether such an image is left for later.

    Returns:
      uint8 (sum of height * width * 3), RGB, of images left as decoded and cropped, and of the others one black pixel;
      int32 (n, 2), their heights and widths, 0 for the others; float32 (number of the others, side, side, 3) of
      [0, 255], these as the network takes them.
    """
    import tensorflow as tf

    count = tf.size(serialized)
    encoded = preprocessing.encoded(serialized)
    side = preparation.input_size_px

    def ragged(dtype: "tf.DType") -> "tf.TensorArray":
        return tf.TensorArray(dtype, count, infer_shape=False, element_shape=(None,))

    def step(number: "tf.Tensor", *arrays: "tf.TensorArray") -> tuple["tf.Tensor | tf.TensorArray", ...]:
        image = preprocessing.decode(encoded[number])
        cropped = preprocessing.cut(image, preparation)
        size = tf.shape(cropped)[:2]
        found = tf.cond(
            as_decoded(size),
            lambda: (tf.reshape(cropped, [-1]), size, tf.zeros(0)),
            lambda: (tf.zeros(3, tf.uint8), size * 0, tf.reshape(preprocessing.fit(image, preparation), [-1])),
        )
        return number + 1, *(array.write(number, value) for array, value in zip(arrays, found, strict=True))

    arrays = ragged(tf.uint8), tf.TensorArray(tf.int32, count, element_shape=(2,)), ragged(tf.float32)
    _, values, sizes, fitted = tf.while_loop(
        lambda number, *_: number < count, step, (tf.constant(0), *arrays), parallel_iterations=1
    )
    return values.concat(), sizes.stack(), tf.reshape(fitted.concat(), (-1, side, side, 3))
