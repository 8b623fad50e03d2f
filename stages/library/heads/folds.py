"""Folds of cross-validation, decided by content like the splits."""

from collections.abc import Iterable
from typing import Annotated

import numpy as np
import pydantic

from stages.library.common.hashing import Fraction, uniform
from stages.library.common.params import CONFIG
from stages.library.common.plugins import PLUGINS, plugin_names

NEVER = -1  # the fold of images that are only trained on


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `cross_validation` of params.yaml."""

    folds: Annotated[int, pydantic.Field(ge=2, le=50, description="number of folds")]
    holdout_fraction: Annotated[
        dict[str, Fraction], pydantic.Field(description="head -> fraction that validates it once, in place of folds")
    ]
    seed: Annotated[int, pydantic.Field(ge=0, description="seed of the folds and of every head's training")]
    temperature_scaling: Annotated[
        bool, pydantic.Field(description="whether heads are calibrated on what they predict")
    ]

    @pydantic.field_validator("holdout_fraction")
    @classmethod
    def _known(cls, fractions: dict[str, float]) -> dict[str, float]:
        known = plugin_names(PLUGINS["heads"])
        if not set(fractions) <= set(known):
            raise ValueError(f"must name heads among {', '.join(known)}")
        return fractions


def assign(keys: Iterable[str], params: Params, head: str) -> np.ndarray:
    """Returns the fold of each key for a head, int64 (n,), decided by the key alone.

    They are in [0, folds); for a head of `holdout_fraction`, 0 for what validates it and NEVER for the rest.
    """
    fraction = params.holdout_fraction.get(head)
    if fraction is not None:
        held_out = [uniform(str(key), "held out", params.seed) < fraction for key in keys]
        return np.where(held_out, 0, NEVER).astype(np.int64)
    return np.array([int(uniform(str(key), "fold", params.seed) * params.folds) for key in keys], np.int64)
