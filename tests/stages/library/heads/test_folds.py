"""Folds against the formula that they are defined by, computed here from the hash itself."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.heads import folds
from stages.library.heads.folds import NEVER, Params

KEYS = [f"{number:064x}" for number in range(200)]


def number(seed, purpose, key):
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}:{key}".encode()).digest()[:7]) / 2**56


def params(count=5, seed=0, **held_out):
    return Params(folds=count, holdout_fraction=held_out, seed=seed, temperature_scaling=True)


@given(st.integers(2, 50), st.integers(0, 2**40))
def test_a_fold_is_a_share_of_the_hash_of_seed_and_key(count, seed):
    found = folds.assign(KEYS, params(count, seed), "ridge")
    assert found.dtype == np.int64
    assert found.tolist() == [int(number(seed, "fold", key) * count) for key in KEYS]


@given(st.floats(0.01, 0.99), st.integers(0, 2**40))
def test_a_held_out_fraction_is_drawn_from_a_hash_of_its_own(fraction, seed):
    found = folds.assign(KEYS, params(seed=seed, dnn=fraction), "dnn")
    assert found.dtype == np.int64
    assert found.tolist() == [0 if number(seed, "held out", key) < fraction else NEVER for key in KEYS]


def test_other_heads_have_the_folds_that_they_would_have_without_it():
    without, beside = (folds.assign(KEYS, choice, "ridge") for choice in (params(), params(dnn=0.1)))
    np.testing.assert_array_equal(without, beside)


def test_an_image_on_the_border_of_the_fraction_is_trained_on(monkeypatch):
    monkeypatch.setattr(folds, "uniform", lambda key, purpose, seed: 0.25)
    assert folds.assign(KEYS[:2], params(dnn=0.25), "dnn").tolist() == [NEVER, NEVER]


def test_no_keys_have_no_folds():
    for head in ("ridge", "dnn"):
        found = folds.assign([], params(dnn=0.5), head)
        assert found.shape == (0,)
        assert found.dtype == np.int64


@pytest.mark.parametrize("fractions", [{"rigde": 0.5}, {"ridge": 0.5, "": 0.1}])
def test_unknown_heads_are_rejected(fractions):
    with pytest.raises(ValueError, match=r"must name heads among .*ridge"):
        Params(folds=5, holdout_fraction=fractions, seed=0, temperature_scaling=True)
