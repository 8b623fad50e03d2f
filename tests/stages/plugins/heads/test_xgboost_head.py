from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xgboost as library
from xgboost import XGBClassifier

from stages.library.heads.contract import Examples
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax
from stages.plugins.heads.xgboost import column_subsampling
from stages.plugins.heads.xgboost import head as xgboost
from tests.stages.plugins.heads.training import cross_validate, fit, problem, trainer

OPTIONS: dict[str, Any] = {"learning_rate": 0.3, "max_depth": 3, "max_bin": 64}
PARAMS = xgboost.Params(features="bottleneck", num_trees=8, colsample_byround=1.0, colsample_bytree=1.0, **OPTIONS)


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_margins_and_colsample_bytree_are_those_of_the_librarys_own_classifier(fraction):
    features, labels = problem(dim=40)
    options = {"n_estimators": 8, "tree_method": "hist", "colsample_bytree": fraction, "random_state": 3}
    params = replace(PARAMS, colsample_bytree=fraction)
    for weights in (np.ones(300), np.random.default_rng(2).uniform(0.1, 5, 300)):
        reference = XGBClassifier(**OPTIONS, **options).fit(features.astype(np.float32), labels, sample_weight=weights)
        head = fit(xgboost, (features, labels), params, seed=3, weights=weights)
        expected = reference.predict_proba(features.astype(np.float32))
        np.testing.assert_allclose(softmax(head.logits(features)), expected, atol=1e-6)


def test_a_tree_sees_a_fraction_of_what_its_round_sees():
    params = replace(PARAMS, colsample_byround=0.5, colsample_bytree=0.1, max_depth=5)
    table = fit(xgboost, problem(dim=40), params).booster.trees_to_dataframe()
    used = table[table["Feature"] != "Leaf"].groupby("Tree")["Feature"].agg(set)
    assert max(map(len, used)) <= 2  # a tenth of half of 40
    assert len(set().union(*used)) > 8  # a round of a group takes others than the one before


def test_threads_do_not_change_the_trees():
    features, labels = problem(n=2000)
    one = trainer(xgboost, (features, labels % 2), PARAMS, classes=2)
    heads = [one._train({"training": np.arange(2000)}, threads, 1)[0] for threads in (1, 2, 3)]
    assert len({bytes(head.booster.save_raw("ubj")) for head in heads}) == 1
    assert heads[0].logits(features[:5]).shape == (5, 2), "of two classes, too"


@pytest.mark.parametrize(("dim", "fraction", "groups"), [(100, 0.1, 10), (7, 0.1, 7), (10, 0.34, 3), (5, 0.7, 1)])
def test_every_deal_gives_each_column_to_one_group(dim, fraction, groups):
    dealt = column_subsampling.groups(dim, fraction, 0)
    assert len(dealt) == groups * (1 if groups == 1 else column_subsampling.DEALS)
    for start in range(0, len(dealt), groups):
        hand = dealt[start : start + groups]
        assert sorted(np.concatenate(hand).tolist()) == list(range(dim))
        assert np.ptp([len(group) for group in hand]) <= 1
    assert all(map(np.array_equal, dealt, column_subsampling.groups(dim, fraction, 0)))


def test_joined_rounds_add_up_and_split_by_the_columns_of_their_group():
    features, labels = problem(dim=9, classes=3)
    weights = np.random.default_rng(2).uniform(0.1, 5, len(labels))
    groups = np.array([(1, 4, 7), (0, 2, 8)])
    parameters = OPTIONS | {"objective": "multi:softprob", "num_class": 3, "seed": 0, "nthread": 1}
    examples = Examples(features, labels, 3, np.zeros_like(labels), weights)
    everything = {"training": np.arange(len(labels))}
    joined, history = column_subsampling.boost(parameters, 2, examples, everything, list(groups), None)
    assert (joined.num_features(), joined.num_boosted_rounds()) == (9, 2)
    table = joined.trees_to_dataframe()
    used = [set(table[(table["Tree"] // 3 == step) & (table["Feature"] != "Leaf")]["Feature"]) for step in (0, 1)]
    order = sorted(groups, key=lambda group: f"f{group[0]}" not in used[0])
    assert used == [{f"f{column}" for column in group} for group in order]

    # By hand: the second round is trained on the margins of the first one.
    margins = np.zeros((len(labels), 3), np.float32)
    for group in order:
        data = library.QuantileDMatrix(features[:, group].astype(np.float32), labels, weight=weights, max_bin=64)
        data.set_base_margin(margins)
        booster = library.train(parameters | {"base_score": 0.0}, data, 1)
        margins = booster.predict(data, output_margin=True)
    predicted = joined.inplace_predict(features.astype(np.float32), predict_type="margin")
    np.testing.assert_allclose(predicted, margins, atol=1e-5)
    wrong, loss = margins.argmax(axis=1) != labels, metrics.log_loss(softmax(margins), labels, weights)
    assert history["training"]["merror"][-1] == pytest.approx(np.average(wrong, weights=weights))
    assert history["training"]["mlogloss"][-1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("fraction", [1.0, 0.2])
def test_the_matrices_of_all_groups_and_folds_side_by_side_count_against_the_memory(fraction, monkeypatch):
    external, on_disk = library.ExtMemQuantileDMatrix, []

    def matrix(*arguments, **options):
        on_disk.append(1)
        return external(*arguments, **options)

    monkeypatch.setattr(library, "ExtMemQuantileDMatrix", matrix)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    data = problem(dim=40)
    params = replace(PARAMS, colsample_byround=fraction)
    values = 300 * 40 * (1 if fraction == 1 else column_subsampling.DEALS)
    # A byte by rows and a byte by columns of each value; two folds are trained at a time.
    for bytes_at_once, train in (
        (2 * values, lambda: fit(xgboost, data, params)),
        (4 * values, lambda: cross_validate(xgboost, data, params, np.arange(300) % 5)),
    ):
        for limit in (bytes_at_once, bytes_at_once - 1):
            monkeypatch.setattr(xgboost, "BYTES_IN_MEMORY", limit)
            on_disk.clear()
            train()
            assert bool(on_disk) == (limit < bytes_at_once)
