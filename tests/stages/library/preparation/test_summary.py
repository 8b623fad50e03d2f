"""What dataset.json says, of images counted by hand, and what is said of classes that are too small."""

import hashlib

import numpy as np
import pytest

from stages.library.common.console import UserError
from stages.library.preparation.normalisation import Values
from stages.library.preparation.splits import Split
from stages.library.preparation.summary import Summary
from stages.library.records.tfrecord import Record
from stages.library.sources.contract import Stray


def record(key, text, height=2, width=3):
    return Record(f"{key:064x}", b"", "png", height, width, 0, text, f"{key}.png")


@pytest.fixture
def summary():
    """Nine images: 1 and 4 stand in two splits, 3 in two classes; and two that are left out, one of them no image."""
    summary = Summary()
    summary.add(record(1, "dog", 5, 8), Values(7, 200, 3000, 120), "train", "rex", file="batch_1")
    summary.add(record(2, "cat", 4, 9), Values(3, 250, 1000, 108), "train", "tom", file="batch_1")
    summary.add(record(3, "cat"), Values(9, 100, 18, 18), "train", "tom", file="batch_2")
    summary.add(record(3, "dog"), Values(9, 100, 18, 18), "validation", file="batch_2")
    summary.add(record(1, "dog", 5, 8), Values(7, 200, 3000, 120), "test", "rex")
    for split in ("train", "test"):
        summary.add(record(4, "cat"), Values(9, 100, 18, 18), split)
    summary.add(record(5, "cat"), Values(9, 100, 18, 18), "train", "max")
    summary.add(record(6, "dog"), Values(9, 100, 18, 18), "test", "kim")
    summary.reject(Stray("emu/broken.jpg", "damaged: truncated", is_expected=True), "emu")
    summary.reject(Stray("notes.txt", "not an image"))
    return summary


def test_dataset_json_says_what_was_counted(summary):
    entries = [("train", 1, "dog"), ("train", 2, "cat"), ("train", 3, "cat"), ("validation", 3, "dog"),
               ("test", 1, "dog"), ("train", 4, "cat"), ("test", 4, "cat"), ("train", 5, "cat"),
               ("test", 6, "dog")]  # fmt: skip
    lines = sorted(f'["{split}", "{key:064x}", "{text}"]' for split, key, text in entries)
    units = np.array([1, 2, 2, 2, 1, 4, 4, 5, 6], np.uint64)  # the copy of 3 keeps its group together
    assert summary.content("pets", Split(summary.images.decided, units), 4) == {
        "name": "pets",
        "images": 9,
        "classes": ["cat", "dog", "emu"],
        "counts": {
            "train": {"cat": 4, "dog": 1, "emu": 0},
            "validation": {"cat": 0, "dog": 1, "emu": 0},
            "test": {"cat": 1, "dog": 2, "emu": 0},
        },
        "files": {"batch_1": {"cat": 1, "dog": 1, "emu": 0}, "batch_2": {"cat": 1, "dog": 1, "emu": 0}},
        "shape": {"height_px": [2, 5], "width_px": [3, 9]},
        "pixels": {"minimum": 3, "maximum": 250, "mean": 15.587719},  # 7108 / 456 = 15.58771929...
        "duplicates": {"images": 3, "across_official_split": 2, "across_validation": 1, "in_several_classes": 1},
        "groups": {"number": 4, "images_in_none": 3, "across_official_split": 2},
        "rejected": 2,
        "skipped": 4,
        "content_sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }


def test_too_many_unreadable_images_of_those_that_should_be_images_and_too_few_classes_are_errors(summary):
    message = (
        r"^1 of 10 images can't be read \(1 damaged\), more than `tfrecord\.max_rejected` = 0\.09 allows; "
        r"the first is 'emu/broken\.jpg': damaged: trunc"
    )
    with pytest.raises(UserError, match=message):
        summary.check(max_rejected=0.09)
    with pytest.raises(UserError, match=r"at least 2 classes\. Received: \[\]"):
        Summary().check(max_rejected=0.5)


def test_there_are_no_more_shards_than_images_but_some_of_few():
    summary = Summary()
    for text in "ab":
        summary.add(record(1, text), Values(3, 250, 1000, 108), "train")
    summary.check(max_rejected=0.5, shards=16)
    with pytest.raises(UserError, match=r"^`tfrecord\.shards` must be at most 16 for 2 images\. Received: 17$"):
        summary.check(max_rejected=0.5, shards=17)
    for _ in range(15):
        summary.add(record(1, "a"), Values(3, 250, 1000, 108), "train")
    summary.check(max_rejected=0.5, shards=17)


def test_what_was_left_out_is_counted_by_reason(summary):
    assert summary.left_out() == "2 left out (1 damaged; 1 not an image)"
    assert Summary().left_out() == "0 left out"
    for number in range(3):
        summary.reject(Stray(f"{number}.heic", "HEIC, which needs x (pip install: y)"))
        summary.reject(Stray(f"{number}.jpg", f"damaged: in byte {number}"))
        summary.reject(Stray(f"{number}", "a film"))
        summary.reject(Stray(f"{number}", f"other{number // 2}"))
    expected = (
        "14 left out (4 damaged; 3 HEIC, which needs x (pip install: y); 3 a film; 2 other0; 2 for other reasons)"
    )
    assert summary.left_out() == expected


def test_the_first_wrong_row_of_a_table_is_named_by_its_number():
    summary = Summary()
    for text in "ab":
        summary.add(record(1, text), Values(3, 250, 1000, 108), "train")
    for row in (30, 4):
        summary.reject(Stray(f"{row}.jpg", "no such file", row, is_expected=True))
    with pytest.raises(UserError, match=r"^2 of 4 images .* the first is '4\.jpg' in row 4: no such file\. Mend"):
        summary.check(max_rejected=0.4)


def test_classes_without_images_of_a_split_or_of_one_unit_are_named_with_what_follows():
    summary = Summary()
    for key, (text, split) in enumerate([*[("ant", name) for name in ("train", "train", "validation", "test")],
                                         *[("bee", "train")] * 3, ("cow", "test"), ("dog", "validation")]):  # fmt: skip
        summary.add(record(key, text), Values(9, 100, 18, 18), split)
    units = np.arange(9, dtype=np.uint64)
    units[4:7] = 4  # bee is one group
    assert list(summary.too_small(Split(summary.images.decided, units))) == [
        "no training image, so no network learns it: cow (1 image), dog (1 image)",
        "no validation image, so it has no part in what validation chooses: bee (3 images), cow (1 image)",
        "no test image, so its recall is not measured: bee (3 images), dog (1 image)",
        "one image or group to train on, so cross-validation never recognises it: bee (3 images), dog (1 image)",
    ]
    many = Summary()
    for key in range(36):
        many.add(record(key, f"{key % 13:02d}"), Values(9, 100, 18, 18), ("train", "validation")[key < 13])
    (line,) = many.too_small(Split(many.images.decided, np.arange(36, dtype=np.uint64)))
    assert line.endswith("measured: " + ", ".join(f"{label:02d} (3 images)" for label in range(10)) + " and 3 more")
