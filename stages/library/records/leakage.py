"""Which images a model was trained or chosen on, kept beside it: an evaluation compares them with those it tests on.

A head has them in its out-of-fold predictions, a network in a file of their own.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common.console import UserError

OF_HEAD = "out_of_fold.parquet"
OF_NETWORK = "trained_on.parquet"


def write(folder: Path, keys: Iterable[str]) -> None:
    """Writes the keys of a network's training and validation images, sorted and each once, into its folder."""
    pq.write_table(pa.table({"key": pa.array(sorted(set(keys)), pa.string())}), folder / OF_NETWORK, compression="zstd")


def check(folder: Path, tested: Mapping[str, str], known_copies: int) -> None:
    """Compares the images that a model was trained on with those that it is tested on, file names by key.

    Raises UserError where more are common to both than the `known_copies`, distinct images that the data set itself
    published both for training and for testing, or where the model does not say what it was trained on.
    """
    path = folder / (OF_HEAD if (folder / OF_HEAD).is_file() else OF_NETWORK)
    try:
        trained = set(pq.read_table(path, columns=["key"])["key"].to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        problem = f"can't be read ({' '.join(str(error).split())})"
        raise UserError(f"{path}, the images that it was trained on, {problem}. Run: dvc repro") from error
    common = sorted(trained & tested.keys())
    if len(common) > known_copies:
        raise UserError(
            f"{folder} was trained on {len(common)} of the {len(tested)} distinct test images, more than the "
            f"{known_copies} that the data set has in both; the first is {tested[common[0]]!r} (sha256 {common[0]}). "
            "Run: dvc repro"
        )
