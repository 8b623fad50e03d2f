"""Folds: each class has its share of each, and images of a group are in one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.common import hashing, stratification
from stages.library.common.console import UserError
from stages.library.heads import folds
from stages.library.heads.folds import NEVER, Params

UNITS = np.array([hashing.number(str(index)) for index in range(200)], np.uint64)
CLASS_OF = np.arange(200) % 3


def params(count=5, seed=0, **held_out):
    return Params(folds=count, holdout_fraction=held_out, seed=seed, temperature_scaling=True)


@given(st.integers(2, 50), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_folds_and_a_held_out_fraction_are_shares_of_each_class(count, fraction, seed):
    chosen = params(count, seed, dnn=fraction)
    found = {head: folds.assign(UNITS, CLASS_OF, chosen, head) for head in ("ridge", "dnn")}
    assert {fold.dtype for fold in found.values()} == {np.dtype(np.int64)}
    assert set(found["ridge"]) == set(range(count))
    assert set(found["dnn"]) <= {0, NEVER}
    for label in range(3):
        own = np.equal(CLASS_OF, label)
        sizes = np.bincount(found["ridge"][own], minlength=count)
        assert abs(sizes - own.sum() / count).max() < 1
        assert abs((found["dnn"][own] == 0).sum() - own.sum() * fraction) < 1


def test_images_of_a_group_are_in_one_fold_and_other_seeds_give_other_folds():
    units = UNITS[np.arange(200) // 4 % 30]
    for chosen, head in ((params(), "ridge"), (params(dnn=0.3), "dnn")):
        found = folds.assign(units, CLASS_OF, chosen, head)
        assert all(len(set(found[units == unit])) == 1 for unit in units)
        assert len(set(found)) > 1
    by_seed = [folds.assign(UNITS, CLASS_OF, params(seed=seed), "ridge").tolist() for seed in (0, 0, 1)]
    assert by_seed[0] == by_seed[1] != by_seed[2]


def test_folds_are_what_they_were_in_earlier_versions():
    """Or published figures would change: 20 images of one class."""
    units, labels = UNITS[:20], np.zeros(20, np.int64)
    assert "".join(map(str, folds.assign(units, labels, params(), "ridge"))) == "31433002141032241024"
    held_out = [np.flatnonzero(folds.assign(units, labels, params(seed=seed, dnn=0.2), "dnn") == 0) for seed in (0, 1)]
    assert [rows.tolist() for rows in held_out] == [[2, 4, 11, 15], [2, 3, 4, 8]]


def test_folds_do_not_depend_on_the_split():
    """Of each split, with the same seed, each fold has its share."""
    split = stratification.assign(UNITS, CLASS_OF * 0, (0.25, 0.75), "split", 0)
    found = folds.assign(UNITS, CLASS_OF * 0, params(2), "ridge")
    for share, size in ((0, 50), (1, 100), (2, 50)):
        assert np.bincount(found[split == share]) == pytest.approx([size / 2] * 2, rel=0.4)


def test_no_fold_is_empty_and_one_group_alone_is_an_error():
    for units, labels in (([1, 2], [0, 1]), ([1, 2], [0, 0]), ([1, 1, 2], [0, 0, 1]), ([5, 6, 7], [0, 0, 1])):
        for count in (2, 3, 50):
            found = folds.assign(np.array(units, np.uint64), np.array(labels), params(count), "ridge")
            assert 2 <= found.max() + 1 == len(set(found.tolist())) <= min(count, len(set(units)))
    with pytest.raises(UserError, match=r"at least 2 groups\. Received: 3 images in one\. .*`split\.group`"):
        folds.assign(np.ones(3, np.uint64), np.arange(3), params(), "ridge")


@pytest.mark.parametrize("fractions", [{"rigde": 0.5}, {"ridge": 0.5, "": 0.1}])
def test_unknown_heads_are_rejected(fractions):
    with pytest.raises(ValueError, match=r"must name heads among .*ridge"):
        params(**fractions)
