"""Heads: 5-fold cross-validation and fit, as ratios to scikit-learn's plain way of doing it.

The references: for ridge two plain fits of RidgeClassifier on the same float16 features or widened ones, against all
its penalties; for logistic a grid search over the same penalties; for softmax, dnn and xgboost cross_val_score and fit
of SGDClassifier, MLPClassifier and XGBClassifier with the same epochs, layers and trees, beside settings that differ.
Pairs alternate in order, and only ratios of CPU time are printed.
Run: OMP_NUM_THREADS=1 python -m benchmarks.heads [--bottlenecks FOLDER] [--rows 5000] [--heads ridge dnn]
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.shared import parser, ratio, rounds
from stages.library.features import cache
from stages.library.heads import contract as heads
from stages.library.heads.cross_validation import cross_validate
from stages.library.scoring import metrics, probabilities
from stages.library.settings import load_params

FOLDS = 5
TEST_ROWS = 2000
ROWS = {"ridge": 60_000, "xgboost": 6000}  # where --rows doesn't say
PENALTIES = tuple(10.0 ** np.linspace(-2, 4, 13))
HEADS = ("ridge", "logistic", "softmax", "dnn", "xgboost")
Way = Callable[[], float]  # does the work and returns an accuracy


class Data(NamedTuple):
    """Rows to train on and to test on."""

    features: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    x_test: np.ndarray
    truth: np.ndarray


def main() -> None:
    """Prints the tables."""
    options = parser("heads", __doc__)
    options.add_argument("--bottlenecks", type=Path, help="out of bottleneck-extract; else data are generated")
    options.add_argument("--params", type=Path, default=Path("params.yaml"))
    options.add_argument("--rows", type=int, help="5,000, for ridge 60,000, for xgboost 6,000")
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--trees", type=int, default=20, help="xgboost's boosting rounds; 100 in params.yaml")
    options.add_argument("--heads", nargs="+", default=list(HEADS), choices=HEADS, metavar="HEAD")
    arguments = options.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's of searches that end by their number of iterations
    settings = load_params(arguments.params)
    for name in arguments.heads:
        kind, width = ("probabilities", 1000) if name == "xgboost" else ("bottleneck", 1280)
        data = rows(arguments.bottlenecks, kind, arguments.rows or ROWS.get(name, 5000), width)
        print(f"{name}: {len(data.labels):,} x {data.features.shape[1]:,}, {data.labels.max() + 1} classes")
        print(f"{'':30s} ratio   (pairs)                accuracy   reference")
        for title, section, reference in compared(name, settings[name], data, arguments.trees):
            ways = {"ours": timed(partial(ours, name, section, data)), "reference": timed(reference)}
            found = rounds(ways, arguments.pairs)
            seconds = {way: [result[0] for result in results] for way, results in found.items()}
            accuracies = f"{found['ours'][-1][1]:.4f}     {found['reference'][-1][1]:.4f}"
            print(f"{title:30s} {ratio(seconds['ours'], seconds['reference'], 24)} {accuracies}", flush=True)


def rows(folder: Path | None, kind: str, count: int, width: int) -> Data:
    """Returns features, of training and validation or, without a folder, generated ones of 10 classes.

    Generated features are non-negative, as pooled features are, or probabilities over `width` classes, most near zero.
    """
    if folder:
        loaded = cache.load(folder, ("train", "validation"), kind)
        features, labels = loaded.values[: count + TEST_ROWS], loaded.labels[: count + TEST_ROWS]
    else:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 10, count + TEST_ROWS)
        centres = rng.normal(size=(10, 40)) @ rng.normal(size=(40, width)) / 8
        noise = rng.normal(size=(len(labels), 40)) @ rng.normal(size=(40, width)) / 6
        values = centres[labels] + noise + rng.normal(scale=1.5, size=noise.shape)
        pooled = kind == "bottleneck"
        features = cache.quantize(np.maximum(values, 0)) if pooled else probabilities.softmax(2 * values)
    train, test = slice(-TEST_ROWS), slice(-TEST_ROWS, None)
    return Data(features[train], labels[train], np.arange(len(labels[train])) % FOLDS, features[test], labels[test])


def timed(way: Way) -> Callable[[], tuple[float, float]]:
    """Returns a function that does the work and returns CPU seconds and the accuracy."""

    def run() -> tuple[float, float]:
        start = time.process_time()
        accuracy = way()
        return time.process_time() - start, accuracy

    return run


def ours(name: str, section: Any, data: Data) -> float:
    """Trains as train-heads does."""
    examples = heads.Examples(data.features, data.labels, int(data.labels.max()) + 1, data.folds)
    trainer = heads.lookup(name).Trainer(examples, section, 0)
    head = trainer.fit(cross_validate(trainer).best_params)
    return metrics.top1_accuracy(head.logits(data.x_test), data.truth)


def compared(name: str, section: Any, data: Data, trees: int) -> Iterator[tuple[str, Any, Way]]:
    """Yields what is compared: its title, our section of params.yaml, and the reference."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
    from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    split = PredefinedSplit(data.folds)

    def accuracy(model: Any, dtype: type[np.floating[Any]] = np.float32) -> float:
        return float((model.predict(data.x_test.astype(dtype)) == data.truth).mean())

    def two_fits(dtype: type[np.floating[Any]]) -> float:
        x = data.features.astype(dtype)
        return [accuracy(RidgeClassifier(alpha=alpha).fit(x, data.labels), dtype) for alpha in (1.0, 100.0)][-1]

    def fitted(make: Callable[[], Any], scores: bool = True) -> float:
        x = data.features.astype(np.float32)
        if scores:
            cross_val_score(make(), x, data.labels, cv=split)
        return accuracy(make().fit(x, data.labels))

    if name == "ridge":
        for dtype in (np.float16, np.float32):
            yield f"to two fits in {dtype.__name__}", replace(section, penalties=PENALTIES), partial(two_fits, dtype)
    elif name == "logistic":
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=section.max_iterations))
        grid = {"logisticregression__C": [1 / penalty for penalty in section.penalties]}
        yield name, section, partial(fitted, lambda: GridSearchCV(model, grid, cv=split), scores=False)
    elif name == "xgboost":
        base = replace(section, num_trees=trees, learning_rate=0.1, max_depth=4, colsample_bytree=1.0)
        reference = partial(fitted, partial(XGBClassifier, n_estimators=trees, learning_rate=0.1, max_depth=4))
        yield "params.yaml", base, reference
        yield "64 bins, all columns", replace(base, colsample_byround=1.0, max_bin=64), reference
        yield "published", replace(base, colsample_byround=1.0, max_bin=256), reference
    else:
        options = {"batch_size": section.batch_size, "learning_rate_init": section.learning_rate}
        make: Callable[[], Any] = {
            "softmax": lambda: SGDClassifier(loss="log_loss", max_iter=section.epochs, tol=None),
            "dnn": lambda: MLPClassifier(section.hidden_units, max_iter=section.epochs, **options),
        }[name]
        yield name, section, partial(fitted, lambda: make_pipeline(StandardScaler(), make()))


if __name__ == "__main__":
    main()
