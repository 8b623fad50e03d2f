"""Batches whose slots follow from the keys."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.extraction import batch_slots


def keys(*names):
    return np.array([hashlib.sha256(str(name).encode()).hexdigest() for name in names], "S64")


def test_the_slot_is_the_keys_first_eight_digits_modulo_the_batch_size():
    given_keys = np.array([f"{number:08x}".ljust(64, "f") for number in (9, 1, 4, 6, 17, 8)], "S64")
    expected = [[2, 0, 3, -1], [5, 1, -1, -1], [-1, 4, -1, -1]]
    np.testing.assert_array_equal(batch_slots.schedule(given_keys, 4), expected)
    np.testing.assert_array_equal(batch_slots.schedule(given_keys, 1), np.arange(6)[:, None])


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=80), st.integers(1, 9), st.data())
def test_every_image_once_and_in_its_slot_whatever_the_others_are(names, batch_size, data):
    names = sorted(names)
    batches = batch_slots.schedule(keys(*names), batch_size)
    assert sorted(batches[batches >= 0]) == list(range(len(names)))
    some = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    place = {names[row]: slot for (_, slot), row in np.ndenumerate(batches) if row >= 0}
    for (_, slot), row in np.ndenumerate(batch_slots.schedule(keys(*some), batch_size)):
        assert row < 0 or place[some[row]] == slot


@given(st.lists(st.integers(0, 500), unique=True), st.integers(1, 9))
def test_packed_batches_hold_each_row_once_in_order_and_are_full_but_the_last(rows, batch_size):
    batches = batch_slots.schedule(keys(*rows), batch_size) if rows else np.empty((0, batch_size), np.int64)
    given_rows = np.where(batches >= 0, np.array([*rows, -1])[batches], -1)
    packed = batch_slots.packed(given_rows)
    assert packed.shape == (-(-len(rows) // batch_size), batch_size)
    assert packed.ravel().tolist() == sorted(rows) + [-1] * (packed.size - len(rows))


@pytest.mark.parametrize(
    ("shift", "alike"), [(0.0, True), (np.float32(1e-6), False), (np.float32(np.nan), False)], ids=str
)
def test_slots_are_alike_where_each_gives_the_same_bits(shift, alike):
    def forward(images):
        means = np.mean(images, axis=(1, 2))
        return np.ones((len(means), 2), np.float32), np.where(
            np.arange(len(means))[:, None] == 2, means * (1 + shift), means
        )

    assert batch_slots.are_alike(forward, 3, 8) == alike
    assert batch_slots.are_alike(forward, 2, 8)  # without the third slot


@pytest.mark.parametrize(("count", "waste"), [(1_000, 0.12), (10_000, 0.06), (100_000, 0.015)])
def test_few_slots_stay_empty(count, waste):
    batches = batch_slots.schedule(keys(*range(count)), 8)
    assert count <= batches.size < count * (1 + waste)
