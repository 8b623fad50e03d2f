"""The second-level regression against scikit-learn's."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from sklearn.linear_model import LogisticRegression

from stages.library.combination import stacking
from stages.library.combination.members import Examples
from stages.library.heads.calibration import fit_temperature
from stages.library.scoring.probabilities import softmax
from stages.library.settings import load_params

LOGISTIC = replace(load_params(ROOT / "params.yaml")["logistic"], tolerance=1e-8)


def examples(n=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(size=(2, n, 3)) + np.array([1.5, 0.5])[:, None, None] * np.eye(3)[labels]
    probabilities = np.stack([softmax(each) for each in logits])
    return Examples(probabilities, labels, np.arange(n, dtype=np.uint64), rng.uniform(0.5, 2, n))


def test_columns_are_the_members_side_by_side():
    given = np.arange(12.0).reshape(2, 3, 2)
    assert stacking.side_by_side(given).tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_it_is_scikit_learns_regression_on_the_probabilities(penalty):
    given = examples()
    params = replace(LOGISTIC, penalties=(penalty,), features="bottleneck", scaling="standardized", power=0.5)
    found, curve = stacking.fit(given, None, "top1_accuracy", params, 4, 0)
    columns = stacking.side_by_side(given.probabilities)
    peer = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000)
    peer.fit(columns.astype(float), given.labels, sample_weight=given.weights)
    logits = found.logits(given.probabilities)
    expected, ours = (each - each.mean(axis=1, keepdims=True) for each in (peer.decision_function(columns), logits))
    np.testing.assert_allclose(ours * (expected.std() / ours.std()), expected, atol=5e-3)
    assert {series for _, series, *_ in curve} == {"training", "held-out"}


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 100.0])
def test_a_fit_is_calibrated_whatever_its_penalty(penalty):
    """Folds that chose other penalties give logits of one scale, so that one temperature over all of them is right."""
    found, _ = stacking.fit(examples(2000), None, "top1_accuracy", replace(LOGISTIC, penalties=(penalty,)), 4, 0)
    others = examples(2000, seed=1)
    logits = found.logits(others.probabilities)
    assert fit_temperature(logits, others.labels, others.weights) == pytest.approx(1, abs=0.15)


def test_the_penalty_is_chosen_by_the_rows_given_alone():
    given = examples()
    few, many = (replace(LOGISTIC, penalties=penalties) for penalties in ((1.0,), (1e6, 1.0)))
    same = [stacking.fit(given, held_out, "log_loss", many, 4, 0)[0] for held_out in (None, examples(seed=1))]
    alone = stacking.fit(given, None, "log_loss", few, 4, 0)[0]
    logits = [found.logits(given.probabilities) for found in (*same, alone)]
    assert np.array_equal(logits[0], logits[1])
    np.testing.assert_allclose(logits[0], logits[2], atol=1e-3)
