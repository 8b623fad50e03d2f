"""XGBoost head: cross-validation and fit, as a ratio to scikit-learn's way of doing it.

Reference: `cross_val_score` on the same folds and `fit` of XGBClassifier(learning_rate=.1, n_estimators=100,
max_depth=4), all else at its default. Pairs alternate in order, and only ratios of CPU time are printed.
Run: OMP_NUM_THREADS=1 python -m benchmarks.xgboost_head [--bottlenecks FOLDER] [--rows 6000] [--trees 20] [--pairs 2]
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import pairs
from stages.library import metrics, params
from stages.library.heads import xgboost

FOLDS = 5


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottlenecks", type=Path, help="out of bottleneck-extract; else data are generated")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--trees", type=int, default=20, help="boosting rounds; 100 in params.yaml")
    parser.add_argument("--pairs", type=int, default=2)
    arguments = parser.parse_args()
    features, labels = pairs.data(arguments.bottlenecks, "probabilities", 2 * arguments.rows, 1000)
    train, test = slice(0, len(labels) // 2), slice(len(labels) // 2, None)
    num_classes = int(labels.max()) + 1
    folds = np.arange(len(labels[train])) % FOLDS
    section = params.load(arguments.params)["xgboost"]
    base = {
        "features": "probabilities",
        "learning_rate": 0.1,
        "num_trees": arguments.trees,
        "max_depth": 4,
        "workers": 0,
    }
    settings = {
        "params.yaml": xgboost.Params(**base, colsample_bytree=section.colsample_bytree, max_bin=section.max_bin),
        "64 bins, all columns": xgboost.Params(**base, colsample_bytree=1.0, max_bin=64),
        "published": xgboost.Params(**base, colsample_bytree=1.0, max_bin=256),
    }

    def ours(choice: xgboost.Params) -> float:
        data = features[train], labels[train], num_classes
        xgboost.cross_validate(*data, folds, choice, 0)
        head = xgboost.fit(*data, choice, 0, {})
        return metrics.top1_accuracy(head.logits(features[test]), labels[test])

    def reference() -> float:
        from sklearn.model_selection import PredefinedSplit, cross_val_score
        from xgboost import XGBClassifier

        x = features[train].astype(np.float32)
        model = XGBClassifier(learning_rate=0.1, n_estimators=arguments.trees, max_depth=4)
        cross_val_score(model, x, labels[train], cv=PredefinedSplit(folds))
        predicted = model.fit(x, labels[train]).predict(features[test].astype(np.float32))
        return float((predicted == labels[test]).mean())

    print(f"{len(labels[train]):,} x {features.shape[1]:,}, {num_classes} classes, {arguments.trees} trees")
    ways = {name: partial(ours, choice) for name, choice in settings.items()}
    pairs.table(ways, reference, arguments.pairs)


if __name__ == "__main__":
    main()
