"""This machine: one network in this process, all cores or the GPU."""

from collections.abc import Callable, Iterator

import numpy as np

from stages.library.extraction import feature_parts
from stages.library.extraction.engine import Resources
from stages.library.extraction.feature_store import FeatureStore, Rows
from stages.library.extraction.worker import Job, Worker


def run(
    job: Job, batches: np.ndarray, store: FeatureStore, dataset: str, resources: Resources, take: Callable[[Rows], None]
) -> Iterator[int]:
    """Computes the batches in order; `resources` isn't used."""

    def taken() -> Iterator[Rows]:
        for rows in Worker(job).features(batches):
            take(rows)
            yield rows

    yield from feature_parts.write(taken(), store, dataset)
