"""XGBoost head: gradient-boosted trees by the histogram method; the margins are the logits.

With `colsample_byround` 0.2 each round sees a fifth of the columns and costs about a fifth, see column_subsampling.py.
`colsample_bytree` is XGBoost's own: it samples from those for each tree, which saves little time.

The folds are trained side by side, for boosting on some thousand rows doesn't fill the cores; the trees do not depend
on the number of threads.

Reference: Chen and Guestrin, XGBoost: A Scalable Tree Boosting System, 2016, arXiv:1603.02754.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import numpy as np
import pydantic
from typing_extensions import TypedDict

from stages.library.common import artifacts
from stages.library.common.cache_folders import cache_folder
from stages.library.common.guarded_files import read_json
from stages.library.common.params import CONFIG
from stages.library.heads import contract
from stages.library.heads.contract import Examples, Features, Score, Step, logits_of_rows
from stages.library.heads.search_space import Choice, Range

if TYPE_CHECKING:
    import xgboost

    from stages.plugins.heads.xgboost import column_subsampling

MODEL = "model.ubj"
BYTES_IN_MEMORY = 1 << 29  # of all matrices that live at the same time
COPIES = 2  # by rows and by columns


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `xgboost` of params.yaml."""

    features: Annotated[Features, pydantic.Field(description="what the head is trained on"), Choice(get_args(Features))]
    learning_rate: Annotated[
        float, pydantic.Field(ge=1e-6, le=1, description="shrinkage of each tree"), Range(0.03, 0.5, log=True)
    ]
    num_trees: Annotated[
        int,
        pydantic.Field(ge=1, le=100_000, description="boosting rounds, one tree a class each"),
        Range(50, 300, log=True),
    ]
    max_depth: Annotated[int, pydantic.Field(ge=1, le=20, description="levels of a tree"), Range(2, 6)]
    colsample_byround: Annotated[
        float,
        pydantic.Field(ge=1e-6, le=1, description="fraction 1/n of the features that the trees of a round see"),
        Choice((0.05, 0.1, 0.2)),
    ]
    colsample_bytree: Annotated[
        float, pydantic.Field(ge=1e-6, le=1, description="fraction of those that a tree sees; XGBoost's own")
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
    """A fitted head."""

    booster: "xgboost.Booster"
    num_classes: int

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the margins, float32 (n, num_classes), for features (n, dim)."""
        margins: np.ndarray = self.booster.inplace_predict(features.astype(np.float32), predict_type="margin")
        return margins

    def save(self, folder: Path) -> None:
        """Writes model.ubj and config.json."""
        (folder / MODEL).write_bytes(self.booster.save_raw("ubj"))  # a full disk is Python's error, not XGBoost's
        config = {"num_classes": self.num_classes, "sha256": artifacts.sha256_file(folder / MODEL)}
        artifacts.write_json(folder / "config.json", config)


class Trainer(contract.Trainer):
    """Has a step for each boosting round."""

    def __init__(self, examples: Examples, params: Params, seed: int):
        super().__init__(examples, params, seed)
        self.workers = min(int(examples.folds.max()) + 1, os.cpu_count() or 1)

    def path(self, fold: int) -> Iterator[Step]:
        training, held_out = self.examples.split(fold)
        threads = (os.cpu_count() or 1) // self.workers
        head, history = self._train({"training": training, "held_out": held_out}, threads, self.workers)
        logits = logits_of_rows(head, self.examples.features, held_out)
        for step in range(self.params.num_trees):
            fitted, scored = (
                Score(1 - values["merror"][step], values["mlogloss"][step]) for values in history.values()
            )
            yield Step(step + 1, fitted, scored, logits)

    def fit(self, best_params: Mapping[str, Any]) -> BoostedTrees:
        return self._train({"training": np.arange(len(self.examples.labels))}, threads=0, side_by_side=1)[0]

    def _train(
        self, rows: Mapping[str, np.ndarray], threads: int, side_by_side: int
    ) -> "tuple[BoostedTrees, column_subsampling.History]":
        """Boosts on the rows "training"; 0 threads are all cores, `side_by_side` trainings share the memory."""
        from stages.plugins.heads.xgboost import column_subsampling

        params, examples = self.params, self.examples
        parameters = {
            **{key: getattr(params, key) for key in ("learning_rate", "max_depth", "colsample_bytree", "max_bin")},
            "objective": "multi:softprob",
            "num_class": examples.num_classes,
            "tree_method": "hist",
            "device": "cpu",
            "eval_metric": ["merror", "mlogloss"],
            "seed": self.seed,
            "nthread": threads,
        }
        groups = column_subsampling.groups(examples.features.shape[1], params.colsample_byround, self.seed)
        values = len(examples.labels) * sum(map(len, groups)) * side_by_side
        in_memory = values * COPIES * np.min_scalar_type(params.max_bin - 1).itemsize <= BYTES_IN_MEMORY
        with artifacts.scratch_folder(cache_folder() / "scratch") as scratch:
            work = rows, groups, None if in_memory else scratch
            booster, history = column_subsampling.boost(parameters, params.num_trees, examples, *work)
        return BoostedTrees(booster, examples.num_classes), history


def load(folder: Path, dim: int, num_classes: int) -> BoostedTrees:
    """Reads a saved head; ValueError where the model isn't what was saved, or has another shape.

    XGBoost crashes the process on a truncated file, so it never sees one.
    """
    import xgboost

    config: Config = read_json(folder / "config.json", Config)
    if artifacts.sha256_file(folder / MODEL) != config["sha256"]:
        raise ValueError(f"{MODEL} does not have the sha256 in config.json")
    booster = xgboost.Booster(model_file=folder / MODEL)
    if (booster.num_features(), config["num_classes"]) != (dim, num_classes):
        raise ValueError(f"{MODEL} must take {dim} features and give {num_classes} logits")
    return BoostedTrees(booster, num_classes)
