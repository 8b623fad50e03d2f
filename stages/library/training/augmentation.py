"""Random changes of training images, each decided by a seed of its own, so a resumed run sees the same images."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random changes, each drawn uniformly.

    Attributes:
      flip: whether half of the images are mirrored left to right.
      shift: fraction of the side by which an image moves at most, along each axis.
      zoom: fraction by which its scale differs at most from 1.
      rotation_degrees: angle by which it turns at most.
    """

    flip: bool
    shift: float
    zoom: float
    rotation_degrees: float


NONE = Augmentation(flip=False, shift=0.0, zoom=0.0, rotation_degrees=0.0)


def transform(side_px: int, flip: float, shift: "tf.Tensor", scale: float, angle: float) -> "tf.Tensor":
    """Returns the projective transform, float32 (8,), that maps output pixels to the input pixels they show.

    Args:
      side_px: side of the square image.
      flip: -1 mirrors, 1 does not.
      shift: float32 (2,), pixels right and down by which the content moves.
      scale: the content's size in the output relative to the input.
      angle: radians.
    """
    import tensorflow as tf

    centre = (side_px - 1) / 2
    cosine, sine = tf.cos(angle) / scale, tf.sin(angle) / scale
    axes = ((flip * cosine, flip * sine), (-sine, cosine))
    corner = -centre - shift
    rows = [(x, y, x * corner[0] + y * corner[1] + centre) for x, y in axes]
    zero = tf.zeros_like(cosine)
    return tf.stack([*rows[0], *rows[1], zero, zero])


def augment(image: "tf.Tensor", seed: "tf.Tensor", limits: Augmentation) -> "tf.Tensor":
    """Changes one image at random, in a single bilinear resampling; what comes in from outside repeats the border.

    Args:
      image: float32 (side, side, channels).
      seed: int64 (2,); the same seed gives the same change.
      limits: how far the changes go.

    Returns:
      float32 of the same shape.
    """
    import tensorflow as tf

    if limits == NONE:
        return image
    side_px = image.shape[0]
    draws = tf.random.stateless_uniform((5,), seed, -1.0, 1.0)
    flip = tf.where(draws[0] < 0, -1.0, 1.0) if limits.flip else tf.constant(1.0)
    matrix = transform(
        side_px,
        flip,
        draws[1:3] * limits.shift * side_px,
        1.0 + draws[3] * limits.zoom,
        draws[4] * math.radians(limits.rotation_degrees),
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=matrix[None],
        output_shape=tf.constant([side_px, side_px]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]
