"""Runs a pretrained network over every picture once and keeps its pooled features and logits."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import pydantic

from stages.library import artifacts, backbones, console, preprocessing, records, tensorflow_runtime
from stages.library.backbones import Backbone
from stages.library.console import UserError
from stages.library.params import CONFIG, PLUGINS, plugin_names
from stages.library.preprocessing import Preprocessing, ResizeMethod

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

T = TypeVar("T")
R = TypeVar("R")
Batch = dict[str, "tf.Tensor"]
Row = tuple[bytes, int, np.ndarray, np.ndarray]
Forward = Callable[["tf.Tensor"], tuple[np.ndarray, np.ndarray]]

TAPPED = ("bottleneck", "logits")
DTYPE = "float16"
ROWS_PER_BLOCK = 1024


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `extract` of params.yaml."""

    input_size_px: Annotated[int | None, pydantic.Field(ge=32, le=1024, description="side; null: the backbone's own")]
    central_crop: Annotated[float, pydantic.Field(gt=0, le=1, description="fraction of each side that is kept")]
    resize: Annotated[ResizeMethod, pydantic.Field(description="how the crop is brought to the square")]
    flip: Annotated[bool, pydantic.Field(description="average the features with those of the mirror image")]
    batch_size: Annotated[int, pydantic.Field(ge=1, le=4096, description="images per forward pass")]
    weights: Annotated[dict[str, str], pydantic.Field(description="backbone -> published variant or path of a file")]

    @pydantic.field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, str]) -> dict[str, str]:
        known = plugin_names(PLUGINS["backbones"])
        if not set(weights) <= set(known):
            raise ValueError(f"keys must be among {', '.join(known)}")
        return weights


def input_size_px(backbone: Backbone, params: Params) -> int:
    """Returns the side of the square input.

    Raises:
      UserError: it is below what the backbone can take.
    """
    size_px = params.input_size_px or backbone.input_size_px
    if size_px < backbone.min_input_px:
        raise UserError(
            f"`extract.input_size_px` must be at least {backbone.min_input_px} for {backbone.name}, or null for its "
            f"own {backbone.input_size_px}. Received: {size_px}"
        )
    return size_px


def fingerprint(backbone: Backbone, weights_sha256: str, preparation: Preprocessing, flip: bool) -> str:
    """Returns the hex sha256 over all that a picture's cached features depend on beside the picture."""
    content = {
        "backbone": backbone.name,
        "weights_sha256": weights_sha256,
        "preprocessing": {"description": preprocessing.DESCRIPTION, **asdict(preparation)},
        "flip": flip,
        "tapped": TAPPED,
        "dtype": DTYPE,
    }
    return artifacts.sha256_bytes(artifacts.canonical_json(content).encode())


def extract(name: str, params: Params, shards: Path, classes: tuple[str, ...], out: Path) -> tuple[int, int]:
    """Writes the features of every picture: `out/SPLIT-00000-of-00004.parquet`, one file per TFRecord shard.

    Decoding, the network and writing overlap, in memory independent of the number of pictures.

    Args:
      name: of the backbone.
      params: section `extract`.
      shards: folder of TFRecord shards, all splits.
      classes: class names, in the order of the labels.
      out: existing folder.

    Returns:
      The number of pictures, and the side of the square input in pixels.

    Raises:
      UserError: shards or weights are missing or damaged, or the input size is too small.
    """
    size_px = input_size_px(backbones.lookup(name).BACKBONE, params)
    paths = [path for split in records.SPLITS for path in records.find_shards(shards, split)]
    counts = [records.count([path]) for path in paths]
    tensorflow_runtime.start()
    from stages.library.bottlenecks import ShardWriter, Source
    from stages.library.weights import build_with_weights

    model, backbone, weights_sha256 = build_with_weights(name, size_px, params.weights)
    preparation = Preprocessing(size_px, params.central_crop, params.resize)
    identity = fingerprint(backbone, weights_sha256, preparation, params.flip)
    source = Source(name, size_px, params.central_crop, params.resize, params.flip, identity, classes)
    # Batches cross the borders of shards and splits: one incomplete batch in all, not one a shard.
    batches = preprocessing.dataset(paths, preparation, params.batch_size)
    features = _features(batches, freeze(model, size_px, params.batch_size, params.flip))
    rows = iter(console.progress(features, f"bottleneck-extract {name}", "images", sum(counts)))
    for path, count in zip(paths, counts, strict=True):
        writer = ShardWriter(out / f"{path.stem}.parquet", source, backbone.feature_width, backbone.num_logits)
        for start in range(0, count, ROWS_PER_BLOCK):
            block = islice(rows, min(ROWS_PER_BLOCK, count - start))
            keys, labels, bottleneck, logits = zip(*block, strict=True)
            writer.write([key.decode() for key in keys], np.array(labels), np.stack(bottleneck), np.stack(logits))
        writer.close()
    return sum(counts), size_px


def tap(model: "keras.Model", images: "tf.Tensor", flip: bool) -> tuple["tf.Tensor", ...]:
    """Returns a backbone's outputs of `TAPPED` for float32 pixels (n, side, side, 3); with `flip`, means of two views.

    The mean of logits is the logarithm of the geometric mean of the views' probabilities, up to a constant.
    """
    views = [images, images[:, :, ::-1]] if flip else [images]
    outputs = [model(view, training=False) for view in views]
    return tuple(sum(output[name] for output in outputs) / len(outputs) for name in TAPPED)


def freeze(model: "keras.Model", size_px: int, batch_size: int, flip: bool = False) -> Forward:
    """Returns the network as one graph of constants: on a CPU measured 1.1 to 1.3 times as fast as `predict`.

    Args:
      model: a backbone's model.
      size_px: side of the square input.
      batch_size: the graph's own; fewer images are filled up with black ones, whose rows are dropped.
      flip: whether the outputs are means over each image and its mirror image.

    Returns:
      A function from float32 pixels (n, size_px, size_px, 3) of [0, 255], n <= batch_size, to bottleneck
      (n, feature_width) and logits (n, num_logits), float32.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def tapped(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tap(model, images, flip)

    signature = [tf.TensorSpec((batch_size, size_px, size_px, 3), tf.float32)]
    function = tf.function(tapped, input_signature=signature, autograph=False)
    graph = convert_variables_to_constants_v2(function.get_concrete_function())

    def forward(images: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        n = len(images)
        bottleneck, logits = graph(tf.pad(images, [[0, batch_size - n], [0, 0], [0, 0], [0, 0]]))
        return bottleneck.numpy()[:n], logits.numpy()[:n]

    return forward


def _features(batches: Iterable[Batch], forward: Forward) -> Iterator[Row]:
    """Yields key, label, bottleneck and logits of each picture."""
    import tensorflow as tf

    def run(batch: Batch) -> Iterator[Row]:
        bottleneck, logits = forward(batch["image"])
        return zip(batch["key"].numpy(), batch["label"].numpy(), bottleneck, logits, strict=True)

    try:
        for rows in _one_ahead(run, batches):
            yield from rows
    except tf.errors.DataLossError as error:
        raise UserError(f"a shard is damaged ({error.message}). Run: dvc repro -f tfrecord") from error


def _one_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yields function(item) of each item; a thread computes the next one while the caller deals with the last."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(max_workers=1) as worker:
        for item in items:
            pending.append(worker.submit(function, item))
            if len(pending) > 1:
                yield pending.popleft().result()
        for last in pending:
            yield last.result()
