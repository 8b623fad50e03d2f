"""The few-shot protocol: who trains, who is tested, what is decided by whom."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library import fewshot
from stages.library.common import hashing
from stages.library.common.console import UserError
from stages.library.common.params import parse
from stages.library.heads import contract
from stages.library.heads.contract import Score, Step

SETTINGS = {"heads": ["ridge", "softmax"], "shots": [3, 5], "repeats": 2, "seed": 0, "folds": 3}
SETTINGS |= {"background": ["BACKGROUND_Google", "257.clutter"]}
CLASSES = ("BACKGROUND_Google", "cat", "emu")


def key_of(name):
    return hashlib.sha256(str(name).encode()).hexdigest()


def make_keys(count):
    return np.array([key_of(i) for i in range(count)], object)


def make_images(counts, classes=CLASSES, per_unit=1):
    """Images of classes, with so many images a unit, the last units of a class apart."""
    labels = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([np.arange(count) // per_unit for count in counts])
    units = np.array(
        [hashing.number(f"{label} {place}") for label, place in zip(labels, places, strict=True)], np.uint64
    )
    return fewshot.distinct(make_keys(len(labels)), labels, units, classes)


def settings(**changes):
    return parse("fewshot", SETTINGS | changes, fewshot.Params)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 5), st.randoms())
def test_ranks_are_a_permutation_of_each_class_and_go_with_the_image(labels, repeat, random):
    labels, keys = np.array(labels), make_keys(len(labels))
    units = np.array([hashing.number(f"{key[0]}") for key in keys], np.uint64)  # several images each
    ranks = fewshot.ranks(keys, labels, units, repeat, seed=0)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        assert sorted(ranks[labels == label]) == list(range(count))
        in_order = units[labels == label][np.argsort(ranks[labels == label])]
        assert 1 + (in_order[1:] != in_order[:-1]).sum() == len(set(in_order)), "a unit is taken whole"
    shuffled = np.array(random.sample(range(len(labels)), len(labels)))
    again = fewshot.ranks(keys[shuffled], labels[shuffled], units[shuffled], repeat, 0)
    np.testing.assert_array_equal(again, ranks[shuffled])


def test_other_repeats_and_seeds_give_other_orders_and_each_image_is_as_likely():
    images = make_images((40,))
    columns = images.keys, images.labels, images.units
    assert len({tuple(fewshot.ranks(*columns, repeat, seed)) for repeat in range(3) for seed in range(3)}) == 9
    chosen = np.mean([fewshot.ranks(*columns, repeat, 0) < 10 for repeat in range(400)], axis=0)
    assert np.abs(chosen - 0.25).max() < 0.11  # 5 standard deviations of a mean of 400


def test_copies_count_once_in_the_first_of_their_classes_whatever_the_order():
    forwards = np.array(["b", "a", "b", "c", "a"], object), np.array([1, 2, 1, 0, 0])
    for keys, labels in (forwards, (forwards[0][::-1], forwards[1][::-1])):
        images = fewshot.distinct(keys, labels, labels.astype(np.uint64), CLASSES)
        for found in ((images.keys, images.labels), (keys[images.rows], labels[images.rows])):
            assert [*map(list, found)] == [["a", "b", "c"], [0, 1, 0]]


def test_without_background_its_images_are_gone_and_class_ids_close_up():
    images = make_images((2, 3, 4), ("cat", "257.clutter", "emu"))
    groups = fewshot.variants(images, ["257.clutter", "BACKGROUND_Google"])
    others = groups["without"]
    assert (list(groups), groups["with"], others.classes) == (["with", "without"], images, ("cat", "emu"))
    for found, every in ((others.labels * 2, images.labels), (others.keys, images.keys), (others.rows, images.rows)):
        np.testing.assert_array_equal(found, every[images.labels != 1])
    for background in ([], ["another"], ["cat", "emu"], list(images.classes)):  # nothing, or no problem, is left out
        assert list(fewshot.variants(images, background)) == ["with"]


def test_a_class_of_large_groups_needs_an_image_beyond_the_largest():
    for per_unit, shots, small in ((4, 5, []), (4, 6, ["cat"]), (9, 2, ["cat"]), (3, 6, []), (3, 7, ["cat"])):
        images = make_images((9, 99, 99), ("cat", "dog", "emu"), per_unit)
        assert fewshot.large_enough(images, shots)[1] == small


def test_classes_too_small_for_the_shots_sit_out_by_name():
    images = make_images((9, 5, 8))
    assert fewshot.large_enough(images, 4)[1] == []
    large, small = fewshot.large_enough(images, 5)
    assert (small, large.classes) == (["cat"], ("BACKGROUND_Google", "emu"))
    np.testing.assert_array_equal(np.bincount(large.labels), [9, 8])
    for too_few, shots, found in ((images, 8, "1 of 3"), (make_images((9,), ("cat",)), 5, "1 of 1")):
        with pytest.raises(UserError, match=rf"`fewshot.shots` must .* Received: {shots}, and only {found} classes"):
            fewshot.large_enough(too_few, shots)


@pytest.fixture
def record(monkeypatch):
    """Runs the protocol on images whose one feature is their row; returns scores, what the head saw, and the images.

    The head has a penalty for each training set, or nothing to choose, and answers class 0, whatever the features.
    """

    def run(counts, shots=3, background=(), chooses=True, per_unit=1, weights=None, **changes):
        seen = SimpleNamespace(validated=[], fitted=[], tested=[], weights=[])

        class Trainer(contract.Trainer):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                self.rows = self.examples.features[:, 0].astype(int)
                seen.weights.append(self.examples.weights)
                if chooses:
                    self.candidates = [{"penalty": len(seen.validated) + 1}, {"penalty": 0}]

            def path(self, fold):
                if fold == 0:
                    seen.validated.append((self.rows, self.examples.labels, self.examples.folds))
                yield Step(0, Score(0, 0), Score(0, 0))

            def fit(self, best_params):
                seen.fitted.append((self.rows, self.examples.labels, best_params))
                seen.tested.append([])
                return self

            def logits(self, features):
                seen.tested[-1].extend(features[:, 0].astype(int))
                return np.repeat(np.eye(1, self.examples.num_classes, dtype=np.float32), len(features), axis=0)

        monkeypatch.setattr(contract, "lookup", {"ridge": SimpleNamespace(Trainer=Trainer)}.__getitem__)
        images = make_images(counts, per_unit=per_unit)
        features, groups = np.arange(len(images.keys), dtype=np.float32)[:, None], fewshot.variants(images, background)
        weighed = 1.0 + features[:, 0], weights or "none"
        scores = fewshot.run("ridge", None, shots, features, groups, settings(**changes), *weighed, "top1_accuracy")
        return pd.DataFrame(list(scores)), seen, images

    return run


@pytest.mark.parametrize(("shots", "tested_count"), [(3, 18), (5, 12)])
@pytest.mark.parametrize("chooses", [True, False])
def test_each_class_trains_with_n_images_and_all_the_rest_are_tested(record, shots, tested_count, chooses):
    scores, seen, images = record((6, 9, 12), shots, chooses=chooses)
    assert bool(seen.validated) == (set(scores["best_params"]) != {"{}"}) == chooses
    label_of = dict(zip(images.rows, images.labels, strict=True))
    for (rows, labels, _), tested in zip(seen.fitted, seen.tested, strict=True):
        np.testing.assert_array_equal(np.bincount(labels), [shots] * 3)
        assert [label_of[row] for row in rows] == list(labels)
        assert sorted([*rows, *tested]) == list(range(27))
    np.testing.assert_array_equal(scores[["n_train", "n_test"]], [[3 * shots, tested_count]] * 2)
    # Class 0 is answered always: 6 - n of its images are right, all of the others' wrong.
    expected = [[(6 - shots) / tested_count, 1 / 3]] * 2
    np.testing.assert_allclose(scores[["top1_accuracy", "balanced_accuracy"]], expected)


def test_all_heads_get_the_same_images_repeats_differ_and_shots_are_nested(record):
    def chosen(shots, chooses):
        return [set(rows) for rows, _, _ in record((10, 10, 10), shots, chooses=chooses)[1].fitted]

    few = chosen(3, chooses=True)
    assert few == chosen(3, chooses=False)
    assert few[0] != few[1]
    assert all(map(set.__lt__, few, chosen(5, chooses=True)))


def test_what_is_chosen_is_chosen_within_the_training_images_in_stratified_folds(record):
    scores, seen, _ = record((6, 9, 12), shots=5)
    for (rows, labels, folds), (fitted, *_) in zip(seen.validated, seen.fitted, strict=True):
        np.testing.assert_array_equal(rows, fitted)
        assert [sorted(np.bincount(folds[labels == label])) for label in range(3)] == [[1, 2, 2]] * 3
    assert [best_params["penalty"] for *_, best_params in seen.fitted] == [1, 2]
    assert list(scores["best_params"]) == ['{"penalty": 1}', '{"penalty": 2}']
    # A class of few images has as many folds as images.
    for _, labels, folds in record((6, 9, 12), shots=2, folds=50)[1].validated:
        assert sorted(zip(labels, folds, strict=True)) == [(label, fold) for label in range(3) for fold in range(2)]


def test_a_group_is_on_one_side_and_in_one_fold_and_as_many_images_train(record):
    """Of what is left of a group whose images train nothing is tested."""
    _, seen, images = record((12, 12, 12), shots=5, per_unit=3, background=("BACKGROUND_Google",))
    unit_of = dict(zip(images.rows, images.units, strict=True))
    assert len(seen.fitted) == 4
    for (rows, labels, _), tested in zip(seen.fitted, seen.tested, strict=True):
        assert set(np.bincount(labels)) == {5}
        trained = {unit_of[row] for row in rows}
        assert {row for row in images.rows if unit_of[row] not in trained} >= set(tested)
        assert len(tested) == 6 * len(set(labels))
    for rows, _, folds in seen.validated:
        assert len({(unit_of[row], fold) for row, fold in zip(rows, folds, strict=True)}) == 6
        assert len(set(folds)) > 1


def test_groups_of_all_classes_that_leave_nothing_to_test_are_an_error(record):
    images = make_images((4, 4, 4))
    one = fewshot.Images(images.rows, images.keys, images.labels, images.labels.astype(np.uint64) * 0, images.classes)
    fits = fewshot.run("ridge", None, 3, np.zeros((12, 1)), {"with": one}, settings(), np.ones(12), "none", "log_loss")
    with pytest.raises(UserError, match=r"`fewshot\.shots` must leave a group of images to test\. Received: 3"):
        list(fits)


def test_without_background_the_other_classes_train_with_the_same_images(record):
    scores, seen, images = record((8, 8, 8), background=("BACKGROUND_Google",))
    assert list(scores["background"]) == ["with", "without"] * 2
    background = set(images.rows[images.labels == 0])
    for everything, others in zip(*[iter(seen.fitted)] * 2, strict=True):
        assert set(others[0]) == set(everything[0]) - background
        np.testing.assert_array_equal(np.unique(others[1]), [0, 1])
    assert not background & set(seen.tested[1])
    # What a repeat chose on all classes holds without background, whose test images are among the same repeat's.
    assert list(scores["best_params"]) == [f'{{"penalty": {repeat}}}' for repeat in (1, 1, 2, 2)]
    for (validated, _, _), (fitted, _, _) in zip(seen.validated, seen.fitted[::2], strict=True):
        np.testing.assert_array_equal(validated, fitted)


def test_images_weigh_what_they_and_their_class_do(record):
    _, seen, images = record((6, 9, 12), background=("BACKGROUND_Google",), weights={CLASSES[0]: 5.0, CLASSES[2]: 2.0})
    of_row = (1.0 + images.rows) * np.array([5.0, 1.0, 2.0])[images.labels]
    for (rows, *_), weights in zip(seen.fitted, seen.weights, strict=True):
        np.testing.assert_array_equal(weights, of_row[np.argsort(images.rows)][rows])


def test_a_summary_has_means_and_deviations_and_of_unequal_repeats_the_fewest_test_images():
    scores = [{"background": "with", "n_test": n, "top1_accuracy": n / 10, "balanced_accuracy": 0.5} for n in (7, 5)]
    moments = {"top1_accuracy": {"mean": 0.6, "std": 0.141421}, "balanced_accuracy": {"mean": 0.5, "std": 0.0}}
    assert fewshot.summarise(scores) == moments | {"num_examples": 5}
