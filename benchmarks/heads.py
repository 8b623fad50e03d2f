"""Logistic, softmax and DNN heads: 5-fold cross-validation and fit, as ratios to scikit-learn's plain way of doing it.

The references: a grid search over the same penalties on standardized features; cross_val_score and fit of SGDClassifier
and of MLPClassifier with the same epochs, batches and layers. benchmarks.ridge_head and benchmarks.xgboost_head compare
the other two. Pairs alternate in order, and only ratios of CPU time are printed.
Run: OMP_NUM_THREADS=1 python -m benchmarks.heads [--bottlenecks FOLDER] [--rows 5000] [--heads logistic dnn]
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pairs
from stages.library.heads import contract as heads
from stages.library.scoring import metrics
from stages.library.settings import load_params

FOLDS = 5
TEST_ROWS = 2000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", usage="%(prog)s [options]", description=__doc__)
    parser.add_argument("--bottlenecks", type=Path, help="out of bottleneck-extract; else data are generated")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--heads", nargs="+", default=list(REFERENCES), choices=list(REFERENCES))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's of searches that end by their number of iterations
    features, labels = pairs.data(arguments.bottlenecks, "bottleneck", arguments.rows + TEST_ROWS, 1280)
    train, test = slice(0, -TEST_ROWS), slice(-TEST_ROWS, None)
    num_classes = int(labels.max()) + 1
    folds = np.arange(len(labels[train])) % FOLDS
    settings = load_params(arguments.params)

    def ours(name: str) -> float:
        module, section = heads.lookup(name), settings[name]
        data = features[train], labels[train], num_classes
        best_params = module.cross_validate(*data, folds, section, 0).best_params
        head = module.fit(*data, section, 0, best_params)
        return metrics.top1_accuracy(head.logits(features[test]), labels[test])

    def reference(name: str) -> float:
        x, x_test = features[train].astype(np.float32), features[test].astype(np.float32)
        model = REFERENCES[name](settings[name], x, labels[train], folds)
        return float((model.predict(x_test) == labels[test]).mean())

    print(f"{len(labels[train]):,} x {features.shape[1]:,}, {num_classes} classes")
    for name in arguments.heads:
        ways = {name: pairs.timed(partial(ours, name))}
        pairs.table(ways, pairs.timed(partial(reference, name)), arguments.pairs)


def logistic(section: Any, x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Any:
    """Returns scikit-learn's logistic regression by a grid search over the same penalties, refitted on all rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=section.max_iterations))
    grid = {"logisticregression__C": [1 / penalty for penalty in section.penalties]}
    return GridSearchCV(model, grid, cv=PredefinedSplit(folds)).fit(x, labels)


def softmax(section: Any, x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Any:
    """Returns scikit-learn's SGDClassifier after cross-validation."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _cross_validated(
        lambda: make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", max_iter=section.epochs, tol=None)),
        x,
        labels,
        folds,
    )


def dnn(section: Any, x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Any:
    """Returns scikit-learn's MLPClassifier after cross-validation."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    options = {"batch_size": section.batch_size, "learning_rate_init": section.learning_rate}
    network = partial(MLPClassifier, section.hidden_units, max_iter=section.epochs, **options)
    return _cross_validated(lambda: make_pipeline(StandardScaler(), network()), x, labels, folds)


def _cross_validated(make: Callable[[], Any], x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Any:
    from sklearn.model_selection import PredefinedSplit, cross_val_score

    cross_val_score(make(), x, labels, cv=PredefinedSplit(folds))
    return make().fit(x, labels)


REFERENCES = {"logistic": logistic, "softmax": softmax, "dnn": dnn}


if __name__ == "__main__":
    main()
