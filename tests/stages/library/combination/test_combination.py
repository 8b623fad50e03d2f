"""Nested folds: a combination's own figure is honest, and it is never worse than its best member."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from stages.library.combination import averaging, combination, members
from stages.library.combination.combination import Predictions
from stages.library.combination.members import Examples
from stages.library.common.console import UserError
from stages.library.common.params import ParamsError, parse
from stages.library.heads import folds
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax
from stages.library.settings import load_params

SETTINGS = load_params(ROOT / "params.yaml")
LOGISTIC = replace(SETTINGS["logistic"], penalties=(100.0, 1.0))
PARAMS = combination.Params(methods=("average", "stacking"), finetuned=(), draws=20)
BY = SETTINGS["cross_validation"]


def predictions(strengths, n=300, num_classes=3, seed=0):
    """Predictions of members whose logits speak for the label by their strength, under noise of their own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, n)
    right = np.eye(num_classes)[labels]
    logits = [(rng.normal(size=(n, num_classes)) + strength * right).astype(np.float32) for strength in strengths]
    keys = np.array([f"{index:064x}" for index in range(n)], object)
    return Predictions(keys, labels, rng.integers(0, 2**63, n).astype(np.uint64), np.ones(n), logits)


def find(given, method="average", logistic=LOGISTIC, metric="top1_accuracy", params=PARAMS):
    return combination.find(method, given, params, logistic, BY, metric)


@pytest.mark.parametrize("method", ["average", "stacking"])
def test_of_members_that_know_nothing_the_figure_is_that_of_chance(method):
    """Among 30 of them some average is good by luck on the rows that chose it, and not on others."""
    given = predictions([0.0] * 30, n=200, num_classes=2)
    rows = Examples(np.stack([softmax(each) for each in given.logits]), given.labels, given.groups, given.weights)
    lucky, _ = averaging.fit(rows, None, "top1_accuracy", 20)
    assert metrics.top1_accuracy(lucky.logits(rows.probabilities), given.labels) > 0.62
    found = find(given, method)
    assert found.validated.scores["top1_accuracy"]["mean"] < 0.57
    assert found.best.scores["top1_accuracy"]["mean"] < 0.57


@pytest.mark.parametrize("method", ["average", "stacking"])
@pytest.mark.parametrize("metric", ["top1_accuracy", "log_loss"])
def test_members_that_err_in_different_images_are_better_together(method, metric):
    found = find(predictions([1.5, 1.4, 1.5]), method, metric=metric)
    assert not found.alone
    assert found.rows == 300
    ours, best = (each.scores for each in (found.validated, found.best))
    assert ours["top1_accuracy"]["mean"] > best["top1_accuracy"]["mean"] + 0.03
    assert ours["log_loss"]["mean"] < best["log_loss"]["mean"]
    assert np.isfinite(found.validated.logits).all()


def test_where_the_method_is_worse_the_best_member_is_taken_alone():
    given = predictions([4.0, 0.0])
    found = find(given, "stacking", replace(LOGISTIC, penalties=(1e9,)))  # which learns the classes' shares, no more
    assert found.alone
    assert found.rule.weights.tolist() == [1, 0]
    assert found.validated == found.best
    accuracy = metrics.top1_accuracy(given.logits[0], given.labels)
    assert found.validated.scores["top1_accuracy"]["mean"] == pytest.approx(accuracy, abs=1e-3)


def test_the_figure_of_a_single_member_is_its_own_in_the_heads_own_folds():
    given = predictions([1.0])
    found = find(given)
    assert found.rule.weights.tolist() == [1]
    of_rows = folds.assign(given.groups, given.labels, BY, "ridge")
    expected = [
        metrics.top1_accuracy(given.logits[0][of_rows == fold], given.labels[of_rows == fold]) for fold in range(5)
    ]
    assert found.validated.scores["top1_accuracy"] == pytest.approx(
        {"mean": np.mean(expected), "std": np.std(expected, ddof=1)}
    )


def test_rows_that_a_member_was_trained_on_count_for_none():
    given = predictions([1.5, 1.4])
    given.logits[1][100:] = np.nan
    found = find(given)
    assert found.rows == 100
    assert np.isfinite(found.validated.logits[:100]).all()
    assert np.isnan(found.validated.logits[100:]).all()
    # What stands in the others changes nothing.
    given.logits[0][100:] = 7
    assert np.array_equal(find(given).validated.logits, found.validated.logits, equal_nan=True)
    given.logits[0][:100] = np.nan
    with pytest.raises(UserError, match=r"none of its members was trained on. Received: none of 300. Raise `cross_v"):
        members.common_rows(given.logits)


@pytest.mark.parametrize("method", ["average", "stacking"])
def test_twice_the_same(method):
    first, again = (find(predictions([1.0, 1.2]), method) for _ in range(2))
    assert np.array_equal(first.validated.logits, again.validated.logits)
    assert (first.validated.scores, first.curve) == (again.validated.scores, again.curve)


def test_the_curve_is_the_mean_over_the_folds():
    given = predictions([1.5, 1.4])
    found = find(given, params=replace(PARAMS, draws=2))
    steps = [point[:2] for point in found.curve]
    assert steps == [(at, series) for at in (1.0, 2.0) for series in ("training", "held-out")]
    assert all(0 <= hits <= 1 and loss > 0 for *_, hits, loss in found.curve)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["average", "average"]}, r"`combine.methods`.*must not name anything twice"),
        ({"finetuned": ["average", "average"]}, r"`combine.finetuned`.*must not name anything twice"),
        ({"methods": ["mean"]}, r"`combine.methods.0`.*'average' or 'stacking'"),
        ({"draws": 0}, r"`combine.draws`.*greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_errors_that_name_the_key(changes, message):
    with pytest.raises(ParamsError, match=message):
        parse("combine", {"methods": ["average"], "finetuned": [], "draws": 30} | changes, combination.Params)


def test_models_of_one_method_with_and_without_networks_have_names_of_their_own():
    params = replace(PARAMS, methods=("stacking",), finetuned=("average", "stacking"))
    assert params.models == ("stacking", "finetuned/average", "finetuned/stacking")
