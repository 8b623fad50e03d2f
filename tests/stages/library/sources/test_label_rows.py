"""Tables of labels as people write them; each wrong row by its number and reason, counted by hand."""

import json

import pandas as pd
import pytest

from stages.library.common.console import UserError
from stages.library.sources import label_rows
from stages.library.sources.contract import SourceImage, Stray
from stages.plugins.datasets import table
from tests.layouts import params

NOT_UTF8 = pd.DataFrame({"filename": ["aaaa.jpg", "b.jpg"], "label": ["cat", "dog"]}).to_parquet(compression=None)
NOT_UTF8 = NOT_UTF8.replace(b"aaaa", b"a\xff\xfea")
FILES = ["a/1.jpg", "a/2.png", "b/3.JPG", "b/4.jpg", "b/4.png", "5.jpg", "notes.txt"]


@pytest.fixture
def labelled(tmp_path):
    """Writes a table, makes the files, and returns the images by name and the strays as (row, name, reason)."""

    def make(text, suffix=".csv", files=FILES, folder="images", **columns):
        for name in files:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"text of " + name.encode())
        path = tmp_path / f"labels{suffix}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        chosen = params("table", folder=tmp_path / folder, table=path, columns=columns)
        found = list(table.read(chosen, tmp_path))
        images = {each.name: each for each in found if isinstance(each, SourceImage)}
        assert all(image.content == b"text of " + name.encode() for name, image in images.items())
        return images, [(each.row, each.name, each.reason) for each in found if isinstance(each, Stray)]

    return make


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
        ('a/1.jpg,"a\tb",,', label_rows.NO_CLASS),
        ("a/1.jpg,cat,holdout,", label_rows.NO_SPLIT),
        *((f"a/1.jpg,cat,,{weight}", label_rows.NO_WEIGHT) for weight in ("0", "-1", "nan", "inf", "x", "1e999")),
        ("a/1.jpg", "another number of cells than the header: 1 in place of 4"),
        ("b/3.JPG,cat,,", label_rows.CONFLICT),
        ("b/3.JPG,dog,,", label_rows.CONFLICT),
        ("b/3,cat,,", label_rows.CONFLICT),
        ("5.jpg,cat,train,", label_rows.CONFLICT),
        ("5.jpg,cat,test,", label_rows.CONFLICT),
    ]
    again = [("a/1.jpg,cat,,2", ""), ("a/2.png,dog,,+1e2", ""), ("./a/1,cat,,3", label_rows.AGAIN)]
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
    assert [stray for stray in strays if stray[0]] == expected
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


def test_what_all_files_are_below_need_not_be_said(labelled):
    files = ["train/x/7.jpg", "train/x/8.jpg", "labels.txt"]
    for name in ("7", "7.jpg", "x/7", "train/x/7.jpg"):
        images, _ = labelled(f"filename,label\n{name},cat\n", files=files)
        assert list(images) == (["train/x/7.jpg"] if name != "x/7" else []), name


def test_columns_have_other_names_and_numbers_are_text(labelled):
    images, strays = labelled("id,breed\n007,1\n08,2\n", files=["007.jpg", "08.png"], filename="id", label="breed")
    assert ({name: each.text for name, each in images.items()}, strays) == ({"007.jpg": "1", "08.png": "2"}, [])
    for suffix in (".jsonl", ".parquet"):
        frame = pd.DataFrame({"filename": [7, 8, 9], "label": [1.0, 2.0, None]})
        text = frame.to_parquet() if suffix == ".parquet" else frame.to_json(orient="records", lines=True)
        images, strays = labelled(text, suffix, files=["7.jpg", "8.jpg", "9.jpg"])
        said = {"7.jpg": "1", "8.jpg": "2"}
        assert {name: each.text for name, each in images.items() if name in said} == said
        assert (3, "9", label_rows.NO_LABEL) in strays


def test_infinite_and_huge_weights_are_wrong_rows_in_parquet_too(labelled):
    frame = pd.DataFrame({"filename": FILES[:3], "label": ["a", "b", "c"], "weight": [float("inf"), 1e300, 2.0]})
    images, strays = labelled(frame.to_parquet(), ".parquet")
    assert {name: each.weight for name, each in images.items()} == {"b/3.JPG": 2.0}
    assert [stray[0] for stray in strays if stray[2] == label_rows.NO_WEIGHT] == [1, 2]


@pytest.mark.parametrize(
    ("text", "suffix", "columns", "message"),
    [
        (
            "id,label\n1,2\n",
            ".csv",
            {},
            r"`dataset\.columns\.filename` must be a column of .*labels\.csv.*Received: 'filename'",
        ),
        ("filename,label\n1,2\n", ".csv", {"group": "patient"}, r"`dataset\.columns\.group` .* Received: 'patient'"),
        ("filename,label\n", ".csv", {}, r"`dataset\.table` must have rows"),
        ("", ".csv", {}, r"must be a column of"),
        ("filename,label,label\n1,2,3\n", ".csv", {}, r"'label' stands there twice"),
        (b"filename,label\n\xff,1\n", ".csv", {}, r"`dataset\.table` can't be read \(.*UTF8"),
        (b"\xff\xfef\0i\0", ".csv", {}, r"`dataset\.table` can't be read"),
        ("[1]\n", ".jsonl", {}, r"must have an object in each line"),
        ("{", ".jsonl", {}, r"`dataset\.table` can't be read"),
        ('{"filename": {"a": 1}, "label": 1}\n', ".jsonl", {}, r"`dataset\.table` can't be read"),
        ("x", ".parquet", {}, r"`dataset\.table` can't be read"),
        (NOT_UTF8, ".parquet", {}, r"`dataset\.table` can't be read \(.*UTF8"),
        ("x", ".xlsx", {}, r"must end in \.csv"),
        (
            "filename,label\n" + "".join(f"{n},{n}\n" for n in range(100_001)),
            ".csv",
            {},
            r"at most 100,000 different values",
        ),
    ],
)
def test_what_is_no_table_is_an_error_with_the_key(labelled, text, suffix, columns, message):
    with pytest.raises(UserError, match=message) as caught:
        labelled(text, suffix, **columns)
    assert "\n" not in str(caught.value)


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
