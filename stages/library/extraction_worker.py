"""One network and the pictures that go through it: decoding, preprocessing, network and the caller's work overlap.

A thread takes some batches from their records to their features, and as many run as keep the hardware busy. So pixels
are handed over to nobody. A pipeline of tf.data before the network's threads made them wait, and took several times
the CPU time of the decoding and resizing in it (docs/performance.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.library import preprocessing, runtimes
from stages.library.bottlenecks import quantize
from stages.library.feature_store import Rows
from stages.library.preprocessing import Preprocessing
from stages.library.record_index import RecordIndex
from stages.library.runtimes import Plan
from stages.library.threads import ahead

if TYPE_CHECKING:
    import tensorflow as tf

PICTURES_AT_ONCE = 64
BYTES_AT_ONCE = 1 << 23
PIXEL_BYTES = 3 * np.dtype(np.float32).itemsize


@dataclass(frozen=True)
class Job:
    """What is computed; it can be pickled and sent to another machine that sees the same files.

    Attributes:
      backbone: its name; weights: `extract.weights`; preparation: how a picture becomes its input.
      runtime: name of the runtime; plan: what the network is compiled for.
      index: the pictures.
      calibration: rows of the pictures that int8 is calibrated on.
    """

    backbone: str
    weights: Mapping[str, str]
    preparation: Preprocessing
    runtime: str
    plan: Plan
    index: RecordIndex
    calibration: tuple[int, ...] = ()


class Worker:
    """A compiled network.

    Raises:
      UserError: the runtime or the weights can't be had.
    """

    def __init__(self, job: Job):
        runtime = runtimes.lookup(job.runtime)
        runtime.prepare(job.plan.precision)
        from stages.library.weights import build_with_weights  # after the runtime's settings

        model, _, _ = build_with_weights(job.backbone, job.plan.size_px, job.weights)
        self._job = job
        self._compiled = runtime.compile(model, job.plan, self._calibration())
        self._pixels = preprocessing.batched(job.preparation)

    def features(self, batches: np.ndarray) -> Iterator[Rows]:
        """Yields the features of each batch or of some that follow each other, in order.

        Args:
          batches: rows of the index, int64 (batches, batch_size), -1 where a slot stays empty.
        """
        plan = self._job.plan
        batch_bytes = plan.batch_size * plan.size_px**2 * PIXEL_BYTES
        at_once = max(min(PICTURES_AT_ONCE // plan.batch_size, BYTES_AT_ONCE // batch_bytes), 1)
        blocks = (batches[start : start + at_once] for start in range(0, len(batches), at_once))
        yield from ahead(self._run, blocks, self._compiled.callers)

    def _run(self, batches: np.ndarray) -> Rows:
        """Returns the features of some batches; preparing them at once saves most of the calls' own cost."""
        taken = batches >= 0
        rows = batches[taken]
        contents = np.empty(batches.shape, object)
        contents[taken] = list(self._job.index.serialized(rows))
        contents[~taken] = contents[taken][0]  # a picture more than once does no harm
        outputs = [self._compiled.forward(images) for images in self._pixels(contents)]
        bottleneck, logits = (quantize(np.stack(values)[taken]) for values in zip(*outputs, strict=True))
        return Rows(self._job.index.keys[rows], bottleneck, logits)

    def _calibration(self) -> Iterator["tf.Tensor"]:
        for content in self._job.index.serialized(self._job.calibration):
            yield preprocessing.parse(content, self._job.preparation)["image"][None]
