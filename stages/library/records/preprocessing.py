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

import pydantic

from stages.library.common.guarded_files import CONFIG

if TYPE_CHECKING:
    import tensorflow as tf

T = TypeVar("T")

ResizeMethod = Literal["bilinear", "bicubic", "bilinear_tf1"]
InputSize = Annotated[int, pydantic.Field(ge=1, le=1024)]
Kept = Annotated[float, pydantic.Field(gt=0, le=1)]

# What the ops below do, for people: it stands in the feature store beside the features.
DESCRIPTION = (
    "libjpeg integer-accurate, RGB; central crop, then to a square: half-pixel centres, antialias if a side shrinks"
)

BATCHES_AHEAD = 2
CPU = "CPU:0"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    Attributes:
      input_size_px: side of the square.
      central_crop: fraction of each side that is kept, in (0, 1].
      resize: how the crop is brought to the square, a `ResizeMethod`.
    """

    __pydantic_config__: ClassVar = CONFIG

    input_size_px: InputSize
    central_crop: Kept = 1.0
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
    image = central_crop(tf.convert_to_tensor(image), preprocessing.central_crop)
    if preprocessing.resize == "bilinear_tf1":
        return _interpolate(image, size, half_pixel_centers=False)  # averages of values in range stay in range
    if preprocessing.resize == "bicubic":
        # A cubic overshoots at edges.
        resized = tf.image.resize(image, size, tf.image.ResizeMethod.BICUBIC, antialias=True)
        return tf.clip_by_value(resized, 0.0, 255.0)
    return tf.cond(
        tf.reduce_all(tf.shape(image)[-3:-1] <= size),
        lambda: _interpolate(image, size, half_pixel_centers=True),
        lambda: tf.image.resize(image, size, tf.image.ResizeMethod.BILINEAR, antialias=True),
    )


def _interpolate(image: "tf.Tensor", size: tuple[int, int], half_pixel_centers: bool) -> "tf.Tensor":
    """Resizes without antialias by the op that alone has TF1's corners, and takes batches only."""
    import tensorflow as tf

    image = tf.cast(image, tf.float32)  # of which it makes the same bits as of bytes, faster
    batch = image if image.shape.rank == 4 else image[None]
    resized = tf.raw_ops.ResizeBilinear(
        images=batch, size=size, align_corners=False, half_pixel_centers=half_pixel_centers
    )
    return resized if image.shape.rank == 4 else resized[0]


def central_crop(image: "tf.Tensor", fraction: float) -> "tf.Tensor":
    """Keeps the middle of images (..., height, width, 3); each border loses (1 - fraction) / 2, rounded down.

    That is what TensorFlow's own central_crop keeps, to the pixel.
    """
    import tensorflow as tf

    if fraction == 1:
        return image
    sides = tf.cast(tf.shape(image)[-3:-1], tf.float64)
    border = tf.cast((sides - sides * fraction) / 2, tf.int32)
    height, width = tf.unstack(tf.shape(image)[-3:-1])
    return image[..., border[0] : height - border[0], border[1] : width - border[1], :]


def parse(serialized: "tf.Tensor", preprocessing: Preprocessing) -> dict[str, "tf.Tensor"]:
    """Reads one record of a shard.

    Args:
      serialized: scalar string, a tf.train.Example as `records` writes it.
      preprocessing: what becomes of it.

    Returns:
      "key" scalar string, hex sha256; "label" scalar int64; "image" float32 (side, side, 3) of [0, 255].
    """
    import tensorflow as tf

    features = {
        "image/key": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
    }
    example = tf.io.parse_single_example(serialized, features)
    image = fit(decode(example["image/encoded"]), preprocessing)
    return {"key": example["image/key"], "label": example["image/class/label"], "image": image}


def encoded(serialized: "tf.Tensor") -> "tf.Tensor":
    """Returns the bytes of the images that records hold, string (n,) of string (n,)."""
    import tensorflow as tf

    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
    return tf.io.parse_example(serialized, features)["image/encoded"]


def unconverted(function: Callable[..., T]) -> Callable[..., T]:
    """Returns a function for `map` of tf.data that AutoGraph leaves as it is; it has no Python `if` on a tensor.

    What AutoGraph converts it writes to the folder of temporary files, where a kill leaves it.
    """
    import tensorflow as tf

    made: Callable[..., T] = tf.autograph.experimental.do_not_convert(function)
    return made


def dataset(paths: Sequence[Path], preprocessing: Preprocessing, batch_size: int) -> "tf.data.Dataset":
    """Streams the records of TFRecord shards in order, decoded in parallel, in memory independent of their number.

    Args:
      paths: shards, in order; an empty one is passed over.
      preprocessing: what becomes of each image.
      batch_size: images per batch; batches cross the borders of shards, the last one has what remains.

    Returns:
      A dataset of dicts: "key" string (batch,), hex sha256; "label" int64 (batch,); "image" float32 (batch,
      side, side, 3) of [0, 255].
    """
    import tensorflow as tf

    serialized = tf.data.TFRecordDataset([str(path) for path in paths])
    read = unconverted(lambda record: parse(record, preprocessing))
    images = serialized.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return images.batch(batch_size).prefetch(BATCHES_AHEAD)
