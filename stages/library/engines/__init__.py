"""Engines: where the batches of an extraction are computed, one module each, looked up by the name in `extract.engine`.

An engine's module has `run(job, batches, parallel)`, see `EngineModule`.
"""

import importlib
from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

from stages.library.extraction_worker import Job
from stages.library.feature_store import Rows

Name = Literal["local"]


class EngineModule(Protocol):
    """What an engine's module offers."""

    def run(self, job: Job, batches: np.ndarray) -> Iterator[Rows]:
        """Yields the features of some batches (see `slots.schedule`) as they come, batch by batch, in any order."""
        ...


def lookup(name: str) -> EngineModule:
    """Returns the module of an engine."""
    return importlib.import_module(f"{__name__}.{name}")
