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
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.shared import parser, ratios, rounds
from stages.library.features import cache
from stages.library.heads import contract as heads
from stages.library.heads.contract import Examples
from stages.library.heads.cross_validation import cross_validate
from stages.library.scoring import metrics, probabilities
from stages.library.settings import load_params

FOLDS = 5
TEST_ROWS = 2000
ROWS = {"ridge": 60_000, "xgboost": 6000}  # where --rows doesn't say
PENALTIES = tuple(10.0 ** np.linspace(-2, 4, 13))
HEADS = ("ridge", "logistic", "softmax", "dnn", "xgboost")
Way = Callable[[], float]  # does the work and returns an accuracy


def main() -> None:
    """Prints the tables."""
    options = parser("heads", __doc__)
    options.add_argument("--bottlenecks", type=Path, help="out of bottleneck-extract; else data are generated")
    options.add_argument("--params", type=Path, default=Path("params.yaml"), help="whose settings heads have")
    options.add_argument("--rows", type=int, help="5,000, for ridge 60,000, for xgboost 6,000")
    options.add_argument("--pairs", type=int, default=5, help="of runs, one each way")
    options.add_argument("--trees", type=int, default=20, help="xgboost's boosting rounds; 100 in params.yaml")
    options.add_argument(
        "--heads", nargs="+", default=list(HEADS), choices=HEADS, metavar="HEAD", help=", ".join(HEADS)
    )
    arguments = options.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's of searches that end by their number of iterations
    settings = load_params(arguments.params)
    for name in arguments.heads:
        kind, width = ("probabilities", 1000) if name == "xgboost" else ("bottleneck", 1280)
        train, test = rows(arguments.bottlenecks, kind, arguments.rows or ROWS.get(name, 5000), width)
        print(f"{name}: {len(train.labels):,} x {train.features.shape[1]:,}, {train.num_classes} classes")
        table = []
        for title, section, reference in compared(name, settings[name], train, test, arguments.trees):
            ways: dict[str, Way] = {"accuracy": partial(ours, name, section, train, test), "reference": reference}
            found = rounds({column: partial(timed, way) for column, way in ways.items()}, arguments.pairs)
            seconds, accuracies = np.transpose([found[column] for column in ways], (2, 0, 1))
            table.append({"": title, **ratios(*seconds), **dict(zip(ways, accuracies[:, -1].round(4), strict=True))})
        print(pd.DataFrame(table).to_string(index=False), flush=True)


def rows(folder: Path | None, kind: str, count: int, width: int) -> tuple[Examples, Examples]:
    """Returns what to train on and to test on: a folder's training and validation, or generated ones of 10 classes.

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
    classes, folds = int(labels.max()) + 1, np.arange(len(labels)) % FOLDS
    parts = slice(-TEST_ROWS), slice(-TEST_ROWS, None)
    train, test = (
        Examples(features[part], labels[part], classes, folds[part], np.ones(len(labels[part]))) for part in parts
    )
    return train, test


def timed(way: Way) -> tuple[float, float]:
    """Does the work; returns CPU seconds and the accuracy."""
    start = time.process_time()
    accuracy = way()
    return time.process_time() - start, accuracy


def ours(name: str, section: Any, train: Examples, test: Examples) -> float:
    """Trains as train-heads does."""
    trainer = heads.lookup(name).Trainer(train, section, 0)
    head = trainer.fit(cross_validate(trainer, "top1_accuracy").best_params)
    return metrics.top1_accuracy(head.logits(test.features), test.labels)


def compared(name: str, section: Any, train: Examples, test: Examples, trees: int) -> Iterator[tuple[str, Any, Way]]:
    """Yields what is compared: its title, our section of params.yaml, and the reference."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
    from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    split = PredefinedSplit(train.folds)

    def fitted(*models: Any, dtype: type[np.floating[Any]] = np.float32, scores: bool = True) -> float:
        x = train.features.astype(dtype)
        for model in models:
            if scores:
                cross_val_score(model, x, train.labels, cv=split)
            model.fit(x, train.labels)
        return float((models[-1].predict(test.features.astype(dtype)) == test.labels).mean())

    if name == "ridge":
        models = [RidgeClassifier(alpha=alpha) for alpha in (1.0, 100.0)]
        for dtype in (np.float16, np.float32):
            reference = partial(fitted, *models, dtype=dtype, scores=False)
            yield f"to two fits in {dtype.__name__}", replace(section, penalties=PENALTIES), reference
    elif name == "logistic":
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=section.max_iterations))
        grid = {"logisticregression__C": [1 / penalty for penalty in section.penalties]}
        yield name, section, partial(fitted, GridSearchCV(model, grid, cv=split), scores=False)
    elif name == "softmax":
        model = SGDClassifier(loss="log_loss", max_iter=section.epochs, tol=None)
        yield name, section, partial(fitted, make_pipeline(StandardScaler(), model))
    elif name == "dnn":
        options = {"batch_size": section.batch_size, "learning_rate_init": section.learning_rate}
        model = MLPClassifier(section.hidden_units, max_iter=section.epochs, **options)
        yield name, section, partial(fitted, make_pipeline(StandardScaler(), model))
    else:
        base = replace(section, num_trees=trees, learning_rate=0.1, max_depth=4, colsample_bytree=1.0)
        reference = partial(fitted, XGBClassifier(n_estimators=trees, learning_rate=0.1, max_depth=4))
        yield "params.yaml", base, reference
        yield "64 bins, all columns", replace(base, colsample_byround=1.0, max_bin=64), reference
        yield "published", replace(base, colsample_byround=1.0, max_bin=256), reference


if __name__ == "__main__":
    main()
