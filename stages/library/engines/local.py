"""This machine: one network in this process, all cores or the GPU."""

from collections.abc import Iterator

import numpy as np

from stages.library.extraction_worker import Job, Worker
from stages.library.feature_store import Rows


def run(job: Job, batches: np.ndarray) -> Iterator[Rows]:
    """Yields the features of each batch, in order."""
    yield from Worker(job).features(batches)
