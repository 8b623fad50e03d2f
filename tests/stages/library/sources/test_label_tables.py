"""What people's tables are read from: CSV, JSON Lines and parquet, with their quotes, columns and encodings."""

import pandas as pd
import pytest

from stages.library.common.console import UserError
from stages.library.sources import label_rows
from tests import labels

labelled = pytest.fixture(labels.labelled)
NOT_UTF8 = pd.DataFrame({"filename": ["aaaa.jpg", "b.jpg"], "label": ["cat", "dog"]}).to_parquet(compression=None)
NOT_UTF8 = NOT_UTF8.replace(b"aaaa", b"a\xff\xfea")


@pytest.mark.parametrize("row", ['2.jpg,"cat,', '"2.jpg,cat,', '2.jpg,cat,"big', '2.jpg,cat,"big" one'])
@pytest.mark.parametrize("later", ["", '4.jpg,dog,"small'])
def test_a_quote_that_stays_open_swallows_no_rows(labelled, row, later):
    files = [f"{number}.jpg" for number in range(1, 6)]
    text = f"filename,label,note\n1.jpg,cat,\n{row}\n3.jpg,dog,\n{later}\n5.jpg,dog,\n"
    with pytest.raises(UserError, match=r"`dataset\.table` can't be read \(a quote .*, from line 3 on\)"):
        labelled(text, files=files)
    images, _ = labelled(text.replace(row, '2.jpg,cat,"a ""big"", long\none"').replace('"small', 'small"'), files=files)
    assert [name for name in files if name in images] == [name for name in files if later or name != "4.jpg"]


def test_a_column_that_only_later_lines_have_counts(labelled):
    lines = ["", '{"filename": "a/1.jpg", "label": 1}', " ", '{"filename": "a/2.png", "label": 2, "split": "val"}']
    for text in (
        "\n".join(lines),
        "\n".join(lines).replace("2,", "2.0,").replace(": 1", ': "1"').replace("2.0", '"2"'),
    ):
        images, _ = labelled(text, ".jsonl")
        assert [(each.text, each.split) for each in images.values()] == [("1", None), ("2", "validation")]


def test_text_and_numbers_in_one_column_of_json_are_text(labelled):
    lines = [
        '{"filename": 7, "label": 1, "weight": "2", "more": [1]}',
        '{"filename": "8.jpg", "label": "1", "weight": 0.5, "more": {"a": 1}}',
        '{"filename": "9", "label": 2.0, "group": 3}',
        '{"filename": 1e1, "label": 1.50, "group": "3"}',
        '{"filename": 11, "label": NaN, "group": null}',
        '{"filename": 12, "label": true}',
        '{"filename": "2024-05-01", "label": 12345678901234567890}',
    ]
    names = ["7.jpg", "8.jpg", "9.jpg", "10.jpg", "11.jpg", "12.jpg", "2024-05-01.jpg"]
    images, strays = labelled("\n".join(lines), ".jsonl", files=names)
    assert [(name, images[name].text, images[name].group, images[name].weight) for name in names if name in images] == [
        ("7.jpg", "1", None, 2.0),
        ("8.jpg", "1", None, 0.5),
        ("9.jpg", "2", "3", 1.0),
        ("10.jpg", "1.50", "3", 1.0),
        ("12.jpg", "true", None, 1.0),
        ("2024-05-01.jpg", "12345678901234567890", None, 1.0),
    ]
    assert strays == [(5, "11", label_rows.NO_LABEL)]


def test_a_line_that_is_no_json_is_named(labelled):
    first = '{"filename": "a/1.jpg", "label": 1}'
    for line, said in {
        "{": "line 3: Expecting property name",
        "[1]": r"it must have an object in each line\. Received in line 3: '\[1\]'",
        '{"filename": ["a"]}': r"line 3: a cell must be text or a number\. Received: \['a'\]",
        '{"more": ' + 10_000 * "[": "line 3: .*recursion",
    }.items():
        with pytest.raises(UserError, match=rf"`dataset\.table` can't be read \({said}"):
            labelled(f"{first}\n\n{line}\n", ".jsonl")


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


def test_a_column_that_the_first_lines_of_json_leave_out_is_read(labelled):
    for label, other in (('"x"', '"y"'), ("1", "2")):
        first, second = f'{{"filename": "a/1.jpg", "label": {label}}}', f'{{"filename": "a/2.png", "label": {other}'
        images, _ = labelled(f'{first}\n{second}, "split": "test", "group": "p1"}}\n', ".jsonl")
        assert {name: (each.split, each.group) for name, each in images.items()} == {
            "a/1.jpg": (None, None),
            "a/2.png": ("test", "p1"),
        }
    with pytest.raises(UserError, match=r"`dataset\.columns\.label` must be a column of .*\['filename'\]"):
        labelled('{"filename": "a/1.jpg"}\n', ".jsonl")


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
        (b"\xff\xfef\0i\0", ".csv", {}, r"`dataset\.table` can't be read .* Save it as UTF-8 \(Excel: CSV UTF-8\)$"),
        ("[1]\n", ".jsonl", {}, r"must have an object in each line\. Received in line 1: '\[1\]'"),
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
