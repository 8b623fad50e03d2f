import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.library.common import hashing
from stages.library.common.console import UserError
from stages.library.common.params import ParamsError, parse
from stages.library.preparation import splits
from stages.library.preparation.image_list import ImageList
from stages.library.preparation.splits import TEST, TRAIN, VALIDATION
from stages.library.records.dataset_file import SPLITS
from stages.library.sources.contract import Place, SourceImage

ONE = Place("x", 0, 1)


def params(validation=0.2, test=0.3, seed=0, method="hash", group="none"):
    return splits.Params(
        method=method, group=group, near_duplicates="ignore", validation=validation, test=test, seed=seed
    )


def image(name="x", text="cat", split=None, place=None, group=None):
    return SourceImage(name, text, split, b"", place, group)


def draw(images, chosen, **more):
    """The side of each image, (key, class, official split, group)."""
    columns = ImageList()
    for row, (key, text, split, group) in enumerate(images):
        official = splits.decided(image(split=split), chosen)
        columns.add(f"{key:064x}", f"{row}.png", text, official, group, 1.0)
    return splits.draw(columns, columns.labels(sorted(columns.classes)), chosen, **more).sides


def test_uniform_is_the_first_seven_bytes_of_a_hash():
    assert hashing.uniform("abc", "split", 3) == 0x1F8A2E3718F786 / 2**56


def test_a_draw_is_what_it_was_in_earlier_versions_and_each_seed_has_its_own():
    """Or published figures would change: 20 images of one class, by two seeds."""
    images = [(number, "a", None, None) for number in range(20)]
    drawn = ["".join("tvx"[side] for side in draw(images, params(seed=seed))) for seed in (0, 1)]
    assert drawn == ["xxtxttttvxxtxvvtvttt", "xtxtvxxtvttttvtxxvtt"]


@settings(max_examples=20)
@given(st.floats(0.05, 0.45), st.floats(0.05, 0.45), st.integers(0, 1000))
def test_any_fractions_hold_in_each_class(validation, test, seed):
    images = [(number, "ab"[number % 7 == 0], None, None) for number in range(280)]
    sides = draw(images, params(validation, test, seed))
    for text, count in (("a", 240), ("b", 40)):
        own = sides[[found == text for _, found, _, _ in images]]
        for side, fraction in ((VALIDATION, validation), (TEST, test), (TRAIN, 1 - validation - test)):
            assert abs((own == side).sum() - count * fraction) <= (1 if side == TRAIN else 0.5) + 1e-9


@pytest.mark.parametrize("validation", [0.5, 0.6])
def test_fractions_that_leave_nothing_to_train_on_are_an_error(validation):
    content = {
        "method": "hash",
        "group": "none",
        "near_duplicates": "ignore",
        "validation": validation,
        "test": 0.5,
        "seed": 0,
    }
    with pytest.raises(ParamsError, match=r"`split`: `validation` \+ `test` must be < 1"):
        parse("split", content, splits.Params)


def test_copies_and_groups_stay_on_one_side_and_pairs_join_them():
    images = [(number // 2, "ab"[number % 2], None, None) for number in range(80)]  # each twice, in both classes
    sides = draw(images, params())
    assert (sides[::2] == sides[1::2]).all()
    grouped = [(number, "ab"[number % 2], None, f"{number // 8}") for number in range(80)]
    sides = draw(grouped, params()).reshape(10, 8)
    assert (sides == sides[:, :1]).all()
    joined = [(number, "a", None, None) for number in range(40)]
    sides = draw(joined, params(), pairs=np.array([[0, 10], [10, 20], [20, 30]]))
    assert len(set(sides[[0, 10, 20, 30]])) == 1
    columns = ImageList()
    for row, group in enumerate(("rex", "rex", None, None, *"abcdef")):
        columns.add(f"{3 if row == 3 else row:064x}", f"{row}.png", "a", None, group, 1.0)
    units = splits.draw(columns, np.zeros(10, np.int64), params()).units
    assert units.dtype == np.uint64
    assert [units[0] == unit for unit in units] == [True, True] + [False] * 8
    assert len(set(units.tolist())) == 9


@pytest.mark.parametrize(
    ("official", "expected"),
    [
        ("test", {TRAIN: 8, VALIDATION: 2, TEST: 10}),  # validation is taken from train
        ("validation", {TRAIN: 7, VALIDATION: 10, TEST: 3}),
        (None, {TRAIN: 10, VALIDATION: 4, TEST: 6}),
    ],
)
def test_an_official_split_stays_and_what_is_missing_is_taken_from_train(official, expected):
    split = "train" if official else None
    images: list[tuple[int, str, str | None, str | None]]
    images = [(number, "a", split, None) for number in range(10)]
    images += [(100 + number, "a", official, "one group") for number in range(9)] + [(0, "a", official, None)]
    if official is None:
        images = [(number, "a", None, None) for number in range(20)]
    sides = draw(images, params())
    assert {side: int((sides == side).sum()) for side in expected} == expected
    if official:
        assert set(sides[10:]) == {SPLITS.index(official)}, "a copy on the other side stays where it is"


def test_all_official_splits_stay():
    images = [(number, "a", ("train", "validation", "test")[number % 3], None) for number in range(9)]
    assert draw(images, params()).tolist() == [TRAIN, VALIDATION, TEST] * 3


def test_an_empty_split_is_an_error_that_says_what_to_do():
    message = (
        "no image fell into: validation, test. Received: 4 images in 2 classes, of which each gives its share, in "
        "whole images or groups. Add some, or raise `split.validation` or `split.test`"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        draw([(number, "ab"[number % 2], None, None) for number in range(4)], params(0.2, 0.2))


@given(st.integers(1, 500), st.floats(0.001, 0.99))
@example(10_000, 0.43)  # 1 - 0.43 and 100 * 0.29 are not exact in binary
@example(10_000, 0.29)
@example(10_000, 0.00004)  # a fraction of less than half an image is none
def test_the_tail_of_each_file_validates(count, validation):
    tail = params(validation, 0.001, method="tail")
    places = [Place("x", index, count) for index in range(count)]
    split = [str(splits.decided(image(split="train", place=place), tail)) for place in places]
    assert abs(split.count("validation") - count * validation) <= 0.5
    assert split == sorted(split)
    assert set(split) <= {"train", "validation"}
    assert splits.decided(image(split="test", place=Place("test", count - 1, count)), tail) == "test"
    assert splits.decided(image(split="train", place=Place("x", count - 1, count)), params()) is None


@pytest.mark.parametrize(("official", "place"), [(None, None), ("train", None), ("test", None), (None, ONE)])
def test_a_tail_needs_files_with_an_order_and_an_official_test_split(official, place):
    message = r"^`split.method` must be hash for data sets without an official test split in files .* Received: tail$"
    with pytest.raises(UserError, match=message):
        splits.decided(image(split=official, place=place), params(method="tail"))


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        ("none", "cat/p1/3.png", None),
        ("folder", "cat/3.png", None),
        ("folder", "cat/p1/3.png", "p1"),
        ("folder", "train/cat/p1/left/3.png", "p1/left"),
        ("folder", "cat/cat/3.png", "cat"),
        ("folder", "3.png", None),
        ("folder", "scans/p1/3.png", "scans/p1"),  # the class stands in a table
        (r"p(\d+)", "cat/p12/3.png", "12"),
        (r"/(?P<who>[^_/]+)_", "cat/anna_3.png", "anna"),
        (r"x(\d*)", "cat/x.png", None),  # an empty name is none
        (r"x|(\d)", "cat/x1.png", None),
        (r"p(\d+)", "cat/q12.png", None),
    ],
)
def test_a_group_is_found_in_the_name_and_one_of_the_data_set_wins(rule, name, expected):
    assert splits.group_of(image(name), rule) == expected
    assert splits.group_of(image(name, group="own"), rule) == "own"


def test_a_class_folder_is_found_in_whatever_form_its_accents_are_stored():
    assert splits.group_of(image("caf\u0065\u0301/p1/3.png", text="caf\u00e9"), "folder") == "p1"
    assert splits.group_of(image("cafe\u0301_3.png"), "(.*)_") == "caf\u00e9"


def test_a_folder_of_a_split_in_a_class_folder_is_no_group():
    for name, group in {"cat/train/3.png": None, "cat/train/p1/3.png": "p1", "train/cat/p1/3.png": "p1"}.items():
        assert splits.group_of(SourceImage(name, "cat", "train", b""), "folder") == group


def test_a_folder_that_is_called_as_a_label_of_a_table_is_a_group():
    for patient in "01":
        scan = SourceImage(f"scans/{patient}/3.png", "1", None, b"", in_class_folder=False)
        assert splits.group_of(scan, "folder") == f"scans/{patient}"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("(", "missing ), unterminated"),
        (r"\d+", r"with one group, as patient_(\d+)"),
        (r"a_(\d)|b_(\d)", r"other brackets are (?:...)"),
        ("(a){9999999999}", "too large"),
    ],
)
def test_an_expression_that_finds_no_group_is_an_error(rule, problem):
    content = {"method": "hash", "group": rule, "validation": 0.2, "test": 0.2, "seed": 0}
    with pytest.raises(ParamsError, match=rf"`split\.group`.*{re.escape(problem)}.*Received: "):
        parse("split", content, splits.Params)
    with pytest.raises(UserError, match=r"`split\.group` must find a group in .* as in '0\.png'\. Received: q\(\.\)"):
        draw([(number, "ab"[number % 2], None, None) for number in range(40)], params(group="q(.)"))
