"""From cached features to the `Examples` that a head is trained and cross-validated on."""

import numpy as np

from stages.library.common import class_weights, console
from stages.library.common.console import UserError
from stages.library.features.cache import Features
from stages.library.heads import folds
from stages.library.heads.contract import Examples


def of(features: Features, params: folds.Params, of_classes: str | dict[str, float], head: str) -> Examples:
    """Returns the examples with their folds and weights; `of_classes` is the setting `class_weights`.

    Raises UserError where a head can't be trained and scored with them; says where a class has no part in the scores.
    """
    classes = features.source.classes
    fold_of = _folds(features, params, head)
    class_weights.check(of_classes, classes)
    weights = class_weights.of_images(of_classes, features.labels, features.weights, classes)
    return Examples(features.values, features.labels, len(classes), fold_of, weights)


def _folds(features: Features, fold_params: folds.Params, head: str) -> np.ndarray:
    """Returns what `folds.assign` does; UserError where a head can't be trained and scored with it."""
    present = np.unique(features.labels)
    if len(present) < 2:
        names = [features.source.classes[label] for label in present]
        raise UserError(f"training + validation must have images of at least 2 classes. Received: {names}")
    fold_of = folds.assign(features.groups, features.labels, fold_params, head)
    if head not in fold_params.holdout_fraction:
        if (count := len(np.unique(fold_of))) < fold_params.folds:
            console.say(f"train-heads: {count} of {fold_params.folds} folds, for {len(fold_of)} images fill no more")
    elif len(np.unique(fold_of)) < 2:
        raise UserError(
            f"`cross_validation.holdout_fraction.{head}` must leave some of the {len(fold_of)} images to train "
            f"on and some to validate. Received: {fold_params.holdout_fraction[head]}. Without it there are folds"
        )
    elif missing := np.setdiff1d(present, features.labels[fold_of != folds.NEVER]).tolist():
        unseen = console.listed([features.source.classes[label] for label in missing])
        console.say(f"train-heads: none held out to validate {head}, so they have no part in its scores: {unseen}")
    return fold_of
