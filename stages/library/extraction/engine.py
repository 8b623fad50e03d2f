"""Engines: where the batches of an extraction are computed, one module each, looked up by the name in `extract.engine`.

An engine's module has `run(...)`, see `EngineModule`. All give the same bytes.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from stages.library.extraction.feature_store import FeatureStore, Rows
from stages.library.extraction.worker import Job

Name = Literal["local", "ray"]


@dataclass(frozen=True)
class Resources:
    """What a pool of actors takes of a cluster; the local engine takes this machine as it is.

    Attributes:
      actors: their number, or None for as many as the cluster has room for.
      cpus, gpus: of each.
    """

    actors: int | None
    cpus: int
    gpus: float


class EngineModule(Protocol):
    """What an engine's module offers."""

    def run(
        self,
        job: Job,
        batches: np.ndarray,
        store: FeatureStore,
        dataset: str,
        resources: Resources,
        take: Callable[[Rows], None],
    ) -> Iterator[int]:
        """Computes some batches (see `batch_slots.schedule`) and adds their features to the store.

        Features that come to this process on their way are also handed to `take`, which saves reading them again.

        Yields:
          Numbers of images, as they are done; at the end all are in the store.

        Raises:
          UserError: the engine, the runtime or the weights can't be had; what was computed is kept.
        """
        ...


def lookup(name: str) -> EngineModule:
    """Returns the module of an engine."""
    return importlib.import_module(f"stages.library.extraction.engines.{name}")
