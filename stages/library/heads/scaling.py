"""Scaling of features, before a head sees them.

By rows, independently of all other rows: a power and unit length. They are not linear, so a head applies them itself.
By columns, from the training rows: standardization. It is linear, so it is folded into a head's first layer.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np
import pydantic

from stages.library.common.guarded_files import CONFIG
from stages.library.features import disk_arrays
from stages.library.heads.contract import BLOCK_ROWS, Features, batches
from stages.library.heads.search_space import Choice, Range

VARIANCE_FLOOR = 0.01  # of the mean variance

Scaling = Literal["none", "standardized", "l2"]


@dataclass(frozen=True)
class RowScaling:
    """What is done to every row on its own.

    Values are raised to the power, signs kept; 0.5 evens out columns of which a few values are large. Then rows may be
    divided by their Euclidean length, so that only their direction counts; a row of zeros stays one.

    Reference: Perronnin, Sánchez and Mensink, Improving the Fisher Kernel for Large-Scale Image Classification, 2010.
    """

    __pydantic_config__: ClassVar = CONFIG

    power: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    unit_length: bool = False

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns features (n, dim) of the same dtype, float16 or float32, on disk where they are many."""
        if self.power == 1 and not self.unit_length:
            return features
        out = disk_arrays.empty(features.shape, features.dtype)
        for rows in batches(len(features), BLOCK_ROWS):
            block = features[rows].astype(np.float32)
            if self.power != 1:
                size = np.abs(block)
                root = np.sqrt(size) if self.power == 0.5 else size ** np.float32(self.power)  # a root is 5x as fast
                block = np.copysign(root, block)
            if self.unit_length:
                block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), np.finfo(np.float32).tiny)
            out[rows] = block
        return out


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class ScalingParams:
    """What sections of heads that scale their features begin with."""

    features: Annotated[Features, pydantic.Field(description="what the head is trained on"), Choice(get_args(Features))]
    scaling: Annotated[
        Scaling,
        pydantic.Field(description="of columns to equal deviation, or of rows to unit length"),
        Choice(get_args(Scaling)),
    ]
    power: Annotated[
        float, pydantic.Field(gt=0, le=1, description="to which features are raised, sign kept"), Range(0.2, 1.0)
    ]

    @property
    def row_scaling(self) -> RowScaling:
        return RowScaling(self.power, self.scaling == "l2")


@dataclass(frozen=True)
class Standardization:
    """Shift and scale of each column, float64 (dim,), that bring features to mean 0 and equal deviation."""

    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns standardized float32 features."""
        return (features.astype(np.float32) - self.mean.astype(np.float32)) / self.scale.astype(np.float32)

    def of_rows(self, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns the rows (int64 ids) standardized, float32 (len(rows), dim), on disk where they are many."""
        out = disk_arrays.empty((len(rows), features.shape[1]), np.float32)
        for block in batches(len(rows), BLOCK_ROWS):
            out[block] = self(features[rows[block]])
        return out

    def fold_into(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns kernel (dim, outputs) and bias, float32, that give on raw features what these give on scaled ones."""
        raw = kernel / self.scale[:, None]
        return raw.astype(np.float32), (bias - self.mean @ raw).astype(np.float32)


def standardization(
    features: np.ndarray, rows: np.ndarray, weights: np.ndarray, deviation: float | None = 1.0
) -> Standardization:
    """Measures the columns of some rows (int64, at least one), in blocks; `weights`, float64, are those of all rows.

    They are brought to the standard deviation; None only centres them, and leaves their scale as it is.
    """
    origin = features[rows[0]].astype(np.float64)  # shifted, so that the difference of squares loses no digits
    total, squares = np.zeros_like(origin), np.zeros_like(origin)
    for block in batches(len(rows), BLOCK_ROWS):
        x = features[rows[block]] - origin
        weighted = weights[rows[block], None] * x
        total += weighted.sum(axis=0)
        squares += np.einsum("ij,ij->j", weighted, x)
    sum_of_weights = weights[rows].sum()
    mean = total / sum_of_weights
    variance = np.maximum(squares / sum_of_weights - mean**2, 0)
    scale = np.ones_like(mean) if deviation is None else column_scale(variance) / deviation
    return Standardization(origin + mean, scale)


def column_scale(variance: np.ndarray) -> np.ndarray:
    """Returns the deviations (dim,) by which columns are divided.

    A column that is nearly constant keeps a small scale out of the denominator: to every variance a hundredth of the
    mean variance is added, else one unusual image would be thousands of deviations away.
    """
    floor = VARIANCE_FLOOR * variance.mean()
    return np.sqrt(variance + floor) if floor > 0 else np.ones_like(variance)
