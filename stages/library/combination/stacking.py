"""Stacking: a multinomial logistic regression on the members' probabilities, side by side.

It is the logistic head on another kind of features, with the penalties of its section.

Reference: Wolpert, Stacked generalization, 1992.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.library.combination.members import Curve, Examples
from stages.library.common import stratification
from stages.library.heads import contract as heads
from stages.library.heads import cross_validation
from stages.library.heads.calibration import fit_temperature
from stages.library.heads.dense import DenseNetwork
from stages.library.scoring.selection import SelectionMetric


@dataclass(frozen=True)
class Stacked:
    """A linear layer on the members' probabilities."""

    network: DenseNetwork

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns float32 (n, num_classes) for probabilities float32 (members, n, num_classes)."""
        return self.network.logits(side_by_side(probabilities))


def side_by_side(probabilities: np.ndarray) -> np.ndarray:
    """Returns (n, members * num_classes) for (members, n, num_classes): the first member's classes come first."""
    return np.moveaxis(probabilities, 0, 1).reshape(probabilities.shape[1], -1)


def fit(
    examples: Examples, held_out: Examples | None, metric: SelectionMetric, logistic: Any, folds: int, seed: int
) -> tuple[Stacked, Curve]:
    """Fits the regression; `logistic` is the section of params.yaml.

    Its penalty and its temperature are found, and the curve measured, by folds of these rows alone; `held_out` has no
    part in it. With a temperature of its own each fit says the same by a probability: fits of other rows may choose
    other penalties, which make logits of another scale.
    """
    within = stratification.folds(examples.groups, examples.labels, folds, "fold of stacking", seed)
    num_classes = examples.probabilities.shape[2]
    rows = side_by_side(examples.probabilities), examples.labels, num_classes, within, examples.weights
    params = replace(logistic, features="probabilities", scaling="none", power=1.0)
    trainer = heads.lookup("logistic").Trainer(heads.Examples(*rows), params, seed)
    validation = cross_validation.cross_validate(trainer, metric)
    temperature = fit_temperature(validation.logits, examples.labels, examples.weights)
    return Stacked(trainer.fit(validation.best_params).divided(temperature)), validation.curve
