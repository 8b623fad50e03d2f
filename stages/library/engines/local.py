"""This machine: one network in this process, all cores or the GPU."""

from collections.abc import Callable, Iterator

import numpy as np

from stages.library import feature_parts
from stages.library.engines import Resources
from stages.library.extraction_worker import Job, Worker
from stages.library.feature_store import FeatureStore, Rows


def run(
    job: Job, batches: np.ndarray, store: FeatureStore, dataset: str, resources: Resources, take: Callable[[Rows], None]
) -> Iterator[int]:
    """Computes the batches in order; `resources` isn't used."""

    def taken() -> Iterator[Rows]:
        for rows in Worker(job).features(batches):
            take(rows)
            yield rows

    yield from feature_parts.write(taken(), store, dataset)
