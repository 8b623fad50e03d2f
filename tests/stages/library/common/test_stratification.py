"""The rule of splits, folds and draws: by hand, against a plain loop, and what it promises."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.library.common import hashing, stratification

# Images: the number of each one's unit, and its class.
IMAGES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=40)
BORDERS = st.lists(st.floats(0, 1), max_size=4).map(sorted)
FOLDS = st.integers(2, 7).map(lambda count: [share / count for share in range(1, count)])


def number(name):
    return hashing.number(str(name))


def columns(images):
    return np.array([number(unit) for unit, _ in images], np.uint64), np.array([label for _, label in images], np.int64)


def by_loop(images, borders, purpose, seed):
    """The same as `assign`, as the docstring says it."""
    classes = {}
    for unit, _ in images:
        counted = Counter(label for other, label in images if other == unit)
        classes[unit] = min(counted, key=lambda label: (-counted[label], label))
    shares = {}
    for label in set(classes.values()):
        own = [unit for unit in classes if classes[unit] == label]
        own.sort(key=lambda unit: int(hashing.shuffled(np.array([number(unit)], np.uint64), purpose, seed)[0]))
        sizes = [sum(other == unit for other, _ in images) for unit in own]
        for place, unit in enumerate(own):
            middle = (sum(sizes[:place]) + sizes[place] / 2) / sum(sizes)
            shares[unit] = sum(border <= middle + 1e-12 for border in borders)
    return [shares[unit] for unit, _ in images]


@given(IMAGES, BORDERS, st.integers(0, 5))
def test_a_unit_falls_where_its_middle_lies_in_the_order_of_its_class(images, borders, seed):
    units, labels = columns(images)
    found = stratification.assign(units, labels, borders, "test", seed)
    assert found.tolist() == by_loop(images, borders, "test", seed)


def test_shares_by_hand():
    units, labels = columns([(index, index // 10) for index in range(15)])
    share = stratification.assign(units, labels, (0.2, 0.8), "split", 0)
    assert np.bincount(share[:10]).tolist() == [2, 6, 2]
    assert np.bincount(share[10:]).tolist() == [1, 3, 1]
    sizes = {1: (0, 1, 0), 2: (0, 2, 0), 3: (1, 1, 1), 4: (1, 2, 1), 7: (1, 5, 1), 8: (2, 4, 2)}
    for size, expected in sizes.items():
        share = stratification.assign(units[:size], labels[:size], (0.2, 0.8), "split", 0)
        assert np.bincount(share, minlength=3).tolist() == list(expected)


@given(st.lists(st.integers(0, 3), max_size=60), BORDERS, FOLDS, st.integers(0, 5))
def test_each_class_has_its_part_of_each_share_to_within_one_image(labels, borders, folds, seed):
    units, classes = columns(list(enumerate(labels)))
    for limits, turned in ((borders, False), (folds, True)):
        share = stratification.assign(units, classes, limits, "test", seed, turned)
        for label, size in Counter(labels).items():
            counted = np.bincount(share[classes == label], minlength=len(limits) + 1)
            assert (abs(counted - size * np.diff([0, *limits, 1])) <= 1 + 1e-9).all()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20), BORDERS, FOLDS)
def test_with_units_the_part_is_met_to_within_one_unit(sizes, borders, folds):
    units, labels = columns([(unit, 0) for unit, size in enumerate(sizes) for _ in range(size)])
    for limits, turned in ((borders, False), (folds, True)):
        share = stratification.assign(units, labels, limits, "test", 0, turned)
        counted = np.bincount(share, minlength=len(limits) + 1)
        assert (abs(counted - len(units) * np.diff([0, *limits, 1])) <= max(sizes) + 1e-9).all()
        assert all(len(set(share[units == unit])) == 1 for unit in units)


@given(IMAGES, BORDERS, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_decides_nothing(images, borders, turned, random):
    order = np.array(random.sample(range(len(images)), len(images)))
    units, labels = columns(images)
    share = stratification.assign(units, labels, borders, "test", 0, turned)
    assert (
        stratification.assign(units[order], labels[order], borders, "test", 0, turned).tolist() == share[order].tolist()
    )


@given(IMAGES, st.floats(0.05, 0.45), st.floats(0.05, 0.45), FOLDS, st.integers(0, 13))
def test_one_image_more_or_less_moves_at_most_one_other_unit_across_each_border(images, first, last, folds, unit):
    """On a circle there is one border more than on a line. The image is of a new unit, or of one that is there."""
    few = [(other, other % 4) for other, _ in images] + [(20 + label, label) for label in range(4)]
    for limits, turned in (([first, 1 - last], False), (folds, True)):
        before: dict[int, int] = {}
        after: dict[int, int] = {}
        for found, share_of in ((few, before), ([*few, (unit, unit % 4)], after)):
            units, labels = columns(found)
            shares = stratification.assign(units, labels, limits, "test", 0, turned)
            share_of.update((other, share) for (other, _), share in zip(found, shares, strict=True))
        moved = [other for other in before if other != unit and before[other] != after[other]]
        assert len(moved) <= len(limits) + turned


@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 5)), min_size=1, max_size=25), st.data())
def test_units_are_what_hangs_together(images, data):
    rows = st.integers(0, len(images) - 1)
    pairs = data.draw(st.lists(st.tuples(rows, rows), max_size=4))
    keys = np.array([number(("key", key)) for key, _ in images], np.uint64)
    groups = np.array([number(("key", key) if group is None else group) for key, group in images], np.uint64)
    found = stratification.units(keys, groups, np.array(pairs, np.int64).reshape(-1, 2) if pairs else None)
    # The slow way: the smaller number is handed on until nothing changes.
    expected = [int(group) for group in groups]
    for _ in images:
        for i in range(len(images)):
            for j in range(len(images)):
                if keys[i] == keys[j] or groups[i] == groups[j] or (i, j) in pairs or (j, i) in pairs:
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert found.tolist() == expected
    assert found.dtype == np.uint64


@settings(max_examples=20)
@given(st.integers(0, 2**64 - 1), st.text(max_size=3), st.integers(0, 2**70))
def test_an_order_is_a_permutation_that_any_machine_finds_again(start, purpose, seed):
    numbers = np.arange(200, dtype=np.uint64) + np.uint64(start)
    mixed = hashing.shuffled(numbers, purpose, seed)
    assert len(set(mixed.tolist())) == 200
    assert mixed[:3].tolist() == hashing.shuffled(numbers[:3], purpose, seed).tolist()
    assert hashing.shuffled(numbers, purpose, seed + 1).tolist() != mixed.tolist()


def test_the_numbers_are_fixed_for_ever():
    """Or every published figure would be on another split: SplitMix64's first output of a known state."""
    salt, step = np.uint64(hashing.number("0:split")), np.uint64(0x9E3779B97F4A7C15)
    assert hashing.number("cat") == 0x77AF778B51ABD4A3
    assert int(hashing.shuffled(np.array([step ^ salt]), "split", 0)[0]) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize("turned", [False, True])
def test_each_image_is_as_likely_in_each_share(turned):
    units, labels = columns([(index, 0) for index in range(10)])
    shares = [stratification.assign(units, labels, (0.5,), "test", seed, turned) for seed in range(400)]
    assert np.abs(np.mean(shares, axis=0) - 0.5).max() < 0.125  # 5 standard deviations of a mean of 400


def test_classes_of_one_image_fill_all_folds():
    units, labels = columns([(index, index) for index in range(40)])
    sizes = np.bincount(stratification.folds(units, labels, 5, "fold", 0))
    assert len(sizes) == 5
    assert sizes.min() >= 7
