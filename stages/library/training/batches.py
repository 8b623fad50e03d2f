"""Batches of images for training: shuffled and changed at random, or as they are."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.library.common.params import Flip
from stages.library.records.manifest import Manifest
from stages.library.records.preprocessing import Preprocessing, dataset, parse, unconverted

if TYPE_CHECKING:
    import tensorflow as tf

# Shards are shuffled, then records within windows. Shards are filled by content, so a window is a random sample.
SHUFFLED_RECORDS = 4096


class Augmentation(NamedTuple):
    """Limits of the random changes, each drawn uniformly."""

    flip: Flip  # whether half of the images are mirrored left to right; alternating: each one in every other pass
    shift: float  # fraction of the side by which an image moves at most, along each axis
    zoom: float  # fraction by which its scale differs at most from 1
    rotation_degrees: float  # by which it turns at most


@dataclass(frozen=True)
class Stream:
    """Augmented batches of the training split; the incomplete one at the end of a pass is left out.

    Order and augmentation of a pass depend on the seed and the pass's number alone: a resumed training sees the same.
    """

    manifest: Manifest
    preprocessing: Preprocessing
    num_classes: int
    batch_size: int  # at most the number of records
    augmentation: Augmentation
    seed: int

    def batches(self, first: int, end: int) -> "tf.data.Dataset":
        """Streams the batches `first` to `end` - 1 of the training.

        They are images in [0, 255], one-hot labels and weights of losses, all float32.
        """
        import tensorflow as tf

        per_pass = len(self.manifest.keys) // self.batch_size
        passes = tf.data.Dataset.range(first // per_pass, -(-end // per_pass))
        rest = passes.flat_map(unconverted(self._pass)).skip(first % per_pass)
        return rest.take(end - first).prefetch(tf.data.AUTOTUNE)

    def _pass(self, number: "tf.Tensor") -> "tf.data.Dataset":
        import tensorflow as tf

        paths = tf.constant([str(path) for path in self.manifest.paths])
        ends = tf.constant(np.cumsum((0, *self.manifest.counts)))
        weights = tf.constant(self.manifest.weights, tf.float32)
        # Chance says which images begin mirrored (Jordan 2024, arXiv:2404.00498).
        first = np.random.default_rng(self.seed).random(len(self.manifest.keys)) < 0.5
        mirrored = tf.not_equal(tf.constant(first), number % 2 == 1)

        def weighted(shard: "tf.Tensor") -> "tf.data.Dataset":
            rows = [each[ends[shard] : ends[shard + 1]] for each in (weights, mirrored)]
            return tf.data.Dataset.zip(
                tf.data.TFRecordDataset(paths[shard]), *map(tf.data.Dataset.from_tensor_slices, rows)
            )

        def example(position: "tf.Tensor", record: tuple["tf.Tensor", "tf.Tensor", "tf.Tensor"]) -> Any:
            serialized, weight, turn = record
            parsed = parse(serialized, self.preprocessing)
            # Two images never share a seed as long as a pass has under 2^40 of them.
            seed = tf.stack([tf.constant(self.seed, tf.int64), number * 2**40 + position])
            image = augment(parsed["image"], seed, self.augmentation, turn)
            return image, tf.one_hot(parsed["label"], self.num_classes), weight

        def shuffled(*items: "tf.Tensor") -> "tuple[tf.Tensor, ...]":
            # Dataset.shuffle takes no seed that changes with the pass; a seed of its own is what makes it resumable.
            # The same for all items, so what belongs together stays so.
            seed = tf.stack([self.seed, number])
            return tuple(tf.random.experimental.stateless_shuffle(each, seed) for each in items)

        shards = tf.data.Dataset.from_tensor_slices(*shuffled(tf.range(len(self.manifest.paths))))
        windows = shards.flat_map(unconverted(weighted)).batch(SHUFFLED_RECORDS).map(unconverted(shuffled))
        examples = windows.unbatch().enumerate().map(unconverted(example), num_parallel_calls=tf.data.AUTOTUNE)
        return examples.batch(self.batch_size, drop_remainder=True)


def held_out(manifest: Manifest, preprocessing: Preprocessing, num_classes: int, batch_size: int) -> "tf.data.Dataset":
    """Streams some shards once, in order, as they are; yields images and labels as `Stream.batches` does."""
    import tensorflow as tf

    pair = unconverted(lambda batch: (batch["image"], tf.one_hot(batch["label"], num_classes)))
    # Keras warns of running out of data where it is not told how much there is.
    known = tf.data.experimental.assert_cardinality(-(-len(manifest.keys) // batch_size))
    return dataset(manifest.paths, preprocessing, batch_size).map(pair).apply(known)


def augment(
    image: "tf.Tensor", seed: "tf.Tensor", limits: Augmentation, turn: "bool | tf.Tensor" = False
) -> "tf.Tensor":
    """Changes one image, float32 (side, side, channels), as a seed, int64 (2,), says.

    `turn` says whether it is mirrored where flips alternate. An image that is only moved, is moved by whole pixels, so
    that no interpolation blurs it.
    """
    import tensorflow as tf

    if not any(limits):
        return image
    draws = tf.random.stateless_uniform((5,), seed, -1.0, 1.0)
    mirrored = turn if limits.flip == "alternating" else draws[0] < 0
    flip = tf.where(mirrored, -1.0, 1.0) if limits.flip else tf.constant(1.0)
    shift = draws[1:3] * limits.shift * image.shape[0]
    if not limits.zoom and not limits.rotation_degrees:
        shift = tf.round(shift)
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
