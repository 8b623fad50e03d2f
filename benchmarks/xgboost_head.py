"""XGBoost head: cross-validation and fit, as a ratio to scikit-learn's way of doing it.

Reference: `cross_val_score` on the same folds and `fit` of XGBClassifier(learning_rate=.1, n_estimators=100,
max_depth=4), all else at its default. Pairs alternate in order, and only ratios of CPU time are printed. With all rows
of a large data set the reference takes an hour: --reference-folds 1 times one of its five folds and counts it fivefold.
Run: OMP_NUM_THREADS=1 python -m benchmarks.xgboost_head [--bottlenecks FOLDER] [--rows 6000] [--trees 20] [--pairs 2]
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import pairs
from stages.library.features import cache
from stages.library.scoring import metrics
from stages.library.settings import load_params
from stages.plugins.heads.xgboost import head as xgboost

FOLDS = 5
PUBLISHED = {"learning_rate": 0.1, "max_depth": 4}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.xgboost_head", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--bottlenecks", type=Path, help="out of bottleneck-extract; else data are generated")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--trees", type=int, default=20, help="boosting rounds; 100 in params.yaml")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--reference-folds", type=int, default=FOLDS, help="folds of the reference that are timed")
    parser.add_argument("--settings", nargs="+", help="names of ours; all by default")
    arguments = parser.parse_args()
    features, labels, x_test, truth = data(arguments.bottlenecks, arguments.rows)
    num_classes = int(labels.max()) + 1
    folds = np.arange(len(labels)) % FOLDS
    section = load_params(arguments.params)["xgboost"]
    base = {
        "features": "probabilities",
        "learning_rate": 0.1,
        "num_trees": arguments.trees,
        "max_depth": 4,
        "colsample_bytree": 1.0,
    }
    settings = {
        "params.yaml": xgboost.Params(**base, colsample_byround=section.colsample_byround, max_bin=section.max_bin),
        "64 bins, all columns": xgboost.Params(**base, colsample_byround=1.0, max_bin=64),
        "published": xgboost.Params(**base, colsample_byround=1.0, max_bin=256),
    }

    def ours(choice: xgboost.Params) -> pairs.Outcome:
        start = time.process_time()
        xgboost.cross_validate(features, labels, num_classes, folds, choice, 0)
        head = xgboost.fit(features, labels, num_classes, choice, 0, {})
        accuracy = metrics.top1_accuracy(head.logits(x_test), truth)
        return pairs.Outcome(time.process_time() - start, accuracy)

    def reference() -> pairs.Outcome:
        from sklearn.base import clone
        from xgboost import XGBClassifier

        x, model = features.astype(np.float32), XGBClassifier(n_estimators=arguments.trees, **PUBLISHED)
        start = time.process_time()
        for fold in range(arguments.reference_folds):  # as cross_val_score does it
            fitted = clone(model).fit(x[folds != fold], labels[folds != fold])
            fitted.score(x[folds == fold], labels[folds == fold])
        seconds = (time.process_time() - start) * FOLDS / arguments.reference_folds
        start = time.process_time()
        accuracy = float((model.fit(x, labels).predict(x_test.astype(np.float32)) == truth).mean())
        return pairs.Outcome(seconds + time.process_time() - start, accuracy)

    print(f"{len(labels):,} x {features.shape[1]:,}, {num_classes} classes, {arguments.trees} trees")
    ways = {name: partial(ours, settings[name]) for name in arguments.settings or settings}
    pairs.table(ways, reference, arguments.pairs)


def data(folder: Path | None, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns probabilities and labels to train on and to test on; without a folder, generated ones."""
    if folder:
        test = cache.load(folder, ("test",), "probabilities")
        return *pairs.data(folder, "probabilities", rows, 1000), test.values, test.labels
    features, labels = pairs.data(None, "probabilities", 2 * rows, 1000)
    return features[:rows], labels[:rows], features[rows:], labels[rows:]


if __name__ == "__main__":
    main()
