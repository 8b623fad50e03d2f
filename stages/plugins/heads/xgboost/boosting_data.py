"""Features as XGBoost's quantiles, handed over block by block: one byte a value in place of four, in memory or on disk.

The trees are the same bits however the rows come.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

BYTES_PER_BLOCK = 1 << 26
BYTES_IN_MEMORY = 1 << 29
COPIES = 2  # by rows and by columns


@dataclass(frozen=True)
class Quantiles:
    """How rows become XGBoost's matrices.

    Attributes:
      features: float16 or float32 (n, dim).
      labels: int64 (n,).
      max_bin: quantiles per column.
      threads: of XGBoost; 0: all cores.
      in_memory: keep the matrices there, and not in files.
      scratch: an empty folder for those files.
    """

    features: np.ndarray
    labels: np.ndarray
    max_bin: int
    threads: int
    in_memory: bool
    scratch: Path

    def matrices(self, rows: Mapping[str, np.ndarray], columns: np.ndarray) -> dict[str, xgboost.DMatrix]:
        """Returns matrices of some columns (int64 ids, rising).

        Args:
          rows: name to int64 ids; the first, "training", gives all of them their quantiles.
          columns: int64 ids, rising.
        """
        matrices: dict[str, xgboost.DMatrix] = {}
        for name, some in rows.items():
            options = {"max_bin": self.max_bin, "ref": matrices.get("training"), "nthread": self.threads}
            if self.in_memory:
                matrices[name] = xgboost.QuantileDMatrix(_Blocks(self, some, columns, None), **options)
            else:
                prefix = f"{tempfile.mkdtemp(dir=self.scratch)}/part"
                matrices[name] = xgboost.ExtMemQuantileDMatrix(_Blocks(self, some, columns, prefix), **options)
        return matrices


def fit_in_memory(values: int, max_bin: int) -> bool:
    """Returns whether matrices that live at the same time may stay in memory: up to BYTES_IN_MEMORY, all together.

    Args:
      values: rows times columns, summed over the matrices.
      max_bin: quantiles per column.
    """
    return values * COPIES * np.min_scalar_type(max_bin - 1).itemsize <= BYTES_IN_MEMORY


class _Blocks(xgboost.DataIter):  # type: ignore[misc]
    """Hands over rows in order."""

    def __init__(self, quantiles: Quantiles, rows: np.ndarray, columns: np.ndarray, cache_prefix: str | None):
        self._quantiles, self._rows, self._columns = quantiles, rows, columns
        self._start = 0
        super().__init__(cache_prefix=cache_prefix, release_data=True)

    def reset(self) -> None:
        self._start = 0

    def next(self, input_data: Callable[..., Any]) -> bool:
        features = self._quantiles.features
        block = self._rows[self._start :][: max(BYTES_PER_BLOCK // (4 * features.shape[1]), 1)]
        self._start += len(block)
        if len(block):
            values = features[block][:, self._columns].astype(np.float32)
            input_data(data=values, label=self._quantiles.labels[block])
        return len(block) > 0
