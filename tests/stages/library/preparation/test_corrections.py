"""The file of corrections: which rows hold, which one counts, and what is said of those that can't be used."""

import re

import numpy as np
import pytest
from conftest import ROOT

from stages.library.common.console import UserError
from stages.library.preparation import corrections
from stages.library.preparation.corrections import Correction, Corrections
from stages.library.preparation.image_list import ImageList

CAT, DOG, EMU = (f"{number:064x}" for number in range(3))
WHEN = "2026-11-30T02:59:00Z"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "corrections.csv"


def row(key=CAT, action="relabel", label="dog", when=WHEN, note=""):
    return Correction(key, action, label, when, note)


def test_the_checkout_has_the_header_and_whatever_rows_its_owner_made():
    corrections.read(ROOT / "data" / "corrections.csv")


def test_rows_come_back_as_written_whatever_a_name_holds(path):
    rows = [row(label="=1+1", note='a\nb, \u202e"c"'), row(DOG, "drop", ""), row(EMU, "keep", "")]
    corrections.write(path, rows)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4
    assert corrections.read(path) == rows


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row("xyz"), r"`sha256` must be 64 hex digits\. Received: 'xyz'"),
        (row(CAT.upper().replace("0", "A")), r"`sha256` must be 64 hex digits"),
        (row(action="delete"), r"`action` must be among keep, relabel, drop\. Received: 'delete'"),
        (row(label=""), r"`label` must be the new class\. Received: ''"),
        (row(action="drop"), r"`label` must be empty where `action` is drop\. Received: 'dog'"),
        (row(when="yesterday"), r"`when` must be a time in UTC, as 2026-01-31T23:59:59Z\. Received: 'yesterday'"),
        (row(when="2026-02-30T00:00:00Z"), "`when` must be a time in UTC"),
        (row(when="2026-2-3T0:00:00Z"), "`when` must be a time in UTC"),
        (row(note="x" * 1001), r"`note` must have at most 1000 characters\. Received: 1001"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(path, bad, said):
    corrections.write(path, [row(DOG), bad])
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}, row 2: {said}.* Mend or remove the row$"):
        corrections.read(path)


def test_a_file_that_is_no_such_table_is_an_error_of_one_line(path):
    for text, said in (
        ("", "the columns sha256, action, label, when, note must be there"),
        ("sha256,action,label,when,note\na,b\n", "line 2: a row must have the 5 cells"),
        ("<<<<<<< ours\n", "the mark of a merge conflict"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=said) as caught:
            corrections.read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="can't be read: No such file"):
        corrections.read(path.with_name("other.csv"))


def test_the_last_row_of_an_image_counts(path):
    rows = [row(CAT), row(DOG, "drop", ""), row(CAT, "keep", ""), row(EMU, label="cat")]
    corrections.write(path, rows)
    found = Corrections.load(path)
    assert found.replaced == 1
    assert found.kept([CAT, DOG, EMU, DOG]).tolist() == [True, False, True, False]
    assert found.relabelled([CAT, DOG, EMU], {"cat", "dog"}) == {EMU: "cat"}
    said = "1 image relabelled, 0 dropped, 1 kept as they are, 1 of other images, 1 row replaced by later ones"
    assert found.said([CAT, EMU, EMU]) == said
    corrections.write(path, [])
    assert Corrections.load(path).said([CAT]) == ""


def test_a_label_that_no_longer_exists_matters_only_where_its_image_does(path):
    corrections.write(path, [row(DOG, "keep", ""), row(CAT, label="wolf")])
    found = Corrections.load(path)
    assert found.relabelled([DOG, EMU], {"cat", "dog"}) == {}
    message = r"row 2: `label` must be a class of the data set, cat, dog\. Received: 'wolf'\. Mend or remove it$"
    with pytest.raises(UserError, match=message):
        found.relabelled([CAT], {"cat", "dog"})


def test_images_are_corrected_and_the_others_stay_as_they_were():
    images = ImageList()
    for number, text in enumerate(("wolf", "cat", "dog", "cat")):
        group = "pack" if number == 2 else None
        images.add(f"{number:064x}", f"{number}.png", text, "test" if number == 3 else None, group, 1.0 + number)
    found = images.corrected({f"{0:064x}": "dog"}, np.array([True, False, True, True]))
    assert found.keys == [f"{number:064x}" for number in (0, 2, 3)]
    assert found.classes == {"cat", "dog"}
    assert found.labels(["cat", "dog"]).tolist() == [1, 1, 0]
    assert (found.weights.tolist(), found.decided.tolist()) == ([1.0, 3.0, 4.0], [-1, -1, 2])
    assert found.in_group.tolist() == [False, True, False]
    assert (images.classes, len(images)) == ({"cat", "dog", "wolf"}, 4)
