"""Finds a combination, and what it is worth: by nested folds, so that nothing is scored on rows that chose it.

The members' own predictions are by cross-validation. For each fold the method finds its weights on the other folds'
predictions alone, its penalty included, and is scored on the fold's. What is not nested: the members' own choices, such
as a penalty, and that the best member alone is taken where the method is not better.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pydantic

from stages.library.combination import averaging, members, stacking
from stages.library.combination.averaging import Average
from stages.library.combination.members import Curve, Examples
from stages.library.combination.stacking import Stacked
from stages.library.common import stratification
from stages.library.common.console import progress
from stages.library.common.model_names import FINETUNED
from stages.library.common.params import CONFIG
from stages.library.heads import folds, out_of_fold
from stages.library.heads.out_of_fold import OutOfFold
from stages.library.scoring import selection
from stages.library.scoring.selection import SelectionMetric

Method = Literal["average", "stacking"]
Rule = Average | Stacked
Fit = Callable[[Examples, Examples | None], tuple[Rule, Curve]]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `combine` of params.yaml."""

    methods: Annotated[tuple[Method, ...], pydantic.Field(description="a model of all heads each; none: no such model")]
    finetuned: Annotated[
        tuple[Method, ...], pydantic.Field(description="a model each of all heads and fine-tuned networks")
    ]
    draws: Annotated[int, pydantic.Field(ge=1, le=1000, description="of `average`, with replacement")]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, as they stand after "combined/"."""
        return *self.methods, *(f"{FINETUNED}/{method}" for method in self.finetuned)

    @pydantic.field_validator("methods", "finetuned")
    @classmethod
    def _each_once(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        if len(set(methods)) < len(methods):
            raise ValueError("must not name anything twice")
        return methods


class Predictions(NamedTuple):
    """What the members predict of training and validation images; NaN where a member was trained on one."""

    keys: np.ndarray  # sha256 hex of each image, object (n,)
    labels: np.ndarray  # int64 (n,)
    groups: np.ndarray  # uint64 (n,)
    weights: np.ndarray  # float64 (n,), of their losses
    logits: Sequence[np.ndarray]  # float32 (n, num_classes) of each member, calibrated


class Found(NamedTuple):
    """A combination."""

    rule: Rule
    validated: OutOfFold  # its predictions by nested folds
    best: OutOfFold  # in the same way, those of the member that is best on the other folds
    alone: bool  # whether the rule is the best member alone, for the method was worse
    curve: Curve
    rows: int  # that all members predict, on which all of this is found


def find(
    method: Method, given: Predictions, params: Params, logistic: Any, by: folds.Params, metric: SelectionMetric
) -> Found:
    """Finds a combination by the rows that all members predict.

    `logistic` and `by` are the sections of that head and of cross-validation. UserError where there are no such rows.
    """
    common = members.common_rows(given.logits)
    of_common = given.labels[common], given.groups[common], given.weights[common]
    examples = Examples(members.stacked(given.logits, common), *of_common)
    fold_of = np.full(len(common), folds.NEVER)
    fold_of[common] = stratification.folds(examples.groups, examples.labels, by.folds, "fold", by.seed)
    best_member: Fit = partial(averaging.fit, metric=metric, draws=1)
    average: Fit = partial(averaging.fit, metric=metric, draws=params.draws)
    stacked: Fit = partial(stacking.fit, metric=metric, logistic=logistic, folds=by.folds, seed=by.seed)
    fit = average if method == "average" else stacked

    def validate(way: Fit) -> tuple[OutOfFold, Curve]:
        logits = np.full(given.logits[0].shape, np.nan, np.float32)
        logits[common], curve = nested(way, examples, fold_of[common])
        of_all = given.keys, given.labels, given.weights
        return out_of_fold.calibrated(*of_all, logits, fold_of, by.temperature_scaling), curve

    (validated, curve), (best, its_curve) = validate(fit), validate(best_member)
    worths = [selection.merit(metric, each.scores[metric]["mean"]) for each in (validated, best)]
    rows = int(common.sum())
    if worths[0] < worths[1]:
        return Found(best_member(examples, None)[0], best, best, True, its_curve, rows)
    return Found(fit(examples, None)[0], validated, best, False, curve, rows)


def nested(fit: Fit, examples: Examples, fold_of: np.ndarray) -> tuple[np.ndarray, Curve]:
    """Returns each row's logits, float32 (n, num_classes), by a fit without its fold, and the mean of the curves."""
    logits = np.empty(examples.probabilities.shape[1:], np.float32)
    curves = []
    for fold in progress(range(fold_of.max() + 1), "combination", "folds"):
        held_out = examples.rows(fold_of == fold)
        rule, curve = fit(examples.rows(fold_of != fold), held_out)
        logits[fold_of == fold] = rule.logits(held_out.probabilities)
        curves.append(curve)
    numbers = np.mean([[point[2:] for point in curve] for curve in curves], axis=0).tolist()
    return logits, [(at, series, *mean) for (at, series, *_), mean in zip(curves[0], numbers, strict=True)]
