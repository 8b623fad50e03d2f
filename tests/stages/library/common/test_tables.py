"""CSV that people open: what was written is read again, and no cell is a formula, a control code or a tag."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.common import console, tables
from stages.library.common.console import UserError

# Any text, with what the rules are about in it more often than chance would have it; names of files have surrogates.
ANY = st.text(st.characters(codec=None) | st.sampled_from("'=+-@\t\r\n\\u03cU<\"\0,"))
NAMES = ["cat", "猫", "a, b", 'a "b"', "c:\\users", "it's", "-0.5", "+1e-3", "x=y", "a|b", "&amp;", "\u0643\u200d"]
ODD = {name: f"'{name}" for name in ("=1+1", "+x", "-x", "@SUM(A1)", "'=x", "''", "\uff1dx")}
ODD |= {"\tx": r"\u0009x", "\rx": r"\u000dx", "two\nlines": r"two\u000alines", "nul\0": r"nul\u0000", "\x7f": r"\u007f"}
ODD |= {"\x1b[31mred": r"\u001b[31mred", "\x9b2J": r"\u009b2J", "\u202egnp": r"\u202egnp", "\U000e0001": r"\U000e0001"}
ODD |= {"</script>": r"\u003c/script>", "<!--": r"\u003c!--", "\udcff.jpg": r"\udcff.jpg"}
ODD |= {r"\u003c": r"\u005cu003c", r"\ud": r"\ud", "\\<": r"\\u003c"}


def written(path, rows, header=("name", "reason")):
    tables.write_csv(path, header, rows)
    return path


@given(rows=st.lists(st.tuples(ANY, ANY)))
def test_what_was_written_is_read_again(rows, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    assert tables.read_csv(written(path, rows)) == [{"name": name, "reason": reason} for name, reason in rows]
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    assert (len(lines), lines[-1]) == (len(rows) + 2, "")  # a row is a line
    assert "<" not in text
    assert all(console.in_a_line(line) == line for line in lines)
    for cell in (cell for row in csv.reader(io.StringIO(text)) for cell in row):
        assert not cell.startswith(tuple(tables.FORMULA)) or float(cell) is not None


@given(name=ANY)
def test_different_names_stay_different(name):
    for other in (name + "<", "'" + name, name.replace("<", r"\u003c") + "\\", "\\" + name):
        assert (tables.line([name]) == tables.line([other])) == (name == other)


@pytest.mark.parametrize(("name", "cell"), ODD.items())
def test_what_a_cell_looks_like(name, cell):
    assert next(csv.reader([tables.line([name, 1])])) == [cell, "1"]


def test_other_readers_see_ordinary_names_and_numbers_as_they_are(tmp_path):
    path = written(tmp_path / "t.csv", [(name, index - 3.5) for index, name in enumerate(NAMES)], ("name", "number"))
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == NAMES
    read = pd.read_csv(path, dtype={"name": str})
    assert read["name"].to_list() == NAMES
    assert read["number"].to_list() == [index - 3.5 for index in range(len(NAMES))]
    assert tables.line([None, 0.5, -1, True]) == ",0.5,-1,True"


def test_what_another_program_has_read_is_restored():
    rows = [{"class": cell, "count": 3} for cell in ODD.values()]
    assert tables.restored(rows) == [{"class": name, "count": 3} for name in ODD]
    with pytest.raises(TypeError):
        tables.restored(["text"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", r"line 1: the columns actual, predicted, count must be there\. Received: \[\]"),
        ("actual,count\na,1\n", r"line 1: the columns predicted must be there"),
        ("actual,predicted,count,count\n", r"line 1: columns must have names, each another one"),
        ("actual,predicted,count\na,b,1\na,b\n", r"line 3: a row must have the 3 cells of the header\. Received: 2"),
        ("actual,predicted,count\na,b,1,2\n", r"line 2: a row must have the 3 cells of the header\. Received: 4"),
        ("actual,predicted,count\na,b,x\n", r"line 2: `count` must be a whole number of at most 15 digits.*'x'"),
        ("actual,predicted,count\na,b,-1\n", r"line 2: `count` must be"),
        ("actual,predicted,count\na,b," + "9" * 5000 + "\n", r"line 2: `count` must be"),
        ('actual,predicted,count\n"a"x,b,1\n', r"line 2: must be CSV"),
        ("actual,predicted,count\n" + "a" * 200_000 + ",b,1\n", r"line 2: must be CSV: field larger"),
    ],
)
def test_what_is_no_such_table_is_one_line_with_file_line_and_rule(content, rule, tmp_path):
    path = tmp_path / "confusion.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=rf"^.*/confusion\.csv, {rule}") as caught:
        tables.read_csv(path, tables.CONFUSION)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "1_0", "", " 1", "0x1", "٣"])
def test_numbers_are_finite(number, tmp_path):
    path = written(tmp_path / "curve.csv", [(1, "training", number, 0.5)], tables.CURVE)
    with pytest.raises(UserError, match=r"line 2: `accuracy` must be a finite number"):
        tables.read_csv(path, tables.CURVE)
    assert tables.read_csv(written(path, [(-3, "training", "1e-06", ".5")], tables.CURVE), tables.CURVE)
