"""Tables of labels as people write them; each wrong row by its number and reason, counted by hand."""

import io
import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from stages.library.common.console import UserError
from stages.library.sources import label_rows
from stages.plugins.datasets import table
from tests import labels
from tests.layouts import params

labelled = pytest.fixture(labels.labelled)


def test_all_columns_in_all_kinds_of_tables_give_the_same_images(labelled):
    rows = [
        ("a/1.jpg", "cat", "Training", "p1", "1"),
        ("a/2.png", "dog", "dev", "p1", "0.5"),
        ("b/3.JPG", "cat", "", "", ""),
    ]
    names = ["filename", "label", "split", "group", "weight"]
    lines = [names, *rows]
    frame = pd.DataFrame(rows, columns=names)
    frame["weight"] = pd.to_numeric(frame["weight"])
    frame.insert(0, "more", [[1], [2], [3]])
    kinds = {
        ".csv": "\n".join(map(",".join, lines)),
        ".CSV": "\ufeff" + "\r\n".join(map(";".join, lines)),
        ".tsv": "\n".join(map("\t".join, lines)),
        ".jsonl": frame.to_json(orient="records", lines=True),
        ".parquet": frame.to_parquet(),
    }
    for suffix, text in kinds.items():
        images, strays = labelled(text, suffix)
        said = [(name, each.text, each.split, each.group, each.weight) for name, each in images.items()]
        assert sorted(said) == [
            ("a/1.jpg", "cat", "train", "p1", 1.0),
            ("a/2.png", "dog", "validation", "p1", 0.5),
            ("b/3.JPG", "cat", None, None, 1.0),
        ], suffix
        unnamed = [(None, name, table.UNNAMED) for name in ("5.jpg", "b/4.jpg", "b/4.png")]
        assert sorted(strays, key=str) == sorted([*unnamed, (None, "notes.txt", "not an image")], key=str)


def test_each_wrong_row_has_its_number_and_reason_in_order(labelled):
    wrong = [
        (",cat,,", label_rows.NO_NAME),
        ("6.jpg,cat,,", label_rows.NO_FILE),
        ("../images/5.jpg,cat,,", label_rows.NO_FILE),
        ("notes.txt,cat,,", "not an image"),
        ("b/4,cat,,", label_rows.SEVERAL),
        ("a/1.jpg, ,,", label_rows.NO_LABEL),
        ('a/1.jpg,"a\tb",,', f"{label_rows.NO_CLASS}: 'a\\tb'"),
        ("a/1.jpg,cat,holdout,", f"{label_rows.NO_SPLIT}: 'holdout'"),
        *(
            (f"a/1.jpg,cat,,{weight}", f"{label_rows.NO_WEIGHT}: {weight!r}")
            for weight in ("0", "-1", "nan", "inf", "x", "1e999")
        ),
        ("a/1.jpg", "another number of cells than the header: 1 in place of 4"),
        ("b/3.JPG,cat,,", label_rows.CONFLICT),
        ("b/3.JPG,dog,,", label_rows.CONFLICT),
        ("b/3,cat,,", label_rows.CONFLICT),
        ("5.jpg,cat,train,", label_rows.CONFLICT),
        ("5.jpg,cat,test,", label_rows.CONFLICT),
        ("b/4.jpg,cat,,2", label_rows.CONFLICT),
        ("b/4.jpg,cat,,3", label_rows.CONFLICT),
    ]
    again = [("a/1.jpg,cat,,2", ""), ("a/2.png,dog,,+1e2", ""), ("./a/1,cat,,2", label_rows.AGAIN)]
    lines = [line for line, _ in [*wrong, *again]]
    images, strays = labelled("\n".join(["filename,label,split,weight", *lines]))
    assert {name: (each.text, each.weight) for name, each in images.items()} == {
        "a/1.jpg": ("cat", 2.0),
        "a/2.png": ("dog", 100.0),
    }
    expected = [
        (number, line.partition(",")[0], reason)
        for number, (line, reason) in enumerate([*wrong, *again], start=1)
        if reason
    ]
    # Their files stand there once, with the row; "b/4" is neither of two.
    unnamed = [(None, name, table.UNNAMED) for name in ("b/4.png",)]
    assert sorted(strays, key=str) == sorted([*expected, *unnamed], key=str)
    # A second row that says the same is no fault, and does not count.
    found = labelled("filename,label\na/1.jpg,cat\na/1.jpg,cat\na/2.png,dog\n9.jpg,dog\n")
    assert [stray for stray in found[1] if stray[0]] == [
        (2, "a/1.jpg", label_rows.AGAIN),
        (4, "9.jpg", label_rows.NO_FILE),
    ]


def test_names_are_found_with_or_without_suffix_and_folder_below_a_root_or_with_the_other_slash(labelled, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "images")
    rows = [r"a\1.jpg", " a/2 ", f"{tmp_path}/images/b/3.JPG", f"{tmp_path}/link/5", "/etc/passwd"]
    images, strays = labelled("\n".join(["filename,label", *(f"{name},x" for name in rows)]), folder="link")
    assert sorted(images) == ["5.jpg", "a/1.jpg", "a/2.png", "b/3.JPG"]
    assert [stray for stray in strays if stray[0]] == [(5, "/etc/passwd", label_rows.NO_FILE)]


def test_a_folder_whose_own_name_is_no_utf8_is_read(labelled, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / "images").symlink_to(os.fsdecode(b"caf\xe9"))
    assert list(labelled("filename,label\n5,x\n")[0]) == ["5.jpg"]


def test_what_all_files_are_below_need_not_be_said(labelled):
    files = ["train/x/7.jpg", "train/x/8.jpg", "labels.txt"]
    for name in ("7", "7.jpg", "x/7", "train/x/7.jpg"):
        images, _ = labelled(f"filename,label\n{name},cat\n", files=files)
        assert list(images) == (["train/x/7.jpg"] if name != "x/7" else []), name


def test_names_are_found_in_another_form_of_unicode_or_case_and_from_the_folder_of_the_table(labelled):
    files = ["cafe\u0301.JPG", "images/2.jpg", "2.jpg", "3.png", "C.png", "c.PNG"]
    rows = ["caf\u00e9.jpg", "images/2.jpg", "./images/3.png", "CAF\u00c9", "c.png", "images/images/2"]
    images, strays = labelled("\n".join(["filename,label", *(f"{name},x" for name in rows)]), files=files)
    assert list(images) == ["3.png", "cafe\u0301.JPG", "images/2.jpg"]
    assert [stray for stray in strays if stray[0]] == [
        (4, "CAF\u00c9", label_rows.AGAIN),
        (5, "c.png", label_rows.SEVERAL),
        (6, "images/images/2", label_rows.AGAIN),
    ]


def test_groups_are_one_whatever_is_around_them_and_rows_that_give_a_file_several_are_wrong(labelled):
    rows = [
        "a/1.jpg,x,caf\u00e9",
        "a/2.png,y, cafe\u0301 ",
        "b/3.JPG,x, ",
        "b/4.jpg,x,p1",
        "b/4.jpg,x,p2",
        "5.jpg,x,",
        "5,x,",
    ]
    images, strays = labelled("\n".join(["filename,label,group", *rows]))
    assert {name: each.group for name, each in images.items()} == {
        "a/1.jpg": "caf\u00e9",
        "a/2.png": "caf\u00e9",
        "b/3.JPG": None,
        "5.jpg": None,
    }
    wrong = [(4, label_rows.CONFLICT), (5, label_rows.CONFLICT), (7, label_rows.AGAIN)]
    assert [(row, reason) for row, _, reason in strays if row] == wrong


def test_accents_are_the_same_in_either_form_and_nan_is_no_label(labelled):
    images, _ = labelled("filename,label\nb/e\u0301,x\nb/o\u0302.png,y\n", files=["b/\u00e9.jpg", "b/o\u0302.png"])
    assert {each.text for each in images.values()} == {"x", "y"}
    frame = pa.table({"filename": labels.FILES[:3], "label": [1.0, float("nan"), 2.0]})
    pa.parquet.write_table(frame, buffer := io.BytesIO())
    images, strays = labelled(buffer.getvalue(), ".parquet")
    assert {name: each.text for name, each in images.items()} == {"a/1.jpg": "1", "b/3.JPG": "2"}
    assert (2, "a/2.png", label_rows.NO_LABEL) in strays


def test_a_folder_that_lost_its_last_file_while_it_was_read_is_an_error(labelled, monkeypatch):
    files = table._files
    monkeypatch.setattr(table, "_files", lambda root, contents: list(files(root, contents))[: -1 if contents else None])
    with pytest.raises(UserError, match=r"`dataset\.folder` changed while it was read, at 'b/4\.png'"):
        labelled("filename,label\nb/4.png,x\n")


def test_infinite_and_huge_weights_are_wrong_rows_in_parquet_too(labelled):
    frame = pd.DataFrame({"filename": labels.FILES[:3], "label": ["a", "b", "c"], "weight": [float("inf"), 1e300, 2.0]})
    images, strays = labelled(frame.to_parquet(), ".parquet")
    assert {name: each.weight for name, each in images.items()} == {"b/3.JPG": 2.0}
    reasons = [reason for _, _, reason in strays if reason.startswith(label_rows.NO_WEIGHT)]
    assert reasons == [f"{label_rows.NO_WEIGHT}: '{shown}'" for shown in ("inf", "1e+300")]


def test_fetch_counts_rows_and_needs_two_classes(tmp_path, labelled):
    labelled("filename,label\na/1.jpg,cat\n9.jpg,cat\na/2.png,cat\n")
    chosen = params("table", folder=tmp_path / "images", table=tmp_path / "labels.csv")
    message = r"with 2 usable rows of 1 classes, 1 wrong, the first of row 2: no such file .* named as '5\.jpg'"
    with pytest.raises(UserError, match=message):
        table.fetch(chosen, tmp_path, tmp_path)
    (tmp_path / "labels.csv").write_text("filename,label\na/1.jpg,cat\n9.jpg,cat\na/2.png,dog\n")
    said = table.fetch(chosen, tmp_path, tmp_path)
    assert said.startswith("2 rows label files in 2 classes, 1 rows are wrong, the first of row 2: no such file")
    assert json.loads((tmp_path / "source.json").read_text()) == {"folder": "images", "table": "labels.csv"}
    (tmp_path / "labels.csv").write_text("filename,label\na/1.jpg,cat\n9.jpg,emu\na/2.png,dog\n")
    assert table.fetch(chosen, tmp_path, tmp_path).endswith("no such file in `dataset.folder`; no file is of: emu")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"with 0 usable rows of 0 classes, 3 wrong, the first of row 1: no such file"):
        table.fetch(params("table", folder=tmp_path / "nothing", table=tmp_path / "labels.csv"), tmp_path, tmp_path)
