import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xgboost as library

from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax
from stages.plugins.heads.xgboost import boosting_data, column_subsampling
from stages.plugins.heads.xgboost import head as xgboost
from stages.plugins.heads.xgboost.boosting_data import Quantiles

PARAMS = xgboost.Params(
    features="bottleneck",
    learning_rate=0.3,
    num_trees=8,
    max_depth=3,
    colsample_byround=1.0,
    colsample_bytree=1.0,
    max_bin=64,
)


def problem(n=300, dim=12, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(classes, dim))[labels] + rng.normal(scale=1.0, size=(n, dim))
    return features.astype(np.float16), labels


def saved(folder, head):
    head.save(folder)
    return hashlib.sha256((folder / "model.ubj").read_bytes()).hexdigest()


def test_a_full_disk_is_an_error_of_the_operating_system(tmp_path):
    (tmp_path / "model.ubj").symlink_to("/dev/full")
    features, labels = problem()
    head = xgboost.fit(features, labels, 3, PARAMS, 0, {})
    with pytest.raises(OSError, match="No space left"):
        head.save(tmp_path)


def test_margins_are_those_of_the_librarys_own_classifier():
    from xgboost import XGBClassifier

    features, labels = problem()
    reference = XGBClassifier(learning_rate=0.3, n_estimators=8, max_depth=3, max_bin=64, tree_method="hist")
    reference.fit(features.astype(np.float32), labels)
    head = xgboost.fit(features, labels, 3, PARAMS, 0, {})
    expected = reference.predict_proba(features.astype(np.float32))
    np.testing.assert_allclose(softmax(head.logits(features)), expected, atol=1e-6)


def test_colsample_bytree_is_the_librarys_own():
    from xgboost import XGBClassifier

    features, labels = problem(dim=40)
    options = {"learning_rate": 0.3, "n_estimators": 8, "max_depth": 3, "max_bin": 64, "tree_method": "hist"}
    reference = XGBClassifier(**options, colsample_bytree=0.25, random_state=3)
    reference.fit(features.astype(np.float32), labels)
    head = xgboost.fit(features, labels, 3, replace(PARAMS, colsample_bytree=0.25), 3, {})
    expected = reference.predict_proba(features.astype(np.float32))
    np.testing.assert_allclose(softmax(head.logits(features)), expected, atol=1e-6)


def test_a_tree_sees_a_fraction_of_what_its_round_sees():
    features, labels = problem(dim=40)
    params = replace(PARAMS, colsample_byround=0.5, colsample_bytree=0.1, max_depth=5)
    table = xgboost.fit(features, labels, 3, params, 0, {}).booster.trees_to_dataframe()
    split = table[table["Feature"] != "Leaf"]
    used = split.groupby("Tree")["Feature"].agg(set)
    assert max(map(len, used)) <= 2  # a tenth of half of 40
    assert len(set().union(*used)) > 8  # a round of a group takes others than the one before


def test_loaded_head_gives_the_same_bits(tmp_path):
    features, labels = problem()
    head = xgboost.fit(features, labels, 3, PARAMS, 0, {})
    head.save(tmp_path)
    logits = head.logits(features)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(xgboost.load(tmp_path, features.shape[1], 3).logits(features), logits)


def test_threads_do_not_change_the_trees(tmp_path):
    features, labels = problem(n=2000)
    digests = set()
    for threads in (1, 2, 3):
        quantiles = Quantiles(features, labels, 64, threads, True, tmp_path)
        head, _ = xgboost._train(quantiles, 3, {"training": np.arange(len(labels))}, PARAMS, 0)
        digests.add(saved(tmp_path, head))
    assert len(digests) == 1


def test_another_process_writes_the_same_bytes(tmp_path):
    features, labels = problem()
    here = saved(tmp_path, xgboost.fit(features, labels, 3, PARAMS, 0, {}))
    code = (
        "import sys; from pathlib import Path; from tests.stages.plugins.heads import test_xgboost_head as t;"
        "print(t.saved(Path(sys.argv[1]), t.xgboost.fit(*t.problem(), 3, t.PARAMS, 0, {})))"
    )
    there = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == here


def test_cross_validation_curve_ends_at_the_held_out_scores():
    features, labels = problem()
    folds = np.arange(len(labels)) % 5
    result = xgboost.cross_validate(features, labels, 3, folds, PARAMS, 0)
    assert [(point.step, point.series) for point in result.curve[:3]] == [
        (1, "training"),
        (1, "held-out"),
        (2, "training"),
    ]
    last = result.curve[-1]
    parts = [(result.logits[folds == fold], labels[folds == fold]) for fold in range(5)]
    assert last.step == PARAMS.num_trees
    assert last.accuracy == pytest.approx(np.mean([metrics.top1_accuracy(*part) for part in parts]))
    loss = np.mean([metrics.log_loss(softmax(logits), truth) for logits, truth in parts])
    assert last.loss == pytest.approx(loss, rel=1e-4)
    again = xgboost.cross_validate(features, labels, 3, folds, PARAMS, 0)
    np.testing.assert_array_equal(again.logits, result.logits)


def test_classes_without_examples_and_two_classes():
    features, labels = problem()
    logits = xgboost.fit(features, labels, 6, PARAMS, 0, {}).logits(features)
    assert logits.shape == (len(labels), 6)
    assert logits.argmax(axis=1).max() < 3
    assert xgboost.fit(features, labels % 2, 2, PARAMS, 0, {}).logits(features[:5]).shape == (5, 2)


@pytest.mark.parametrize(("dim", "fraction", "groups"), [(100, 0.1, 10), (7, 0.1, 7), (10, 0.34, 3), (5, 0.7, 1)])
def test_every_deal_gives_each_column_to_one_group(dim, fraction, groups):
    dealt = column_subsampling.groups(dim, fraction, 0)
    deals = len(dealt) // groups
    assert (deals, len(dealt) % groups) == (1 if groups == 1 else column_subsampling.DEALS, 0)
    for start in range(0, len(dealt), groups):
        hand = dealt[start : start + groups]
        assert sorted(np.concatenate(hand).tolist()) == list(range(dim))
        assert np.ptp([len(group) for group in hand]) <= 1
    assert [group.tolist() for group in column_subsampling.groups(dim, fraction, 0)] == [
        group.tolist() for group in dealt
    ]


def test_joined_rounds_add_up_and_split_by_the_columns_of_their_group():
    features, labels = problem(dim=9)
    columns = [np.array([1, 4, 7]), np.array([0, 2, 8])]
    quantiles = Quantiles(features, labels, 64, 1, True, Path())
    parameters = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "seed": 0, "learning_rate": 0.3}
    parameters |= {"tree_method": "hist", "max_bin": 64}
    everything = {"training": np.arange(len(labels))}
    joined, history = column_subsampling.boost(parameters, 2, quantiles, everything, columns)
    assert joined.num_features() == 9
    assert joined.num_boosted_rounds() == 2
    table = joined.trees_to_dataframe()
    used = [set(table[(table["Tree"] // 3 == step) & (table["Feature"] != "Leaf")]["Feature"]) for step in (0, 1)]
    assert {frozenset(names) for names in used} == {frozenset({"f1", "f4", "f7"}), frozenset({"f0", "f2", "f8"})}

    # By hand: the second round is trained on the margins of the first one.
    first, second = ((1, 4, 7), (0, 2, 8)) if "f1" in used[0] else ((0, 2, 8), (1, 4, 7))
    margins = np.zeros((len(labels), 3), np.float32)
    for group in (first, second):
        data = library.QuantileDMatrix(features[:, group].astype(np.float32), labels, max_bin=64)
        data.set_base_margin(margins)
        booster = library.train(parameters | {"base_score": 0.0}, data, 1)
        margins = booster.predict(data, output_margin=True)
    predicted = joined.inplace_predict(features.astype(np.float32), predict_type="margin")
    np.testing.assert_allclose(predicted, margins, atol=1e-5)
    assert history["training"]["merror"][-1] == pytest.approx(np.mean(margins.argmax(axis=1) != labels))
    assert history["training"]["mlogloss"][-1] == pytest.approx(metrics.log_loss(softmax(margins), labels), rel=1e-5)


@pytest.mark.parametrize("fraction", [1.0, 0.2])
def test_the_matrices_of_all_groups_and_folds_side_by_side_count_against_the_memory(fraction, monkeypatch):
    on_disk = []
    external = library.ExtMemQuantileDMatrix

    def matrix(*arguments, **options):
        on_disk.append(1)
        return external(*arguments, **options)

    monkeypatch.setattr(library, "ExtMemQuantileDMatrix", matrix)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    features, labels = problem(dim=40)
    params = replace(PARAMS, colsample_byround=fraction)
    values = features.size * (1 if fraction == 1 else column_subsampling.DEALS)
    # A byte by rows and a byte by columns of each value; two folds are trained at a time.
    for at_once, train in (
        (1, lambda: xgboost.fit(features, labels, 3, params, 0, {})),
        (2, lambda: xgboost.cross_validate(features, labels, 3, np.arange(len(labels)) % 5, params, 0)),
    ):
        for limit, spills in ((2 * values * at_once, False), (2 * values * at_once - 1, True)):
            monkeypatch.setattr(boosting_data, "BYTES_IN_MEMORY", limit)
            on_disk.clear()
            train()
            assert bool(on_disk) == spills


@pytest.mark.parametrize("limit", [1 << 30, 100])
def test_groups_in_memory_and_on_disk_give_the_curve_and_logits_of_the_saved_head(limit, monkeypatch, tmp_path):
    monkeypatch.setattr(boosting_data, "BYTES_IN_MEMORY", limit)
    features, labels = problem(dim=40)
    params = replace(PARAMS, colsample_byround=0.2)
    folds = np.arange(len(labels)) % 5
    result = xgboost.cross_validate(features, labels, 3, folds, params, 0)
    parts = [(result.logits[folds == fold], labels[folds == fold]) for fold in range(5)]
    loss = np.mean([metrics.log_loss(softmax(logits), truth) for logits, truth in parts])
    assert result.curve[-1].loss == pytest.approx(loss, rel=1e-4)
    head = xgboost.fit(features, labels, 3, params, 0, {})
    assert saved(tmp_path, head) == saved(tmp_path, xgboost.fit(features, labels, 3, params, 0, {}))
    np.testing.assert_array_equal(xgboost.load(tmp_path, features.shape[1], 3).logits(features), head.logits(features))
    assert metrics.top1_accuracy(head.logits(features), labels) > 0.9
