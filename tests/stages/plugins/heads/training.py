"""A small problem for heads, and their training in a line."""

import numpy as np

from stages.library.heads import cross_validation
from stages.library.heads.contract import Examples


def problem(n=300, dim=20, classes=4, seed=0, noise=1.5, dtype=np.float16):
    """Noisy clusters, off-centre as pooled features are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(classes, dim))[labels] + rng.normal(scale=noise, size=(n, dim)) + 3
    return features.astype(dtype), labels


def trainer(module, data, params, classes=4, folds=None, seed=0, weights=None):
    """Has five folds, one of which is never held out, where no others are given; by default all weights are 1."""
    features, labels = data
    folds = np.arange(len(labels)) % 5 - 1 if folds is None else folds
    weights = np.ones(len(labels)) if weights is None else weights
    return module.Trainer(Examples(features, labels, classes, folds, weights), params, seed)


def fit(module, data, params, classes=4, seed=0, weights=None, **best_params):
    return trainer(module, data, params, classes, seed=seed, weights=weights).fit(best_params)


def cross_validate(module, data, params, folds, classes=4, selected_by="top1_accuracy", weights=None):
    return cross_validation.cross_validate(trainer(module, data, params, classes, folds, weights=weights), selected_by)
