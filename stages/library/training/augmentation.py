"""Random changes of training images, each decided by a seed of its own, so a resumed run sees the same images."""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import tensorflow as tf


class Augmentation(NamedTuple):
    """Limits of the random changes, each drawn uniformly."""

    flip: bool  # whether half of the images are mirrored left to right
    shift: float  # fraction of the side by which an image moves at most, along each axis
    zoom: float  # fraction by which its scale differs at most from 1
    rotation_degrees: float  # by which it turns at most


def augment(image: "tf.Tensor", seed: "tf.Tensor", limits: Augmentation) -> "tf.Tensor":
    """Changes one image, float32 (side, side, channels), as a seed, int64 (2,), says."""
    import tensorflow as tf

    if not any(limits):
        return image
    draws = tf.random.stateless_uniform((5,), seed, -1.0, 1.0)
    flip = tf.where(draws[0] < 0, -1.0, 1.0) if limits.flip else tf.constant(1.0)
    shift = draws[1:3] * limits.shift * image.shape[0]
    return changed(image, flip, shift, 1.0 + draws[3] * limits.zoom, draws[4] * math.radians(limits.rotation_degrees))


def changed(image: "tf.Tensor", flip: float, shift: "tf.Tensor", scale: float, angle: float) -> "tf.Tensor":
    """Returns an image after a single bilinear resampling; what comes in from outside repeats the border.

    A `flip` of -1 mirrors, of 1 does not; `shift`, float32 (2,), is in pixels right and down; `scale` is the content's
    size in the output relative to the input; `angle` is in radians.
    """
    import tensorflow as tf

    side_px = image.shape[0]
    centre = (side_px - 1) / 2
    cosine, sine = tf.cos(angle) / scale, tf.sin(angle) / scale
    corner, zero = -centre - shift, tf.zeros_like(cosine)
    axes = ((flip * cosine, flip * sine), (-sine, cosine))
    rows = [(x, y, x * corner[0] + y * corner[1] + centre) for x, y in axes]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([*rows[0], *rows[1], zero, zero])[None],  # output pixels -> the input pixels they show
        output_shape=tf.constant([side_px, side_px]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]
