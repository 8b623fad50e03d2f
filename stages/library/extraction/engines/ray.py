"""Ray, an optional requirement: a pool of actors on one machine or many, each with the network in its memory.

RAY_ADDRESS says where the cluster is; without it Ray starts on this machine alone. All nodes need to see the shards and
the weights under the same paths, and the feature store under one path or URL (DECANT_STORE). A task is a
thousand images or so, whose features the actor itself adds to the store. A task whose actor dies is done again by
another or by a restarted one; what the store has is never lost.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from stages.library.common import ray_cluster
from stages.library.common.console import UserError
from stages.library.extraction import feature_parts
from stages.library.extraction.engine import Resources
from stages.library.extraction.feature_store import FeatureStore, Rows
from stages.library.extraction.worker import Job, Worker

RETRIES = 3


class Actor:
    """One network in a process of its own."""

    def __init__(self, job: Job, store: FeatureStore, dataset: str):
        self._worker, self._store, self._dataset = Worker(job), store, dataset

    def compute(self, batches: np.ndarray) -> int:
        """Adds the features of some batches to the store and returns the number of images."""
        return sum(feature_parts.write(self._worker.features(batches), self._store, self._dataset))


def run(
    job: Job, batches: np.ndarray, store: FeatureStore, dataset: str, resources: Resources, take: Callable[[Rows], None]
) -> Iterator[int]:
    """Computes the batches on a pool of actors, in any order; `take` is never called.

    Raises:
      UserError: Ray is missing, the cluster has no room for an actor, or a task failed RETRIES times.
    """
    ray = ray_cluster.start()
    from ray.util import ActorPool

    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    actor_class = ray.remote(**options, max_restarts=RETRIES, max_task_retries=RETRIES)(Actor)
    shared = ray.put(job)
    tasks = np.array_split(batches, math.ceil(batches.size / feature_parts.ROWS_PER_PART))
    count = min(resources.actors or room(ray.cluster_resources(), resources), len(tasks))
    actors = [actor_class.remote(shared, store, dataset) for _ in range(count)]
    try:
        yield from ActorPool(actors).map_unordered(lambda actor, task: actor.compute.remote(task), tasks)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise UserError(
            f"a task failed on Ray ({str(cause).strip().splitlines()[-1]}). What was computed is kept; run it again"
        ) from error
    finally:
        for actor in actors:
            ray.kill(actor)


def room(cluster: dict[str, float], resources: Resources) -> int:
    """Returns how many actors fit into the cluster.

    Raises:
      UserError: none does.
    """
    count = int(cluster.get("CPU", 0) // resources.cpus)
    if resources.gpus:
        count = min(count, int(cluster.get("GPU", 0) // resources.gpus))
    if not count:
        has = f"{cluster.get('CPU', 0):g} CPUs, {cluster.get('GPU', 0):g} GPUs"
        needs = f"{resources.cpus} CPUs (`extract.ray_cpus`), {resources.gpus:g} GPUs (`extract.ray_gpus`)"
        raise UserError(f"the Ray cluster ({has}) has no room for an actor: {needs}")
    return count
