"""Tables of labels as people have them, read as text: CSV (with any of three delimiters), TSV, JSON Lines, parquet."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
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
REQUIRED = {"filename", "label"}


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
        header, load = _opened(path)
        used: dict[str, str] = {column: names.get(column, column) for column in COLUMNS}
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
        raise UserError(
            f"`dataset.table` can't be read ({' '.join(reason.split())[:300]}). Received: {path}"
        ) from error
    if not table.num_rows:
        raise UserError(f"`dataset.table` must have rows. Received: {path}")
    skipped = np.array([stray.row for stray in wrong], np.int64)
    rows = np.arange(1, table.num_rows + 1)
    rows += np.searchsorted(skipped - np.arange(len(skipped)), rows, side="right")
    return Table(columns, rows, wrong)


Load = Callable[[Sequence[str]], tuple[Any, list[Stray]]]


def _opened(path: Path) -> tuple[list[str], Load]:
    """Returns the names of a table's columns, and what reads some of them and lists rows that are broken."""
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return pa.parquet.read_schema(path).names, lambda used: (pa.parquet.read_table(path, columns=used), [])
    if suffix not in (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson"):
        raise UserError(f"`dataset.table` must end in .csv, .tsv, .jsonl or .parquet. Received: {path}")
    with path.open("rb") as file:
        start = file.readline(HEADER_BYTES).decode("utf-8-sig")
    if suffix in (".jsonl", ".ndjson"):
        first = json.loads(start)
        if not isinstance(first, dict):
            raise UserError(f"{path} must have an object in each line. Received: {shortened(first)}")
        return list(first), lambda used: (_read_json(path, used), [])
    delimiter = "\t" if suffix in (".tsv", ".tab") else max(",;\t", key=start.count)
    header = next(csv.reader([start], delimiter=delimiter), [])
    return header, lambda used: _read_csv(path, used, delimiter)


def _read_csv(path: Path, used: Sequence[str], delimiter: str) -> tuple[Any, list[Stray]]:
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


def _read_json(path: Path, used: Sequence[str]) -> Any:
    schema = pa.schema([(name, pa.string()) for name in used])
    reading = pa.json.ReadOptions(block_size=BLOCK_BYTES)
    try:
        parsing = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        return pa.json.read_json(path, read_options=reading, parse_options=parsing)
    except pa.ArrowInvalid:  # numbers among them
        return pa.json.read_json(path, read_options=reading)


def _text(column: Any) -> Any:
    """Returns a column as text; whole numbers without a point, as programs add one where numbers are missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        whole = pc.and_(pc.equal(column, pc.round(column)), pc.less(pc.abs(column), 2**53))
        column = column.cast(pa.int64()) if pc.all(whole, skip_nulls=True).as_py() else column
    texts = column.cast(pa.string())
    texts.validate(full=True)  # of parquet, nobody has looked at what should be UTF-8
    return texts
