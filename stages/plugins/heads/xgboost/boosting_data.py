"""Features as XGBoost's quantiles, handed over block by block: one byte a value in place of four, in memory or on disk.

The trees are the same bits however the rows come.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
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

    def of(
        self, rows: np.ndarray, reference: "xgboost.DMatrix | None" = None, columns: np.ndarray | None = None
    ) -> "xgboost.DMatrix":
        """Returns the matrix of some rows and columns.

        Args:
          rows: int64 ids.
          reference: whose quantiles it gets, where that is given.
          columns: int64 ids, rising; None for all.
        """
        import xgboost

        block_rows = max(BYTES_PER_BLOCK // (4 * self.features.shape[1]), 1)
        blocks = _blocks(self.features, self.labels, rows, columns, block_rows)
        options = {"max_bin": self.max_bin, "ref": reference, "nthread": self.threads}
        if self.in_memory:
            return xgboost.QuantileDMatrix(blocks(None), **options)
        prefix = tempfile.mkdtemp(dir=self.scratch)
        return xgboost.ExtMemQuantileDMatrix(blocks(f"{prefix}/part"), **options)


def fit_in_memory(values: int, max_bin: int) -> bool:
    """Returns whether matrices that live at the same time may stay in memory: up to BYTES_IN_MEMORY, all together.

    Args:
      values: rows times columns, summed over the matrices.
      max_bin: quantiles per column.
    """
    return values * COPIES * np.min_scalar_type(max_bin - 1).itemsize <= BYTES_IN_MEMORY


def _blocks(
    features: np.ndarray, labels: np.ndarray, rows: np.ndarray, columns: np.ndarray | None, block_rows: int
) -> "Callable[[str | None], xgboost.DataIter]":
    import xgboost

    class Blocks(xgboost.DataIter):  # type: ignore[misc]
        """Hands over the rows in order."""

        def __init__(self, cache_prefix: str | None):
            self._start = 0
            super().__init__(cache_prefix=cache_prefix, release_data=True)

        def reset(self) -> None:
            self._start = 0

        def next(self, input_data: Callable[..., Any]) -> bool:
            block = rows[self._start : self._start + block_rows]
            self._start += len(block)
            if len(block):
                values = features[block] if columns is None else features[block][:, columns]
                input_data(data=values.astype(np.float32), label=labels[block])
            return len(block) > 0

    return Blocks
