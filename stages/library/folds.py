"""Folds of cross-validation, decided by content like the splits."""

from collections.abc import Iterable
from typing import Annotated

import numpy as np
import pydantic

from stages.library.params import CONFIG
from stages.library.splits import uniform


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `cross_validation` of params.yaml."""

    folds: Annotated[int, pydantic.Field(ge=2, le=50, description="number of folds")]
    seed: Annotated[int, pydantic.Field(ge=0, description="seed of the folds and of every head's training")]
    temperature_scaling: Annotated[
        bool, pydantic.Field(description="whether heads are calibrated on what they predict")
    ]


def assign(keys: Iterable[str], params: Params) -> np.ndarray:
    """Returns the fold of each key, int64 (n,) in [0, folds); the same picture is always in the same fold."""
    return np.array([int(uniform(str(key), "fold", params.seed) * params.folds) for key in keys], np.int64)
