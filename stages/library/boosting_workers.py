"""XGBoost on several processes or machines: each holds a part of the rows, and histograms are summed between them.

Ray starts the workers, on the cluster that RAY_ADDRESS names or on this machine, and XGBoost's own collective connects
them. Where no feature has more than `max_bin` values the trees are those of one process but for the rounding of sums.
Else the workers' quantiles are merged, and cuts may be others. The same number of workers grows the same trees.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from stages.library import ray_cluster
from stages.library.console import UserError

if TYPE_CHECKING:
    import xgboost

History = dict[str, dict[str, list[float]]]


def train(
    parameters: dict[str, Any],
    num_trees: int,
    parts: dict[str, tuple[np.ndarray, np.ndarray]],
    max_bin: int,
    workers: int,
) -> "tuple[xgboost.Booster, History]":
    """Boosts on `parts["training"]` and scores every part after each round.

    Args:
      parameters: of xgboost.train.
      num_trees: boosting rounds.
      parts: name to features (n, dim), float16 or float32, and labels int64 (n,); each at least `workers` rows.
      max_bin: quantiles per column.
      workers: number of processes, each with one core.

    Raises:
      UserError: Ray is missing, the cluster has no room, or a worker failed.
    """
    ray = ray_cluster.start()
    import xgboost
    from xgboost.tracker import RabitTracker

    room = int(ray.cluster_resources().get("CPU", 0))
    if room < workers:  # they wait for each other: all must run at once
        raise UserError(f"`xgboost.workers` must be at most the {room} CPUs of the Ray cluster. Received: {workers}")
    tracker = RabitTracker(n_workers=workers, host_ip=ray.util.get_node_ip_address(), sortby="task")
    tracker.start()
    task = ray.remote(num_cpus=1, max_retries=0)(_work)
    shares = [
        {name: tuple(np.array_split(array, workers)[number] for array in part) for name, part in parts.items()}
        for number in range(workers)
    ]
    collective = tracker.worker_args()
    try:
        results = ray.get(
            [
                task.remote(collective | {"dmlc_task_id": f"{number:08d}"}, parameters, num_trees, share, max_bin)
                for number, share in enumerate(shares)
            ]
        )
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise UserError(f"an XGBoost worker failed on Ray ({str(cause).strip().splitlines()[-1]})") from error
    finally:
        tracker.free()
    model, history = results[0]
    return xgboost.Booster(model_file=bytearray(model)), history


def _work(
    collective: dict[str, Any],
    parameters: dict[str, Any],
    num_trees: int,
    share: dict[str, tuple[np.ndarray, np.ndarray]],
    max_bin: int,
) -> tuple[bytes, History]:
    """Runs in a worker: takes part in the training with its share of the rows; all workers end with the same trees."""
    import xgboost

    history: History = {}
    with xgboost.collective.CommunicatorContext(**collective):
        matrices: dict[str, xgboost.DMatrix] = {}
        for name, (features, labels) in share.items():
            reference = matrices.get("training")
            values = features.astype(np.float32)
            matrices[name] = xgboost.QuantileDMatrix(values, labels, max_bin=max_bin, ref=reference, nthread=1)
        booster = xgboost.train(
            parameters | {"nthread": 1},
            matrices["training"],
            num_trees,
            evals=[(matrix, name) for name, matrix in matrices.items()],
            evals_result=history,
            verbose_eval=False,
        )
        return bytes(booster.save_raw("ubj")), history
