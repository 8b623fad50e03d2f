import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from stages.library.common.console import UserError
from stages.library.features import unlike
from stages.library.features.unlike import Params, Reference

PARAMS = Params(neighbours=1, threshold=0.01, max_images=100, seed=0)


def circle(degrees):
    """Features of two numbers at these angles, of any length."""
    turned = np.radians(np.asarray(degrees, np.float64))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1) * np.linspace(1, 9, len(turned))[:, None]


def test_shares_by_hand():
    known = Reference.fit([circle([0, 10, 30, 60, 100])], None, PARAMS)
    chords = 2 * np.sin(np.radians([10, 10, 20, 30, 40]) / 2)  # each to its nearest, without itself
    np.testing.assert_allclose(known.distances, chords, atol=2e-3)
    shares = known.farther_out([circle([0, 115, 125, 137, 145])])
    np.testing.assert_allclose(shares, [1, 0.6, 0.4, 0.2, 0])
    second = Reference.fit([circle([0, 10, 30, 60, 100])], None, replace(PARAMS, neighbours=2))
    np.testing.assert_allclose(second.distances, 2 * np.sin(np.radians([20, 30, 30, 40, 70]) / 2), atol=2e-3)


def test_held_out_images_are_what_is_known_of_a_network_that_drew_its_training_images_together():
    known = Reference.fit([circle([0, 1, 2, 3])], [circle([10, 20, 40])], PARAMS)
    np.testing.assert_allclose(known.distances, 2 * np.sin(np.radians([7, 17, 37]) / 2), atol=2e-3)
    np.testing.assert_allclose(known.farther_out([circle([5, 15, 30, 50])]), [1, 2 / 3, 1 / 3, 0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.booleans())
def test_of_images_like_the_known_ones_about_the_threshold_is_called_unlike(seed, neighbours, held_out):
    rng = np.random.default_rng(seed)
    training, validation, tested = (rng.normal(size=(count, 3)) for count in (200, 200, 2000))
    params = replace(PARAMS, neighbours=neighbours, threshold=0.1, max_images=200)
    known = Reference.fit([training], [validation] if held_out else None, params)
    # The share of 200 at random lies 5 deviations of 0.1 * 0.9 / 200 around the threshold, and more for tested ones.
    assert 0 < (known.farther_out([tested]) < 0.1).mean() < 0.26


def test_blocks_count_the_same_and_another_width_is_an_error():
    wide, narrow = circle([0, 90, 180]) * 1000, circle([0, 120, 240])
    known = Reference.fit([wide, narrow], None, PARAMS)
    assert known.features.shape == (3, 4)
    assert known.farther_out([wide[:1], narrow[:1]]) == [1]
    assert known.farther_out([wide[:1], narrow[1:2]]) == [1]  # as far as from the others
    with pytest.raises(UserError, match=r"of 4 features an image, and the model gives 2\. Run: dvc repro"):
        known.farther_out([wide])


def test_the_last_features_of_each_network_count_and_earlier_ones_say_nothing(tmp_path):
    first, second = circle([0, 40, 90]), circle([0, 50, 200])
    known = Reference.fit([first, second], None, PARAMS)
    known.save(tmp_path)
    early = np.random.default_rng(0).normal(size=(3, 5)) * 100
    blocks = [np.hstack([early, circle([20, 70, 300])]), circle([30, 90, 10])]
    for reference in (known, unlike.load(tmp_path)):
        assert reference is not None
        assert reference.widths == (2, 2)
        expected = known.distances_of([blocks[0][:, 5:], blocks[1]])
        assert reference.distances_of(blocks).tolist() == expected.tolist()


def test_few_training_images():
    alone = Reference.fit([circle([0])], None, PARAMS)
    assert alone.farther_out([circle([0, 180])]).tolist() == [1, 1]  # nothing is known of how far others lie
    two = Reference.fit([circle([0, 90])], None, replace(PARAMS, neighbours=50))
    assert two.neighbours == 1
    assert two.farther_out([circle([30, 225])]).tolist() == [1, 0]


def test_it_is_kept_as_it_is_with_the_same_bytes(tmp_path):
    assert unlike.load(tmp_path) is None
    known = Reference.fit([circle(range(0, 90, 3))], None, PARAMS)
    known.save(tmp_path)
    content = (tmp_path / unlike.FILE).read_bytes()
    read = unlike.load(tmp_path)
    assert read is not None
    assert (read.neighbours, read.threshold) == (1, 0.01)
    np.testing.assert_array_equal(read.features, known.features)
    np.testing.assert_array_equal(read.distances, known.distances)
    read.save(tmp_path)
    assert (tmp_path / unlike.FILE).read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros((3, 2), np.float32)},
        {"features": np.full((3, 2), np.nan, np.float16)},
        {"distances": np.array([2, 1], np.float32)},
        {"distances": np.array([1, np.inf], np.float32)},
        {"neighbours": np.array([4])},
        {"neighbours": np.array([0])},
        {"threshold": np.array([np.nan])},
        {"threshold": np.array([[0.5]])},
        {"threshold": None},
        {"widths": np.array([1])},
        {"widths": np.array([3, -1])},
        {"widths": None},
    ],
)
def test_a_damaged_file_is_named(tmp_path, change):
    Reference.fit([circle([0, 10, 30])], None, PARAMS).save(tmp_path)
    path = tmp_path / unlike.FILE
    tensors = load_file(path) | change
    path.write_bytes(save({name: tensor for name, tensor in tensors.items() if tensor is not None}))
    with pytest.raises(UserError, match=r"unlike.safetensors can't be read \(.*\)\. Run: dvc repro"):
        unlike.load(tmp_path)
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="can't be read"):
        unlike.load(tmp_path)


def test_images_are_chosen_by_their_content():
    keys = np.array([hashlib.sha256(bytes([number])).hexdigest() for number in range(250)], object)
    rows = unlike.sample(keys, PARAMS)
    assert len(set(rows.tolist())) == 100
    assert (np.diff(rows) > 0).all()
    turned = unlike.sample(keys[::-1], PARAMS)
    assert set(keys[rows]) == set(keys[::-1][turned])
    assert set(rows) != set(unlike.sample(keys, replace(PARAMS, seed=1)))
    assert unlike.sample(keys[:100], PARAMS).tolist() == list(range(100))
