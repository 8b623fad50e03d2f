"""XGBoost head: gradient-boosted trees by the histogram method; the margins are the logits.

With `colsample_byround` 0.2 each round sees a fifth of the columns and costs about a fifth, see column_subsampling.py.
`colsample_bytree` is XGBoost's own: it samples from those for each tree, which saves little time.

The folds are trained side by side, for boosting on some thousand rows doesn't fill the cores; the trees do not depend
on the number of threads.

Reference: Chen and Guestrin, XGBoost: A Scalable Tree Boosting System, 2016, arXiv:1603.02754.
"""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic
from typing_extensions import TypedDict

from stages.library.common import artifacts
from stages.library.common.console import progress
from stages.library.common.downloads import cache_folder
from stages.library.common.guarded_files import read_json
from stages.library.common.params import CONFIG
from stages.library.heads import learning_curves
from stages.library.heads.blocks import batches
from stages.library.heads.contract import CrossValidation, CurvePoint, Features
from stages.plugins.heads.xgboost import boosting_data, column_subsampling
from stages.plugins.heads.xgboost.boosting_data import Quantiles

if TYPE_CHECKING:
    import xgboost

TUNES = False
BLOCK_ROWS = 4096
MODEL = "model.ubj"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `xgboost` of params.yaml."""

    features: Annotated[Features, pydantic.Field(description="what the head is trained on")]
    learning_rate: Annotated[float, pydantic.Field(gt=0, le=1, description="shrinkage of each tree")]
    num_trees: Annotated[int, pydantic.Field(ge=1, le=100_000, description="boosting rounds, one tree a class each")]
    max_depth: Annotated[int, pydantic.Field(ge=1, le=20, description="levels of a tree")]
    colsample_byround: Annotated[
        float, pydantic.Field(gt=0, le=1, description="fraction 1/n of the features that the trees of a round see")
    ]
    colsample_bytree: Annotated[
        float, pydantic.Field(gt=0, le=1, description="fraction of those that a tree sees; XGBoost's own")
    ]
    max_bin: Annotated[int, pydantic.Field(ge=2, le=65536, description="histogram bins per feature")]

    @pydantic.field_validator("colsample_byround")
    @classmethod
    def _divides_the_features(cls, fraction: float) -> float:
        if 0.5 < fraction < 1:
            raise ValueError("must be 1 or at most 0.5, for the features are dealt into groups of that size")
        return fraction


class Config(TypedDict):
    """Content of config.json."""

    num_classes: int
    sha256: str


@dataclass(frozen=True)
class BoostedTrees:
    """A fitted head.

    Attributes:
      booster: the trees.
      num_classes: number of logits.
    """

    booster: "xgboost.Booster"
    num_classes: int

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the margins, float32 (n, num_classes), for features (n, dim)."""
        out = np.empty((len(features), self.num_classes), np.float32)
        for rows in batches(len(features), BLOCK_ROWS):
            out[rows] = self.booster.inplace_predict(features[rows].astype(np.float32), predict_type="margin")
        return out

    def save(self, folder: Path) -> None:
        """Writes model.ubj and config.json."""
        (folder / MODEL).write_bytes(self.booster.save_raw("ubj"))  # a full disk is Python's error, not XGBoost's
        config = {"num_classes": self.num_classes, "sha256": artifacts.sha256_file(folder / MODEL)}
        artifacts.write_json(folder / "config.json", config)


def cross_validate(
    features: np.ndarray, labels: np.ndarray, num_classes: int, folds: np.ndarray, params: Params, seed: int
) -> CrossValidation:
    """Trains a head for each fold; the curve has a point per boosting round."""
    count = int(folds.max()) + 1
    workers = min(count, os.cpu_count() or 1)
    threads = (os.cpu_count() or 1) // workers
    logits = np.full((len(labels), num_classes), np.nan, np.float32)

    def run(fold: int) -> list[CurvePoint]:
        held_out = folds == fold
        rows = {"training": np.flatnonzero(~held_out), "held_out": np.flatnonzero(held_out)}
        with _quantiles(features, labels, params, threads, workers) as quantiles:
            head, curve = _train(quantiles, num_classes, rows, params, seed)
        for some in batches(len(labels), BLOCK_ROWS):
            scored = some.start + np.flatnonzero(held_out[some])
            logits[scored] = head.logits(features[scored])
        return curve

    with ThreadPoolExecutor(workers) as pool:
        curves = list(progress(pool.map(run, range(count)), "cross-validation", "folds", total=count))
    return CrossValidation(logits, learning_curves.average(curves))


def fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, params: Params, seed: int, best_params: dict[str, Any]
) -> BoostedTrees:
    """Trains on all rows; cross-validation chose nothing."""
    with _quantiles(features, labels, params, threads=0, side_by_side=1) as quantiles:
        return _train(quantiles, num_classes, {"training": np.arange(len(labels))}, params, seed)[0]


def load(folder: Path, dim: int, num_classes: int) -> BoostedTrees:
    """Reads a saved head.

    Raises:
      ValueError: the model isn't what was saved, or has another shape. XGBoost crashes the process on a truncated file,
        so it never sees one.
    """
    import xgboost

    config: Config = read_json(folder / "config.json", Config)
    if artifacts.sha256_file(folder / MODEL) != config["sha256"]:
        raise ValueError(f"{MODEL} does not have the sha256 in config.json")
    booster = xgboost.Booster(model_file=folder / MODEL)
    if (booster.num_features(), config["num_classes"]) != (dim, num_classes):
        raise ValueError(f"{MODEL} must take {dim} features and give {num_classes} logits")
    return BoostedTrees(booster, num_classes)


@contextlib.contextmanager
def _quantiles(
    features: np.ndarray, labels: np.ndarray, params: Params, threads: int, side_by_side: int
) -> Iterator[Quantiles]:
    """Gives the quantiles of all rows; trainings that run side by side share the memory."""
    columns = sum(map(len, column_subsampling.groups(features.shape[1], params.colsample_byround, seed=0)))
    in_memory = boosting_data.fit_in_memory(len(labels) * columns * side_by_side, params.max_bin)
    with artifacts.scratch_folder(cache_folder() / "scratch") as scratch:
        yield Quantiles(features, labels, params.max_bin, threads, in_memory, scratch)


def _train(
    quantiles: Quantiles, num_classes: int, rows: dict[str, np.ndarray], params: Params, seed: int
) -> tuple[BoostedTrees, list[CurvePoint]]:
    """Boosts on the rows "training"; scores all of them after every round."""
    parameters = {
        "objective": "multi:softprob",
        "num_class": num_classes,
        "tree_method": "hist",
        "device": "cpu",
        "learning_rate": params.learning_rate,
        "max_depth": params.max_depth,
        "colsample_bytree": params.colsample_bytree,
        "max_bin": params.max_bin,
        "eval_metric": ["merror", "mlogloss"],
        "seed": seed,
        "nthread": quantiles.threads,
    }
    groups = column_subsampling.groups(quantiles.features.shape[1], params.colsample_byround, seed)
    if len(groups) > 1:
        booster, history = column_subsampling.boost(parameters, params.num_trees, quantiles, rows, groups)
    else:
        booster, history = _boost(parameters, params.num_trees, quantiles, rows)
    curve = [
        CurvePoint(step + 1, series.replace("_", "-"), 1 - values["merror"][step], values["mlogloss"][step])
        for step in range(params.num_trees)
        for series, values in history.items()
    ]
    return BoostedTrees(booster, num_classes), curve


def _boost(
    parameters: dict[str, Any], num_trees: int, quantiles: Quantiles, rows: dict[str, np.ndarray]
) -> "tuple[xgboost.Booster, column_subsampling.History]":
    import xgboost

    matrices: dict[str, xgboost.DMatrix] = {}
    for series, some in rows.items():
        matrices[series] = quantiles.of(some, matrices.get("training"))
    history: column_subsampling.History = {}
    booster = xgboost.train(
        parameters,
        matrices["training"],
        num_trees,
        evals=[(data, series) for series, data in matrices.items()],
        evals_result=history,
        verbose_eval=False,
    )
    return booster, history
