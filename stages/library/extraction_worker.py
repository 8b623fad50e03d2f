"""One network and the pictures that go through it: decoding, preprocessing, network and the caller's work overlap."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stages.library import preprocessing, runtimes
from stages.library.bottlenecks import quantize
from stages.library.feature_store import Rows
from stages.library.preprocessing import Preprocessing
from stages.library.record_index import RecordIndex
from stages.library.runtimes import Plan

if TYPE_CHECKING:
    import tensorflow as tf

T = TypeVar("T")
R = TypeVar("R")


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

    def features(self, batches: np.ndarray) -> Iterator[Rows]:
        """Yields the features of each batch, in order.

        Args:
          batches: rows of the index, int64 (batches, batch_size), -1 where a slot stays empty.
        """

        def run(item: tuple[np.ndarray, "tf.Tensor"]) -> Rows:
            rows, images = item
            taken = rows >= 0
            bottleneck, logits = self._compiled.forward(images)
            return Rows(self._job.index.keys[rows[taken]], quantize(bottleneck[taken]), quantize(logits[taken]))

        items = zip(batches, self._images(batches), strict=True)
        yield from ahead(run, items, self._compiled.callers)

    def _images(self, batches: np.ndarray) -> Iterable["tf.Tensor"]:
        """Yields float32 pixels (batch_size, side, side, 3) of [0, 255]; an empty slot repeats a picture."""
        import tensorflow as tf

        def serialized() -> Iterator[list[bytes]]:
            for rows in batches:
                contents = list(self._job.index.serialized(rows[rows >= 0]))
                taken = iter(contents)
                yield [next(taken) if row >= 0 else contents[0] for row in rows]

        def image(content: "tf.Tensor") -> "tf.Tensor":
            return preprocessing.parse(content, self._job.preparation)["image"]

        width = batches.shape[1]
        texts = tf.data.Dataset.from_generator(serialized, output_signature=tf.TensorSpec((width,), tf.string))
        read = preprocessing.unconverted(image)
        images = texts.unbatch().map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batched = images.batch(width, drop_remainder=True)
        prefetched: Iterable[tf.Tensor] = batched.prefetch(2 * self._compiled.callers)
        return prefetched

    def _calibration(self) -> Iterator["tf.Tensor"]:
        for content in self._job.index.serialized(self._job.calibration):
            yield preprocessing.parse(content, self._job.preparation)["image"][None]


def ahead(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yields function(item) of each item, in order; threads compute the next ones while the caller deals with one."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
