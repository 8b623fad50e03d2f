"""Tables of labels as people have them, read as text: CSV (with any of three delimiters), TSV, JSON Lines, parquet."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from stages.library.common.console import UserError
from stages.library.common.guarded_files import shortened
from stages.library.sources.contract import COLUMNS, Stray

HEADER_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20  # and the longest row
BLOCK_ROWS = 100_000
REQUIRED = {"filename", "label"}
NOT_UTF8 = re.compile(r"invalid utf|codec can't decode", re.IGNORECASE)  # in what PyArrow and Python say of it


class Table(NamedTuple):
    """The columns of a table that has them, by what they are for, as `pyarrow.ChunkedArray` of text or null."""

    columns: dict[str, Any]
    rows: np.ndarray  # int64 (n,): which row of the table each one is, from 1
    wrong: list[Stray]  # rows with more or fewer cells than the header


def read(path: Path, names: Mapping[Any, str]) -> Table:
    """Reads the columns of a table; `names` says what they are called where that is not what they are for.

    UserError: it can't be read, a column is missing that is needed or was given another name, or there are no rows.
    """
    try:
        if not path.is_file():
            raise UserError(f"`dataset.table` must be a regular file. Received: {path}")
        used: dict[str, str] = {column: names.get(column, column) for column in COLUMNS}
        header, load = _opened(path, set(used.values()))
        needed = [column for column in COLUMNS if column in REQUIRED or used[column] != column]
        for column in needed:
            if used[column] not in header:
                raise UserError(
                    f"`dataset.columns.{column}` must be a column of {path}, which has {shortened(header)}. "
                    f"Received: {used[column]!r}"
                )
        used = {column: name for column, name in used.items() if name in header}
        if twice := [name for name in used.values() if header.count(name) > 1]:
            raise UserError(f"{path}: the column {twice[0]!r} stands there twice")
        table, wrong = load(list(dict.fromkeys(used.values())))
        columns = {column: _text(table[name]) for column, name in used.items()}
    # ValueError: not UTF-8, not JSON, a NUL in the path.
    except (OSError, ValueError, pa.ArrowException, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = ". Save it as UTF-8 (Excel: CSV UTF-8)" if NOT_UTF8.search(reason) else ""
        raise UserError(
            f"`dataset.table` can't be read ({' '.join(reason.split())[:300]}). Received: {path}{remedy}"
        ) from error
    if not table.num_rows:
        raise UserError(f"`dataset.table` must have rows. Received: {path}")
    skipped = np.array([stray.row for stray in wrong], np.int64)
    rows = np.arange(1, table.num_rows + 1)
    rows += np.searchsorted(skipped - np.arange(len(skipped)), rows, side="right")
    return Table(columns, rows, wrong)


Load = Callable[[Sequence[str]], tuple[Any, list[Stray]]]


def _opened(path: Path, names: Set[str]) -> tuple[list[str], Load]:
    """Returns the names of a table's columns, and what reads some of them and lists rows that are broken.

    Rows of JSON may leave out what is empty, so there a column is looked for in all rows: one of `names`.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return pa.parquet.read_schema(path).names, lambda used: (pa.parquet.read_table(path, columns=used), [])
    if suffix not in (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson"):
        raise UserError(f"`dataset.table` must end in .csv, .tsv, .jsonl or .parquet. Received: {path}")
    with path.open("rb") as file:
        start = next((line for line in iter(lambda: file.readline(HEADER_BYTES), b"") if line.strip()), b"")
    text = start.decode("utf-8-sig")
    if suffix in (".jsonl", ".ndjson"):
        first = _decoded(text, 1)
        table = _read_json(path, names)
        there = [name for name in table.column_names if name in first or table[name].null_count < len(table)]
        return list(dict.fromkeys([*first, *there])), lambda used: (table, [])
    delimiter = "\t" if suffix in (".tsv", ".tab") else max(",;\t", key=text.count)
    header = next(csv.reader([text], delimiter=delimiter), [])
    return header, lambda used: _read_csv(path, used, delimiter)


def _check_quotes(path: Path, delimiter: str) -> None:
    """Raises csv.Error where a quote stays open: PyArrow takes all rows up to the next one, or the end, for a cell."""
    with path.open("rb") as file:
        if not any(b'"' in block for block in iter(lambda: file.read(BLOCK_BYTES), b"")):
            return
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader, line = csv.reader(text, delimiter=delimiter, strict=True), 0
        try:
            for _ in reader:
                line = reader.line_num
        except csv.Error as error:
            raise csv.Error(
                f"a quote that is not closed, or not at the end of a cell, from line {line + 1} on"
            ) from error


def _read_csv(path: Path, used: Sequence[str], delimiter: str) -> tuple[Any, list[Stray]]:
    _check_quotes(path, delimiter)
    wrong: list[Stray] = []

    def skip(row: Any) -> str:
        reason = f"another number of cells than the header: {row.actual_columns} in place of {row.expected_columns}"
        wrong.append(Stray(row.text.partition(delimiter)[0][:200], reason, row.number - 1, is_expected=True))
        return "skip"

    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(used, pa.string()), include_columns=used, null_values=[""], strings_can_be_null=True
    )
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    # One thread, or rows that are broken have no number.
    reading = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    table = pa.csv.read_csv(path, read_options=reading, parse_options=parsing, convert_options=options)
    return table, wrong


def _read_json(path: Path, names: Set[str]) -> Any:
    schema = pa.schema([(name, pa.string()) for name in sorted(names)])
    reading = pa.json.ReadOptions(block_size=BLOCK_BYTES)
    try:
        parsing = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        return pa.json.read_json(path, read_options=reading, parse_options=parsing)
    except pa.ArrowInvalid:  # numbers, beside text perhaps, for which PyArrow has no type
        batches = (pa.record_batch(list(zip(*rows, strict=True)), schema) for rows in _json_rows(path, schema.names))
        return pa.Table.from_batches(batches, schema)


def _json_rows(path: Path, columns: Sequence[str]) -> Iterator[list[list[str | None]]]:
    """Yields the texts in some columns, at most BLOCK_ROWS rows at a time."""
    rows: list[list[str | None]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                found = _decoded(line, number)
                rows.append([_cell(found.get(name), number) for name in columns])
            if len(rows) == BLOCK_ROWS:
                yield rows
                rows = []
    if rows:
        yield rows


def _decoded(line: str, number: int) -> dict[str, Any]:
    """Returns a line of JSON; ValueError where it is no object."""
    try:
        found = DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"it must have an object in each line. Received in line {number}: {shortened(line.strip())}")
    return found


def _cell(value: object, number: int) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    raise ValueError(f"line {number}: a cell must be text or a number. Received: {shortened(value)}")


def _number(text: str) -> str:
    """Returns a number as text; a whole one without a point, which programs add where some are missing."""
    value = float(text)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else text


DECODER = json.JSONDecoder(parse_float=_number, parse_int=str, parse_constant=lambda name: None)  # NaN


def _text(column: Any) -> Any:
    """Returns a column as text; whole numbers without a point, which programs add where some are missing (NaN)."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        whole = pc.and_(pc.equal(column, pc.round(column)), pc.less(pc.abs(column), 2**53))
        column = column.cast(pa.int64()) if pc.all(whole, skip_nulls=True).as_py() else column
    texts = column.cast(pa.string())
    texts.validate(full=True)  # of parquet, nobody has looked at what should be UTF-8
    return texts
