"""Images whose labels stand in a table, `dataset.table`; the files are in `dataset.folder`, or in a zip or tar.

Columns: filename and label; where they are there split, group and weight. An empty cell of these three says nothing:
the image is split as all others, belongs to no group, and weighs 1.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.library.common import artifacts
from stages.library.common.console import UserError, listed
from stages.library.common.named_files import named
from stages.library.sources import image_trees, label_rows, label_tables
from stages.library.sources.archives import Member
from stages.library.sources.contract import Params, SourceImage, Stray
from stages.library.sources.label_rows import SPLITS, Labels

BATCH = 100_000
UNNAMED = "no row of the table names it"


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Checks that the table has labels of at least 2 classes for files that are there; they are read where they are."""
    labels, names = _checked(params)
    first = f", the first of row {labels.wrong[0].row}: {labels.wrong[0].reason}" if labels.wrong else ""
    found = np.unique(labels.labels)
    if len(found) < 2:
        example = f". The files are named as {names[0].as_py()!r}" if len(names) else ""
        raise UserError(
            f"`dataset.table` must label files of `dataset.folder` with at least 2 classes. Received: {params.table} "
            f"with {len(labels.files):,} usable rows of {len(found)} classes, {len(labels.wrong):,} wrong{first}"
            f"{example}"
        )
    artifacts.write_json(
        raw / "source.json", {"folder": Path(params.folder).name, "table": Path(params.table or "").name}
    )
    said = (
        f"{len(labels.files):,} rows label files in {len(found):,} classes, {len(labels.wrong):,} rows are wrong{first}"
    )
    lost = [labels.classes[label] for label in np.setdiff1d(np.arange(len(labels.classes)), found)]
    return f"{said}; no file is of: {listed(lost)}" if lost else said


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields wrong rows and other files as strays, and the images; `raw` is not used."""
    labels, names = _checked(params)
    yield from labels.wrong
    rows = np.full(len(names), -1)
    rows[labels.files] = np.arange(len(labels.files))
    files = _files(image_trees.located(params.folder), contents=True)
    for row, is_named, name, member in itertools.zip_longest(rows, labels.named, names, files):
        if name is None or member is None or name.as_py() != _utf8(member.name):
            place = member.name if member else name.as_py()
            raise UserError(f"`dataset.folder` changed while it was read, at {place!r}. Run it again")
        if row < 0 and is_named:
            continue  # its row is among those that are wrong
        if member.content is None:
            yield Stray(member.name, member.rejected, is_expected=row >= 0)
        elif row < 0:
            yield Stray(member.name, UNNAMED)
        else:
            split, group = labels.splits[row], labels.groups[row].as_py() if labels.groups is not None else None
            text, weight = labels.classes[labels.labels[row]], float(labels.weights[row])
            image = member.name, text, SPLITS[split] if split >= 0 else None, member.content
            yield SourceImage(*image, group=group, weight=weight, in_class_folder=False)


def _checked(params: Params) -> tuple[Labels, Any]:
    """Returns what the table says, and the names of all files."""
    root = image_trees.located(params.folder)
    table = label_tables.read(named(params.table or ""), params.columns)
    refused: dict[int, str] = {}
    chunks, batch = [], []
    for place, member in enumerate(_files(root, contents=False)):
        batch.append(_utf8(member.name))
        if member.rejected:
            refused[place] = member.rejected
        if len(batch) == BATCH:
            chunks.append(pa.array(batch, pa.string()))
            batch = []
    names = pa.chunked_array([*chunks, pa.array(batch, pa.string())])
    folder, beside = named(params.folder).absolute(), named(params.table or "").absolute().parent
    # Names may be relative to the table, too.
    roots = {_utf8(path) for path in (str(root), str(folder), os.path.relpath(folder, beside))}
    return label_rows.check(table, names, refused, sorted(roots)), names


def _files(root: Path, contents: bool) -> Iterator[Member]:
    return (member for member in image_trees.members(root, contents) if not member.is_folder)


def _utf8(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
