"""From encoded images to pixels in TensorFlow: the same ops for training, extraction and prediction.

An image is squashed to the square: its aspect ratio is not kept. By default nothing is cropped away before, so objects
at the border count. Shrinking is antialiased, or thin structures would come and go with the size. Where no side
shrinks that changes nothing, and an op without it takes a third of the time at 96 px, an eighth at 224 px.
`bilinear_tf1` is what the published systems of 2016 and 2017 did: no antialias, and pixel centres at whole numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

import numpy as np
import pydantic

from stages.library.common.guarded_files import CONFIG

if TYPE_CHECKING:
    import tensorflow as tf

T = TypeVar("T")

ResizeMethod = Literal["bilinear", "bicubic", "bilinear_tf1"]
InputSize = Annotated[int, pydantic.Field(ge=1, le=1024)]
Kept = Annotated[float, pydantic.Field(ge=0.01, le=1)]  # a crop has at least one pixel

# What the ops below do, for people: it stands in the feature store beside the features.
DESCRIPTION = (
    "libjpeg integer-accurate, RGB; central crop, then to a square: half-pixel centres, antialias if a side shrinks"
)

CPU = "CPU:0"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input, a square."""

    __pydantic_config__: ClassVar = CONFIG

    input_size_px: InputSize
    central_crop: Kept = 1.0  # fraction of each side that is kept
    resize: ResizeMethod = "bilinear"


def decode(encoded: "tf.Tensor") -> "tf.Tensor":
    """Decodes a JPEG or PNG, scalar string, to uint8 RGB (height, width, 3); grey is replicated, alpha dropped.

    The accurate inverse DCT and chroma upsampling are those of Pillow, bit for bit, on every machine.
    """
    import tensorflow as tf

    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")  # reads PNG too


def fit(image: "tf.Tensor", preprocessing: Preprocessing) -> "tf.Tensor":
    """Crops and resizes images (..., height, width, 3) of [0, 255] to float32 (..., side, side, 3) of [0, 255]."""
    import tensorflow as tf

    size = (preprocessing.input_size_px, preprocessing.input_size_px)
    image = central_crop(image, preprocessing.central_crop)
    if preprocessing.resize == "bilinear_tf1":
        return tf.compat.v1.image.resize(tf.cast(image, tf.float32), size)
    if preprocessing.resize == "bicubic":
        resized = tf.image.resize(image, size, "bicubic", antialias=True)
        return tf.clip_by_value(resized, 0.0, 255.0)  # a cubic overshoots at edges
    return tf.cond(
        tf.reduce_all(tf.shape(image)[-3:-1] <= size),
        lambda: tf.image.resize(tf.cast(image, tf.float32), size),  # the same bits as of bytes, faster
        lambda: tf.image.resize(image, size, antialias=True),
    )


def central_crop(image: "tf.Tensor", fraction: float) -> "tf.Tensor":
    """Keeps the middle of images (..., height, width, 3); each border loses (1 - fraction) / 2, rounded down."""
    import tensorflow as tf

    # Where the sides are not known while it is traced, TensorFlow rounds a Python float to float32.
    return tf.image.central_crop(image, np.float64(fraction))


def parse(serialized: "tf.Tensor", preprocessing: Preprocessing) -> dict[str, "tf.Tensor"]:
    """Reads one record: "key" string, hex sha256; "label" int64; "image" float32 (side, side, 3) of [0, 255]."""
    import tensorflow as tf

    kinds = {"image/key": tf.string, "image/class/label": tf.int64, "image/encoded": tf.string}
    features = {name: tf.io.FixedLenFeature([], kind) for name, kind in kinds.items()}
    example = tf.io.parse_single_example(serialized, features)
    image = fit(decode(example["image/encoded"]), preprocessing)
    return {"key": example["image/key"], "label": example["image/class/label"], "image": image}


def encoded(serialized: "tf.Tensor") -> "tf.Tensor":
    """Returns the bytes of the images that records hold, string (n,) of string (n,)."""
    import tensorflow as tf

    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
    return tf.io.parse_example(serialized, features)["image/encoded"]


def unconverted(function: Callable[..., T]) -> Callable[..., T]:
    """Returns a function for `map` of tf.data, without a Python `if` on a tensor, that AutoGraph leaves as it is."""
    # What AutoGraph converts it writes to the folder of temporary files, where a kill leaves it.
    import tensorflow as tf

    made: Callable[..., T] = tf.autograph.experimental.do_not_convert(function)
    return made


def dataset(paths: Sequence[Path], preprocessing: Preprocessing, batch_size: int) -> "tf.data.Dataset":
    """Streams batches of what `parse` makes, in order and over the borders of shards; the last has what remains."""
    import tensorflow as tf

    serialized = tf.data.TFRecordDataset([str(path) for path in paths])
    read = unconverted(lambda record: parse(record, preprocessing))
    images = serialized.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return images.batch(batch_size).prefetch(2)
