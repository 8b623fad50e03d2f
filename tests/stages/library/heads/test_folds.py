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


@given(st.integers(2, 50), st.floats(0.01, 0.99), st.integers(0, 2**40))
def test_folds_and_a_held_out_fraction_are_shares_of_hashes_of_seed_and_key(count, fraction, seed):
    chosen = params(count, seed, dnn=fraction)
    by_fold = [int(number(seed, "fold", key) * count) for key in KEYS]
    once = [0 if number(seed, "held out", key) < fraction else NEVER for key in KEYS]
    for head, expected in (("ridge", by_fold), ("dnn", once)):
        for keys in ([], KEYS):
            found = folds.assign(keys, chosen, head)
            assert found.tolist() == expected[: len(keys)]
            assert found.dtype == np.int64
    border = number(seed, "held out", KEYS[0])  # an image on it is trained on
    assert folds.assign(KEYS[:1], params(count, seed, dnn=border), "dnn").tolist() == [NEVER]


@pytest.mark.parametrize("fractions", [{"rigde": 0.5}, {"ridge": 0.5, "": 0.1}])
def test_unknown_heads_are_rejected(fractions):
    with pytest.raises(ValueError, match=r"must name heads among .*ridge"):
        params(**fractions)
