"""From encoded images to pixels in TensorFlow: the same ops for training, extraction and prediction.

A network takes a square. `crop` shows it the central square of the image, `squash` all of it with sides of other
proportions, `pad` all of it with bars around, in the mean colour that the network's own scaling subtracts. Before
that, each border may lose a part (`central_crop`): of the image, of that square, or of the square around the image.
So in an image that is a square already all three are the same.

Shrinking is antialiased, or thin structures would come and go with the size. Where no side shrinks that changes
nothing, and an op without it takes a third of the time at 96 px, an eighth at 224 px. `bilinear_tf1` is what the
published systems of 2016 and 2017 did: no antialias, and pixel centres at whole numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeVar

import pydantic

from stages.library.common.guarded_files import CONFIG
from stages.library.common.params import Geometry, ResizeMethod

if TYPE_CHECKING:
    import tensorflow as tf

T = TypeVar("T")

InputSize = Annotated[int, pydantic.Field(ge=1, le=1024)]
Kept = Annotated[float, pydantic.Field(ge=0.01, le=1)]  # a crop has at least one pixel
Channel = Annotated[float, pydantic.Field(ge=0, le=255)]

# What the ops below do, for people: it stands in the feature store beside the features.
DESCRIPTION = (
    "libjpeg integer-accurate, RGB; whole pixels are cut off, then a resize: half-pixel centres, antialias if a side "
    "shrinks; bars"
)

CPU = "CPU:0"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input, a square."""

    __pydantic_config__: ClassVar = CONFIG

    input_size_px: InputSize
    central_crop: Kept = 1.0  # fraction of a side that is kept
    resize: ResizeMethod = "bilinear"
    geometry: Geometry = "squash"  # of networks that were saved without one, too
    bars_rgb: tuple[Channel, Channel, Channel] = (127.5, 127.5, 127.5)  # of [0, 255], only for `pad`


class Placement(NamedTuple):
    """Which pixels of an image fill which ones of the input, int32 scalars; what they leave of it are bars."""

    top: Any  # of the image
    left: Any
    height: Any
    width: Any
    first_row: Any  # of the input
    first_column: Any
    rows: Any
    columns: Any


def decode(encoded: "tf.Tensor") -> "tf.Tensor":
    """Decodes a JPEG or PNG, scalar string, to uint8 RGB (height, width, 3); grey is replicated, alpha dropped.

    The accurate inverse DCT and chroma upsampling are those of Pillow, bit for bit, on every machine.
    """
    import tensorflow as tf

    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")  # reads PNG too


def kept(length: "tf.Tensor", fraction: float) -> "tf.Tensor":
    """Returns how much of a side, int32, stays where each end loses (1 - fraction) / 2 of it, rounded down."""
    import tensorflow as tf

    exact = tf.cast(length, tf.float64)
    return length - 2 * tf.cast((exact - exact * fraction) / 2, tf.int32)


def placement(
    height: "tf.Tensor",
    width: "tf.Tensor",
    preprocessing: Preprocessing,
    kept: Callable[["tf.Tensor", float], "tf.Tensor"] = kept,
) -> Placement:
    """Says where an image of a height and width in pixels, int32 scalars, comes to lie in the input."""
    import tensorflow as tf

    side, fraction = preprocessing.input_size_px, preprocessing.central_crop
    if preprocessing.geometry == "squash":
        cut = kept(height, fraction), kept(width, fraction)
    else:
        extent = tf.minimum(height, width) if preprocessing.geometry == "crop" else tf.maximum(height, width)
        square = kept(extent, fraction)
        cut = tf.minimum(height, square), tf.minimum(width, square)
    start = (height - cut[0]) // 2, (width - cut[1]) // 2
    if preprocessing.geometry != "pad":
        return Placement(*start, *cut, 0, 0, side, side)
    sizes = [tf.maximum((2 * side * length + square) // (2 * square), 1) for length in cut]  # rounded
    return Placement(*start, *cut, *((side - size) // 2 for size in sizes), *sizes)


def cut(image: "tf.Tensor", preprocessing: Preprocessing) -> "tf.Tensor":
    """Returns that part of images (..., height, width, 3) which `fit` shows; `fit` does the same with that part."""
    import tensorflow as tf

    if preprocessing.geometry != "crop" and preprocessing.central_crop == 1:
        return image
    height, width = _sides(image)
    at = placement(height, width, preprocessing)
    return tf.convert_to_tensor(image)[..., at.top : at.top + at.height, at.left : at.left + at.width, :]


def fit(image: "tf.Tensor", preprocessing: Preprocessing) -> "tf.Tensor":
    """Brings images (..., height, width, 3) of [0, 255] to float32 (..., side, side, 3) of [0, 255]."""
    import tensorflow as tf

    image, side = cut(image, preprocessing), preprocessing.input_size_px
    if preprocessing.geometry != "pad":
        return _resized(image, (side, side), preprocessing.resize)
    height, width = _sides(image)
    at = placement(height, width, replace(preprocessing, central_crop=1.0))
    shown = _resized(image, tf.stack([at.rows, at.columns]), preprocessing.resize)
    shown = tf.concat([shown, tf.ones_like(shown[..., :1])], -1)
    shown = tf.image.pad_to_bounding_box(shown, at.first_row, at.first_column, side, side)
    return shown[..., :3] + (1 - shown[..., 3:]) * tf.constant(preprocessing.bars_rgb)


def _sides(image: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
    import tensorflow as tf

    shape = tf.shape(image)
    return shape[-3], shape[-2]


def _resized(image: "tf.Tensor", size: "tuple[int, int] | tf.Tensor", method: ResizeMethod) -> "tf.Tensor":
    import tensorflow as tf

    if method == "bilinear_tf1":
        return tf.compat.v1.image.resize(tf.cast(image, tf.float32), size)
    if method == "bicubic":
        resized = tf.cast(tf.image.resize(image, size, "bicubic", antialias=True), tf.float32)
        return tf.clip_by_value(resized, 0.0, 255.0)  # a cubic overshoots at edges
    return tf.cond(
        tf.reduce_all(tf.shape(image)[-3:-1] <= size),
        lambda: tf.image.resize(tf.cast(image, tf.float32), size),  # the same bits as of bytes, faster
        lambda: tf.image.resize(image, size, antialias=True),
    )


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
