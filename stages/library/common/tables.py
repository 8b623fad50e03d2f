r"""The tables of this project as CSV: the only writer, and the reader that undoes what it escapes.

Class and file names are other people's text, and tables go to terminals, spreadsheets and, in `dvc plots`, into the
scripts of a web page. So no cell holds
  a control character, nor "<": they are written as \u001b or \U000e0001, and a backslash that begins such a word as
    \u005c. A row is one line whatever it holds;
  a formula: an apostrophe goes before = + - @ where it begins a cell that is no number. Spreadsheets take the rest for
    text. An apostrophe before one of these, or before another one, gets one more.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.library.common import guarded_files
from stages.library.common.console import UserError, steers

MAX_BYTES = 256 << 20  # confusions of a thousand classes have some 40 MB
# The columns of tables that several modules write or read, and what their cells hold.
CONFUSION: dict[str, type] = {"actual": str, "predicted": str, "count": int}
PER_CLASS: dict[str, type] = {"class": str, "precision": float, "recall": float, "f1": float, "count": int}
COVERAGE: dict[str, type] = {"coverage": float, "accuracy": float, "low": float, "high": float}
RELIABILITY: dict[str, type] = {"confidence": float, "accuracy": float, "examples": int}
CURVE: dict[str, type] = {"step": float, "series": str, "accuracy": float, "loss": float}

FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # and their full-width forms, which some spreadsheets take for the same
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
COUNT = re.compile(r"[0-9]{1,15}")
WORD = r"(?:u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})"
AMBIGUOUS, ESCAPE = re.compile(rf"\\(?={WORD})"), re.compile(rf"\\{WORD}")
RULES: dict[type, tuple[str, Callable[[str], bool]]] = {
    str: ("text", lambda cell: True),
    int: ("a whole number of at most 15 digits", lambda cell: bool(COUNT.fullmatch(cell))),
    float: ("a finite number", lambda cell: bool(NUMBER.fullmatch(cell)) and math.isfinite(float(cell))),
}


def as_csv(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Returns a table: a line of column names and one for each row; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(escaped, header))
    writer.writerows(map(escaped, row) for row in rows)
    return text.getvalue()


def line(row: Iterable[object]) -> str:
    """Returns one line of a table, without the newline at its end."""
    return as_csv(row, ()).removesuffix("\n")


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a table, in UTF-8."""
    path.write_text(as_csv(header, rows), encoding="utf-8", newline="")


def read_csv(path: Path, columns: Mapping[str, type] | None = None) -> list[dict[str, str]]:
    """Returns the rows of a table by column, as text; UserError where `columns` are missing or cells break RULES."""
    columns = columns or {}
    text = guarded_files.read_text(path, max_bytes=MAX_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = []
    try:
        header = list(map(_restored, next(reader, [])))
        if missing := [name for name in columns if name not in header]:
            raise UserError(f"{path}, line 1: the columns {', '.join(missing)} must be there. Received: {header}")
        if len(set(header)) < max(len(header), 1):
            raise UserError(f"{path}, line 1: columns must have names, each another one. Received: {header}")
        for row in filter(None, reader):
            if len(row) != len(header):
                problem = f"a row must have the {len(header)} cells of the header. Received: {len(row)}"
                raise UserError(f"{path}, line {reader.line_num}: {problem}")
            found.append(dict(zip(header, map(_restored, row), strict=True)))
            for name, kind in columns.items():
                rule, holds = RULES[kind]
                if not holds(cell := found[-1][name]):
                    raise UserError(f"{path}, line {reader.line_num}: `{name}` must be {rule}. Received: {cell[:80]!r}")
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: must be CSV: {error}") from error
    return found


def restored(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows as `read_csv` does where another program, such as DVC, has read the file; TypeError for others."""
    if not all(isinstance(row, Mapping) for row in rows):
        raise TypeError("the rows of a table must be mappings")
    return [{key: _restored(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows]


def escaped(value: object) -> str:
    """Returns a cell, of which `restored` gives the text again; other values get different cells."""
    text = "" if value is None else str(value)
    if not text.isprintable() or "<" in text or "\\" in text:
        text = AMBIGUOUS.sub(r"\\u005c", text)
        text = "".join(_word(ord(char)) if char == "<" or steers(char) else char for char in text)
    begins = text[1:] if text.startswith("'") else text
    formula = begins.startswith(tuple(FORMULA)) and (begins is not text or not NUMBER.fullmatch(text))
    return f"'{text}" if formula or text.startswith("''") else text


def _word(code: int) -> str:
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _restored(cell: str) -> str:
    text = cell[1:] if cell.startswith(tuple(f"'{sign}" for sign in f"{FORMULA}'")) else cell
    return ESCAPE.sub(lambda word: chr(int(word[0][2:], 16)), text) if "\\" in text else text
