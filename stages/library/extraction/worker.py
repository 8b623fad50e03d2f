"""One network and the images that go through it: decoding, preprocessing, network and the caller's work overlap.

On a CPU a thread takes some batches from their records to their features, and as many run as keep the hardware busy. So
pixels are handed over to nobody. A pipeline of tf.data before the network's threads made them wait, and took several
times the CPU time of the decoding and resizing in it (docs/performance.md). For a GPU every core decodes parts of
batches, and few threads put the parts together and call the network.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.library.common import console, tensorflow_runtime
from stages.library.common.threads import ahead
from stages.library.extraction import batch_slots, pixels
from stages.library.extraction import runtime as runtimes
from stages.library.extraction.feature_store import Rows
from stages.library.extraction.runtime import Plan
from stages.library.features.cache import quantize
from stages.library.records import preprocessing
from stages.library.records.manifest import Manifest
from stages.library.records.preprocessing import Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf

IMAGES_AT_ONCE = 64
BYTES_AT_ONCE = 1 << 23
DECODED_AT_ONCE = 16  # for a GPU: more make its first batch late, fewer make more small calls
PIXEL_BYTES = 3 * np.dtype(np.float32).itemsize


@dataclass(frozen=True)
class Job:
    """What is computed; it can be pickled and sent to another machine that sees the same files.

    `weights` is `extract.weights`; `calibration` has the manifest's rows of the images that int8 is calibrated on.
    """

    backbone: str
    weights: Mapping[str, str]
    preparation: Preprocessing
    runtime: str
    plan: Plan
    manifest: Manifest
    calibration: tuple[int, ...] = ()
    feature_blocks: int = 1


class Worker:
    """A compiled network; raises UserError where the runtime or the weights can't be had."""

    def __init__(self, job: Job):
        runtime = runtimes.lookup(job.runtime)
        runtime.prepare(job.plan.precision)
        from stages.library.networks.weights import build_with_weights  # after the runtime's settings

        model, _, _ = build_with_weights(job.backbone, job.plan.size_px, job.weights, job.feature_blocks)
        self._job = job
        calibration = (
            preprocessing.parse(content, job.preparation)["image"][None]
            for content in job.manifest.serialized(job.calibration)
        )
        self._compiled: runtimes.Compiled = runtime.compile(model, job.plan, calibration)
        self._on_gpu = self._compiled.device != preprocessing.CPU
        if self._on_gpu:
            self._pixels = pixels.on_gpu(job.preparation, self._compiled.device)
            if job.plan.batch_size < DECODED_AT_ONCE:
                size = f"`extract.batch_size` is {job.plan.batch_size}, which suits a CPU"
                console.say(f"{size}; for this GPU set it to 64 or more")
        else:
            self._pixels = pixels.on_cpu(job.preparation)
        import tensorflow as tf

        with tf.device(self._compiled.device):
            self._any_slot = batch_slots.are_alike(self._compiled.forward, job.plan.batch_size, job.plan.size_px)

    def features(self, batches: np.ndarray) -> Iterator[Rows]:
        """Yields the features of each batch or of some that follow each other; in order, or in that of the rows.

        Args:
          batches: rows of the manifest, int64 (batches, batch_size), -1 where a slot stays empty.
        """
        if self._any_slot:
            batches = batch_slots.packed(batches)
        if self._on_gpu:
            yield from self._through_gpu(batches)
            return
        plan = self._job.plan
        batch_bytes = plan.batch_size * plan.size_px**2 * PIXEL_BYTES
        at_once = max(min(IMAGES_AT_ONCE // plan.batch_size, BYTES_AT_ONCE // batch_bytes), 1)
        blocks = (batches[start : start + at_once] for start in range(0, len(batches), at_once))
        yield from ahead(self._on_cpu, blocks, self._compiled.callers)

    def _on_cpu(self, batches: np.ndarray) -> Rows:
        """Returns the features of some batches; preparing them at once saves most of the calls' own cost."""
        import tensorflow as tf

        images = self._pixels_of(_filled(batches).ravel())
        with tf.device(preprocessing.CPU):
            split = tf.split(images, len(batches))
        outputs = [np.stack(values) for values in zip(*map(self._compiled.forward, split), strict=True)]
        return self._rows(batches, *outputs)

    def _through_gpu(self, batches: np.ndarray) -> Iterator[Rows]:
        import tensorflow as tf

        starts = range(0, batches.shape[1], DECODED_AT_ONCE)
        parts = (_filled(batch)[start : start + DECODED_AT_ONCE] for batch in batches for start in starts)
        cores = tensorflow_runtime.cores()
        decoded = ahead(self._pixels_of, parts, cores + cores // 4)  # some wait for the GPU

        def run(item: "tuple[np.ndarray, list[tf.Tensor]]") -> Rows:
            batch, parts = item
            with tf.device(self._compiled.device):
                images = tf.concat(parts, 0)
            return self._rows(batch, *self._compiled.forward(images))

        with contextlib.closing(decoded):
            items = ((batch, list(itertools.islice(decoded, len(starts)))) for batch in batches)
            yield from ahead(run, items, self._compiled.callers)

    def _pixels_of(self, rows: np.ndarray) -> "tf.Tensor":
        return self._pixels(list(self._job.manifest.serialized(rows)))

    def _rows(self, batches: np.ndarray, bottleneck: np.ndarray, logits: np.ndarray | None = None) -> Rows:
        taken = batches >= 0
        keys, values = self._job.manifest.keys[batches[taken]], quantize(bottleneck[taken])
        return Rows(keys, values, values[:, :0] if logits is None else quantize(logits[taken]))


def _filled(batches: np.ndarray) -> np.ndarray:
    """Returns rows with one of them in the slots that stay empty: an image more than once does no harm."""
    return np.where(batches >= 0, batches, batches.max())
