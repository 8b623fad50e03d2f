"""Folds of cross-validation, decided by content like the splits."""

from typing import Annotated

import numpy as np
import pydantic

from stages.library.common import stratification
from stages.library.common.hashing import Fraction
from stages.library.common.params import CONFIG, Seed
from stages.library.common.plugins import PLUGINS, plugin_names

NEVER = -1  # the fold of images that are only trained on


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `cross_validation` of params.yaml."""

    folds: Annotated[int, pydantic.Field(ge=2, le=50, description="number of folds")]
    holdout_fraction: Annotated[
        dict[str, Fraction], pydantic.Field(description="head -> fraction that validates it once, in place of folds")
    ]
    seed: Annotated[Seed, pydantic.Field(description="seed of the folds and of every head's training")]
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


def assign(units: np.ndarray, labels: np.ndarray, params: Params, head: str) -> np.ndarray:
    """Returns the fold of each image for a head, int64 (n,), by its unit, uint64 (n,), and its class, int64 (n,).

    They are in [0, folds), or of fewer where units are few; for a head of `holdout_fraction`, 0 for what validates it
    and NEVER for the rest. Each class has its share of each, to within one image or unit (`stratification`).
    """
    fraction = params.holdout_fraction.get(head)
    if fraction is None:
        return stratification.folds(units, labels, params.folds, "fold", params.seed)
    share = stratification.assign(units, labels, [fraction], "held out", params.seed, turned=True)
    return np.where(share == 0, 0, NEVER).astype(np.int64)
