"""Features on their way into the store: batches joined to parts."""

import time
from collections.abc import Iterator

import numpy as np

from stages.library.extraction.feature_store import FeatureStore, Rows

ROWS_PER_PART = 1024
SECONDS_PER_PART = 5.0


def write(rows: Iterator[Rows], store: FeatureStore, dataset: str) -> Iterator[int]:
    """Adds batches to the store, part by part, and yields the number of images of each batch that came.

    A part has ROWS_PER_PART images or, of a slow network, those of SECONDS_PER_PART: a kill loses no more.
    """
    waiting: list[Rows] = []
    started = time.monotonic()
    for some in rows:
        waiting.append(some)
        full = sum(len(each.keys) for each in waiting) >= ROWS_PER_PART
        if full or time.monotonic() - started >= SECONDS_PER_PART:
            store.put(_joined(waiting), dataset)
            waiting, started = [], time.monotonic()
        yield len(some.keys)
    if waiting:
        store.put(_joined(waiting), dataset)


def _joined(rows: list[Rows]) -> Rows:
    columns = zip(*((each.keys, each.bottleneck, each.logits) for each in rows), strict=True)
    return Rows(*(np.concatenate(column) for column in columns))
