"""The few-shot protocol: who trains, who is tested, what is decided by whom."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library import fewshot, heads
from stages.library.console import UserError
from stages.library.params import ParamsError, parse

SETTINGS = {
    "heads": ["ridge", "softmax"],
    "train_per_class": [3, 5],
    "draws": 2,
    "seed": 0,
    "folds": 3,
    "background": ["BACKGROUND_Google", "257.clutter"],
}
CLASSES = ("BACKGROUND_Google", "cat", "emu")


def key_of(name):
    return hashlib.sha256(str(name).encode()).hexdigest()


def make_pictures(counts, classes=CLASSES):
    labels = np.repeat(np.arange(len(counts)), counts)
    keys = np.array([key_of(i) for i in range(len(labels))], object)
    return fewshot.distinct(keys, labels, classes)


def settings(**changes):
    return parse("fewshot", SETTINGS | changes, fewshot.Params)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("heads", ["perceptron"], "must be among .*ridge"),
        ("heads", ["ridge", "ridge"], "twice"),
        ("heads", [], "at least 1"),
        ("train_per_class", [1], "greater than or equal to 2"),
        ("train_per_class", [15, 15], "twice"),
        ("draws", 1, "greater than or equal to 2"),
        ("folds", 1, "greater than or equal to 2"),
        ("background", "clutter", "valid"),
    ],
)
def test_a_broken_rule_names_key_and_value(key, value, rule):
    with pytest.raises(ParamsError, match=rf"`fewshot\.{key}.*{rule}.* Received: "):
        settings(**{key: value})


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 5), st.randoms())
def test_ranks_are_a_permutation_of_each_class_and_go_with_the_picture(labels, draw, random):
    labels = np.array(labels)
    keys = np.array([key_of(i) for i in range(len(labels))], object)
    ranks = fewshot.ranks(keys, labels, draw, seed=0)
    for label in np.unique(labels):
        assert sorted(ranks[labels == label]) == list(range(np.sum(labels == label)))
    shuffled = np.array(random.sample(range(len(labels)), len(labels)))
    np.testing.assert_array_equal(fewshot.ranks(keys[shuffled], labels[shuffled], draw, 0), ranks[shuffled])


def test_other_draws_and_seeds_give_other_orders_and_each_picture_is_as_likely():
    keys, labels = np.array([key_of(i) for i in range(40)], object), np.zeros(40, np.int64)
    orders = [tuple(fewshot.ranks(keys, labels, draw, seed)) for draw in range(3) for seed in range(3)]
    assert len(set(orders)) == 9
    chosen = np.mean([fewshot.ranks(keys, labels, draw, 0) < 10 for draw in range(400)], axis=0)
    assert np.abs(chosen - 0.25).max() < 0.11  # 5 standard deviations of a mean of 400


def test_copies_count_once_in_the_first_of_their_classes_whatever_the_order():
    keys = np.array(["b", "a", "b", "c", "a"], object)
    labels = np.array([1, 2, 1, 0, 0])
    pictures = fewshot.distinct(keys, labels, CLASSES)
    assert list(pictures.keys) == ["a", "b", "c"]
    assert list(pictures.labels) == [0, 1, 0]
    assert list(keys[pictures.rows]) == ["a", "b", "c"]
    assert list(labels[pictures.rows]) == [0, 1, 0]
    backwards = fewshot.distinct(keys[::-1], labels[::-1], CLASSES)
    assert (list(backwards.keys), list(backwards.labels)) == (["a", "b", "c"], [0, 1, 0])


def test_without_background_its_pictures_are_gone_and_class_ids_close_up():
    pictures = make_pictures((2, 3, 4), ("cat", "257.clutter", "emu"))
    everything, others = fewshot.variants(pictures, ["257.clutter", "BACKGROUND_Google"])
    assert everything is pictures
    assert (others.background, others.classes) == ("without", ("cat", "emu"))
    kept = pictures.labels != 1
    np.testing.assert_array_equal(others.labels, pictures.labels[kept] // 2)
    np.testing.assert_array_equal(others.keys, pictures.keys[kept])
    np.testing.assert_array_equal(others.rows, pictures.rows[kept])


@pytest.mark.parametrize("background", [[], ["another"], ["cat", "emu"], list(CLASSES)])
def test_without_background_is_left_out_where_nothing_or_no_problem_is_left(background):
    assert len(fewshot.variants(make_pictures((2, 3, 4)), background)) == 1


def test_sizes_that_leave_a_class_untested_are_left_out():
    pictures = make_pictures((9, 6, 8))
    assert fewshot.possible_sizes(pictures, (5, 6, 2, 9)) == [5, 2]
    assert fewshot.possible_sizes(pictures, (6, 7)) == []
    with pytest.raises(UserError, match=r"at least 2 classes. Received: \['cat'\]"):
        fewshot.possible_sizes(make_pictures((9,), ("cat",)), (5,))


class Recorder:
    """A head that remembers what it saw; it answers class 0, whatever the features."""

    def __init__(self, chooses):
        self.CHOOSES = chooses
        self.validated, self.fitted, self.tested = [], [], []

    def cross_validate(self, features, labels, num_classes, folds, params, seed):
        self.validated.append((features[:, 0].astype(int), labels, folds))
        return heads.CrossValidation(np.zeros((len(labels), num_classes)), [], {"penalty": len(self.validated)})

    def fit(self, features, labels, num_classes, params, seed, chosen):
        self.fitted.append((features[:, 0].astype(int), labels, chosen))

        def logits(features):
            self.tested[-1].extend(features[:, 0].astype(int))
            return np.eye(num_classes, dtype=np.float32)[np.zeros(len(features), int)]

        self.tested.append([])
        return SimpleNamespace(logits=logits)


@pytest.fixture
def record(monkeypatch):
    """Runs the protocol with two recorders on pictures whose one feature is their row; returns scores and recorders."""

    def run(counts, sizes=(3, 5), background=(), **changes):
        recorders = {"ridge": Recorder(chooses=True), "softmax": Recorder(chooses=False)}
        monkeypatch.setattr(heads, "lookup", recorders.__getitem__)
        pictures = make_pictures(counts)
        values = {"bottleneck": np.arange(len(pictures.keys), dtype=np.float32)[:, None]}
        sections = dict.fromkeys(recorders, SimpleNamespace(features="bottleneck"))
        groups = fewshot.variants(pictures, background)
        return list(fewshot.run(values, groups, sizes, settings(**changes), sections)), recorders, pictures

    return run


def test_each_class_trains_with_n_pictures_and_all_the_rest_are_tested(record):
    scores, recorders, pictures = record((6, 9, 12))
    label_of = dict(zip(pictures.rows, pictures.labels, strict=True))
    for recorder in recorders.values():
        for size, (rows, labels, _), tested in zip([3, 3, 5, 5], recorder.fitted, recorder.tested, strict=True):
            np.testing.assert_array_equal(np.bincount(labels), [size] * 3)
            assert [label_of[row] for row in rows] == list(labels)
            assert sorted([*rows, *tested]) == list(range(27))
    assert [(score.n_train, score.n_test) for score in scores] == [(9, 18), (9, 18), (15, 12), (15, 12)] * 2
    # Class 0 is answered always: 6 - n of its pictures are right, all of the others' wrong.
    assert [score.top1_accuracy for score in scores] == pytest.approx([3 / 18, 3 / 18, 1 / 12, 1 / 12] * 2)
    assert [score.mean_class_accuracy for score in scores] == pytest.approx([1 / 3] * 8)


def test_all_heads_get_the_same_pictures_draws_differ_and_sizes_are_nested(record):
    _, recorders, _ = record((10, 10, 10))
    ridge, softmax = ([set(rows) for rows, _, _ in recorder.fitted] for recorder in recorders.values())
    assert ridge == softmax
    assert ridge[0] != ridge[1]
    assert ridge[0] < ridge[2]
    assert ridge[1] < ridge[3]


def test_what_is_chosen_is_chosen_within_the_training_pictures_in_stratified_folds(record):
    scores, recorders, _ = record((6, 9, 12))
    for (rows, labels, folds), (fitted, _, chosen) in zip(
        recorders["ridge"].validated, recorders["ridge"].fitted, strict=True
    ):
        np.testing.assert_array_equal(rows, fitted)
        for label in range(3):
            sizes = np.bincount(folds[labels == label], minlength=3)
            assert sizes.max() - sizes.min() <= 1
        assert chosen["penalty"] > 0
    assert [score.chosen for score in scores] == [f'{{"penalty": {i}}}' for i in (1, 2, 3, 4)] + ["{}"] * 4
    assert recorders["softmax"].validated == []


def test_a_class_of_few_pictures_has_as_many_folds_as_pictures(record):
    _, recorders, _ = record((6, 9, 12), sizes=(2,), folds=50)
    for _, labels, folds in recorders["ridge"].validated:
        assert sorted(zip(labels, folds, strict=True)) == [(label, fold) for label in range(3) for fold in range(2)]


def test_without_background_the_other_classes_train_with_the_same_pictures(record):
    scores, recorders, pictures = record((8, 8, 8), background=("BACKGROUND_Google",))
    assert [score.background for score in scores] == ["with", "without"] * 8
    background = set(pictures.rows[pictures.labels == 0])
    for everything, others in zip(*[iter(recorders["ridge"].fitted)] * 2, strict=True):
        assert set(others[0]) == set(everything[0]) - background
        np.testing.assert_array_equal(np.unique(others[1]), [0, 1])
    assert not background & set(recorders["ridge"].tested[1])
    # What a draw chose on all classes holds without background, whose test pictures are among the same draw's.
    assert [score.chosen for score in scores[:8]] == [f'{{"penalty": {draw}}}' for draw in (1, 1, 2, 2, 3, 3, 4, 4)]
    for (validated, _, _), (fitted, _, _) in zip(
        recorders["ridge"].validated, recorders["ridge"].fitted[::2], strict=True
    ):
        np.testing.assert_array_equal(validated, fitted)


def test_a_summary_has_mean_and_sample_deviation(record):
    (first, *_), _, _ = record((6, 9, 12))
    pair = [replace(first, draw=i, top1_accuracy=0.5 + 0.2 * i, mean_class_accuracy=0.4) for i in range(2)]
    (row,) = fewshot.summarise(pair)
    assert (row["head"], row["train_per_class"], row["draws"]) == ("ridge", 3, 2)
    assert (row["top1_accuracy_mean"], row["top1_accuracy_std"]) == (0.6, 0.141421)  # 0.2 / sqrt(2)
    assert (row["mean_class_accuracy_mean"], row["mean_class_accuracy_std"]) == (0.4, 0.0)
    others = fewshot.summarise([replace(score, background="without", n_test=7) for score in pair])
    assert fewshot.as_metrics([row, *others]) == {
        "ridge": {
            "3_per_class": {
                "top1_accuracy": {"mean": 0.6, "std": 0.141421},
                "mean_class_accuracy": {"mean": 0.4, "std": 0.0},
                "num_examples": 18,
                "without_background": {
                    "top1_accuracy": {"mean": 0.6, "std": 0.141421},
                    "mean_class_accuracy": {"mean": 0.4, "std": 0.0},
                    "num_examples": 7,
                },
            }
        }
    }
