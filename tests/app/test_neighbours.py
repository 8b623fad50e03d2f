import contextlib
import itertools

import numpy as np
import pytest
import sharded

from app.neighbours import Neighbours
from stages.library.common.console import UserError
from stages.library.features.cache import ShardWriter
from stages.library.features.source import Source
from stages.library.preparation import normalisation
from stages.library.records import tfrecord
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import Record

SOURCE = Source("tiny", Preprocessing(8), False, "", "", ("cat", "dog"))
# Features of training images, by shard; the first one is of zeros.
FEATURES = [[(0, 0, 0), (1, 0, 0), (2, 2, 0)], [], [(0, 0, 3), (-1, 0, 0)]]


def an_image(number):
    return normalisation.normalise(np.full((2, 3, 3), number, np.uint8))


@pytest.fixture
def folders(tmp_path):
    """A training split of three shards, one of them empty, and its features; every third image is a dog."""
    features, shards = tmp_path / "features", tmp_path / "shards"
    features.mkdir()
    numbers, written = itertools.count(), []
    for shard, rows in enumerate(FEATURES):
        found = []
        for number in itertools.islice(numbers, len(rows)):
            image, label = an_image(number), number % 3 // 2
            found.append(Record(image.key, image.encoded, "png", 2, 3, label, SOURCE.classes[label], "image.png"))
        written.append(found)
        with contextlib.closing(ShardWriter(features / f"train-0000{shard}-of-00003.parquet", SOURCE, 3, 2)) as writer:
            if rows:
                keys, labels = [record.key for record in found], np.array([record.label for record in found])
                writer.write(keys, labels, np.array(rows, np.float32), np.zeros((len(rows), 2), np.float32))
    sharded.write(shards, {"train": written})
    return features, shards


def test_cosines_by_hand_and_the_nearest_first_with_their_images_and_classes(folders):
    neighbours = Neighbours.open(*folders)
    cosines = neighbours.similarities(np.array([5.0, 0, 0], np.float32))
    np.testing.assert_allclose(cosines, [0, 1, np.sqrt(0.5), 0, -1], atol=1e-6)
    assert not neighbours.similarities(np.zeros(3, np.float32)).any()
    found = neighbours.nearest(np.array([1.0, 1, 0.1], np.float32), 3)
    assert [near.name for near in found] == ["dog", "cat", "cat"]
    assert [near.encoded for near in found] == [an_image(2).encoded, an_image(1).encoded, an_image(3).encoded]
    length = np.sqrt(2.01)
    np.testing.assert_allclose([near.similarity for near in found], [2 / 2**0.5 / length, 1 / length, 0.1 / length])
    assert len(neighbours.nearest(np.ones(3, np.float32), 99)) == 5


def test_an_image_that_is_no_longer_there_is_left_out_and_missing_features_are_named(folders, tmp_path):
    features, shards = folders
    with pytest.raises(UserError, match="shards of 'train' are missing"):
        Neighbours.open(tmp_path, shards)
    neighbours = Neighbours.open(features, shards)
    path = shards / "train-00002-of-00003.tfrecord"
    others = [an_image(200), an_image(201)]
    tfrecord.write_shard(path, [Record(p.key, p.encoded, "png", 2, 3, 0, "cat", "new.png") for p in others])
    found = {near.encoded for near in neighbours.nearest(np.ones(3, np.float32), 5)}
    assert found == {an_image(number).encoded for number in range(3)}
