"""Ridge head: 5 folds of all penalties and the fit, as a ratio to two plain fits of scikit-learn's RidgeClassifier.

Pairs alternate in order, and only ratios of CPU time are printed. Both read the same float16 features;
"float32" gives them to scikit-learn already widened, in single precision.
Run: OMP_NUM_THREADS=1 python -m benchmarks.ridge_head [--bottlenecks FOLDER] [--rows 60000] [--pairs 3]
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pairs
from stages.library.scoring import metrics
from stages.library.settings import load_params
from stages.plugins.heads.ridge import head as ridge

FOLDS = 5


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ridge_head", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--bottlenecks", type=Path, help="out of bottleneck-extract; else data are generated")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--penalties", type=int, default=13)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    features, labels = pairs.data(arguments.bottlenecks, "bottleneck", arguments.rows + 2000, 1280)
    train, test = slice(0, -2000), slice(-2000, None)
    num_classes = int(labels.max()) + 1
    folds = np.arange(len(labels[train])) % FOLDS
    section = load_params(arguments.params)["ridge"]
    penalties = tuple(10.0 ** np.linspace(-2, 4, arguments.penalties))
    choice = ridge.Params(features="bottleneck", scaling=section.scaling, power=section.power, penalties=penalties)

    def ours() -> float:
        data = features[train], labels[train], num_classes
        head = ridge.cross_validate(*data, folds, choice, 0).head  # as train-heads takes it
        assert head is not None
        return metrics.top1_accuracy(head.logits(features[test]), labels[test])

    def reference(dtype: type[np.floating[Any]]) -> float:
        from sklearn.linear_model import RidgeClassifier

        x: np.ndarray = features[train].astype(dtype)
        for alpha in (1.0, 100.0):
            model = RidgeClassifier(alpha=alpha).fit(x, labels[train])
        return float((model.predict(features[test].astype(dtype)) == labels[test]).mean())

    print(f"{len(labels[train]):,} x {features.shape[1]:,}, {num_classes} classes, {arguments.penalties} penalties")
    for dtype in (np.float16, np.float32):
        ways = {f"to two fits in {dtype.__name__}": pairs.timed(ours)}
        pairs.table(ways, pairs.timed(partial(reference, dtype)), arguments.pairs)


if __name__ == "__main__":
    main()
