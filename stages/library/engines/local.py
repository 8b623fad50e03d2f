"""This machine: one network in this process, all cores or the GPU."""

from collections.abc import Iterator

import numpy as np

from stages.library import feature_parts
from stages.library.engines import Resources
from stages.library.extraction_worker import Job, Worker
from stages.library.feature_store import FeatureStore


def run(job: Job, batches: np.ndarray, store: FeatureStore, dataset: str, resources: Resources) -> Iterator[int]:
    """Computes the batches in order; `resources` isn't used."""
    yield from feature_parts.write(Worker(job).features(batches), store, dataset)
