import hashlib
import math
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.library.common import hashing
from stages.library.common.console import UserError
from stages.library.common.params import ParamsError, parse
from stages.library.heads import folds
from stages.library.preparation import splits
from stages.library.sources.contract import Place

ONE = Place("x", 0, 1)
KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]


def params(validation=0.2, test=0.3, seed=0, method="hash"):
    return splits.Params(method=method, validation=validation, test=test, seed=seed)


def test_uniform_is_the_first_seven_bytes_of_a_hash():
    digest = hashlib.sha256(b"3:split:abc").digest()
    assert hashing.uniform("abc", "split", 3) == int.from_bytes(digest[:7], "big") / 2**56


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("key", KEYS[:20])
def test_a_split_is_where_its_number_falls(key, seed):
    """Fixed for ever, or every published figure would be on another split; a border belongs to the part above it."""

    def decided(validation, test, official=None):
        return splits.split_of(key, official, params(validation, test, seed))

    number = hashing.uniform(key, "split", seed)
    assert 0.01 < number < 0.98
    assert decided(math.nextafter(number, 1), 0.01) == "validation"
    assert decided(number, 0.01) == "test"
    assert decided(number / 2, number / 2) == "train"
    assert decided(number / 2, number / 2 + 1e-9) == "test"
    assert decided(number, 0.01, "train") == "train"


@settings(max_examples=20)
@given(st.floats(0.02, 0.48), st.floats(0.02, 0.48), st.integers(0, 1000))
def test_any_fractions_hold(validation, test, seed):
    counts = Counter(splits.split_of(key, None, params(validation, test, seed)) for key in KEYS[:4000])
    for split, fraction in (("validation", validation), ("test", test), ("train", 1 - validation - test)):
        # Six standard deviations: one false alarm in 10 million examples.
        assert abs(counts[split] - 4000 * fraction) < 6 * (4000 * fraction * (1 - fraction)) ** 0.5


@pytest.mark.parametrize("validation", [0.5, 0.6])
def test_fractions_that_leave_nothing_to_train_on_are_an_error(validation):
    content = {"method": "hash", "validation": validation, "test": 0.5, "seed": 0}
    with pytest.raises(ParamsError, match=r"`split`: `validation` \+ `test` must be < 1"):
        parse("split", content, splits.Params)


@given(st.integers(1, 500), st.floats(0.001, 0.99))
@example(10_000, 0.43)  # 1 - 0.43 and 100 * 0.29 are not exact in binary
@example(10_000, 0.29)
@example(10_000, 0.00004)  # a fraction of less than half an image is none
def test_the_tail_of_each_file_validates(count, validation):
    tail = params(validation, 0.001, method="tail")
    split = [splits.split_of("any", "train", tail, Place("x", index, count)) for index in range(count)]
    assert abs(split.count("validation") - count * validation) <= 0.5
    assert split == sorted(split)
    assert splits.split_of("any", "test", tail, Place("test", count - 1, count)) == "test"


@pytest.mark.parametrize(("official", "place"), [(None, None), ("train", None), ("test", None), (None, ONE)])
def test_a_tail_needs_files_with_an_order_and_an_official_test_split(official, place):
    message = r"^`split.method` must be hash for data sets without an official test split in files .* Received: tail$"
    with pytest.raises(UserError, match=message):
        splits.split_of(KEYS[0], official, params(method="tail"), place)


def test_folds_do_not_depend_on_the_split():
    """Of each split, with the same seed, each fold has its share."""
    folded = folds.Params(folds=5, holdout_fraction={}, seed=params().seed, temperature_scaling=True)
    found = zip(KEYS, folds.assign(KEYS, folded, "ridge"), strict=True)
    counts = Counter((splits.split_of(key, None, params()), fold) for key, fold in found)
    for split, share in (("train", 0.5), ("validation", 0.2), ("test", 0.3)):
        for fold in range(5):
            assert counts[split, fold] == pytest.approx(len(KEYS) * share / 5, rel=0.15)
