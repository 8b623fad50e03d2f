"""Ray, an optional requirement: a pool of actors on one machine or many, each with the network in its memory.

RAY_ADDRESS says where the cluster is; without it Ray starts on this machine alone. All nodes need to see the shards and
the weights under the same paths, and the feature store under one path or URL (DECANT_STORE). A task is a
thousand images or so, whose features the actor itself adds to the store. A task whose actor dies is done again by
another or by a restarted one; what the store has is never lost. The bytes are those of one process.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.library.common import store_location
from stages.library.common.console import UserError
from stages.library.extraction import feature_store
from stages.library.extraction.feature_store import FeatureStore
from stages.library.extraction.worker import Job, Worker

PROJECT = Path(__file__).parents[3]
RETRIES = 3


class Actor:
    """One network in a process of its own."""

    def __init__(self, job: Job, store: FeatureStore, dataset: str):
        self._worker, self._store, self._dataset = Worker(job), store, dataset

    def compute(self, batches: np.ndarray) -> int:
        """Adds the features of some batches to the store and returns the number of images."""
        return sum(self._store.add(self._worker.features(batches), self._dataset))


def run(
    job: Job, batches: np.ndarray, store: FeatureStore, dataset: str, actors: int | None, cpus: int, gpus: float
) -> Iterator[int]:
    """Computes batches on a pool of actors, in any order, and yields numbers of images as they are in the store.

    Without a number of actors there are as many as the cluster has room for, of `cpus` and `gpus` each.

    Raises:
      UserError: Ray is missing, the cluster has no room for an actor, or a task failed RETRIES times.
    """
    ray = _connected()
    from ray.util import ActorPool

    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": RETRIES, "max_task_retries": RETRIES}
    actor_class = ray.remote(**options)(Actor)
    shared = ray.put(job)
    tasks = np.array_split(batches, math.ceil(batches.size / feature_store.ROWS_PER_PART))
    count = min(actors or room(ray.cluster_resources(), cpus, gpus), len(tasks))
    pool = [actor_class.remote(shared, store, dataset) for _ in range(count)]
    try:
        yield from ActorPool(pool).map_unordered(lambda actor, task: actor.compute.remote(task), tasks)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise UserError(
            f"a task failed on Ray ({str(cause).strip().splitlines()[-1]}). What was computed is kept; run it again"
        ) from error
    finally:
        for actor in pool:
            ray.kill(actor)


def room(cluster: dict[str, float], cpus: int, gpus: float) -> int:
    """Returns how many actors fit into the cluster; raises UserError where none does."""
    count = int(cluster.get("CPU", 0) // cpus)
    if gpus:
        count = min(count, int(cluster.get("GPU", 0) // gpus))
    if not count:
        has = f"{cluster.get('CPU', 0):g} CPUs, {cluster.get('GPU', 0):g} GPUs"
        needs = f"{cpus} CPUs (`extract.ray_cpus`), {gpus:g} GPUs (`extract.ray_gpus`)"
        raise UserError(f"the Ray cluster ({has}) has no room for an actor: {needs}")
    return count


def _connected() -> Any:
    """Returns Ray's module, connected to the cluster that RAY_ADDRESS names, or to one on this machine."""
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise UserError("Ray is missing. Run: pip install -r requirements-ray.txt") from error

    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers unless told not to
        passed_on = {"DECANT_CACHE", store_location.VARIABLE, "TF_CPP_MIN_LOG_LEVEL"} & set(os.environ)
        variables = {"PYTHONPATH": str(PROJECT), **{name: os.environ[name] for name in passed_on}}
        ray.init(
            runtime_env={"env_vars": variables}, log_to_driver=False, include_dashboard=False, logging_level="error"
        )
    return ray
