"""Rows of a table of labels against the files of a folder: which file each is of, and what is wrong with it.

All rows at once, by PyArrow and NumPy, for tables have millions: benchmarks/table.py measures it.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.library.common.console import UserError
from stages.library.common.guarded_files import shortened
from stages.library.sources.class_folders import SPLIT_NAMES, class_name, split_named
from stages.library.sources.contract import Stray
from stages.library.sources.label_tables import Table

SPLITS = tuple(dict.fromkeys(SPLIT_NAMES.values()))
MOST_CLASSES = 100_000  # more are another column than that of the labels
NUMBER = r"^[+]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2})?$"
SUFFIX = r"\.[^./]+$"
EMPTY, UNUSABLE = -1, -2  # in place of the number of a class or split
NO_NAME, NO_FILE, SEVERAL, NO_LABEL, NO_CLASS, NO_SPLIT, NO_WEIGHT, CONFLICT, AGAIN = REASONS = (
    "no filename",
    "no such file in `dataset.folder`",
    "several files have this name, but for the suffix or case",
    "empty label",
    "a label with control characters",
    "unknown split",
    "the weight is no finite number > 0",
    "another row gives this file another label, split, group or weight",
    "another row says the same of this file",
)
SHOWN = {NO_CLASS: "label", NO_SPLIT: "split", NO_WEIGHT: "weight"}  # reason -> the column whose value it is about


@dataclass(frozen=True)
class Labels:
    """What a table says; the arrays have an element for each row that can be used, in the table's order."""

    files: np.ndarray  # int64 (n,): the place of its file among the names
    classes: list[str]  # sorted
    labels: np.ndarray  # int32 (n,): place in `classes`
    splits: np.ndarray  # int32 (n,): place in `SPLITS`, or EMPTY
    groups: Any  # pyarrow.ChunkedArray (n,) of text or null; None without that column
    weights: np.ndarray  # float64 (n,)
    named: np.ndarray  # bool (names,): whether a row is of this file, be it right or wrong
    wrong: list[Stray]  # the other rows


def check(table: Table, names: Any, refused: Mapping[int, str], roots: Sequence[str]) -> Labels:
    """Matches rows with files by `names` (pyarrow.ChunkedArray of text), which absolute ones have below `roots`.

    `refused` says why a file can't be used, by its place among the names. UserError: the labels have too many values.
    """
    columns, count = table.columns, len(table.rows)
    reasons = np.zeros(count, np.int8)  # 1 + place in REASONS
    used = np.ones(len(names), bool)
    used[list(refused)] = False

    def mark(mask: np.ndarray, reason: str) -> None:
        reasons[mask & (reasons == 0)] = 1 + REASONS.index(reason)

    filename = columns["filename"]
    mark(_is_empty(filename), NO_NAME)
    files, several = _places(filename, names, used, roots)
    mark(several, SEVERAL)
    mark(files < 0, NO_FILE)
    classes, labels = _classes(columns["label"])
    mark(labels == EMPTY, NO_LABEL)
    mark(labels == UNUSABLE, NO_CLASS)
    splits, weights = np.full(count, EMPTY, np.int32), np.ones(count)
    if "split" in columns:
        values, codes = _encoded(columns["split"])
        numbers = [SPLITS.index(split) if (split := split_named(text)) else UNUSABLE for text in values]
        numbers = [number if text.strip() else EMPTY for text, number in zip(values, numbers, strict=True)]
        splits = np.array([*numbers, EMPTY], np.int32)[codes]
        mark(splits == UNUSABLE, NO_SPLIT)
    if "weight" in columns:
        weights = _numbers(columns["weight"])
        mark(~(np.isfinite(weights) & (weights > 0)), NO_WEIGHT)
    groups = _group(columns["group"]) if "group" in columns else None
    unusable = (reasons == 0) & np.isin(files, list(refused))
    _mark_repeated(np.flatnonzero((reasons == 0) & ~unusable), files, (labels, splits, weights), groups, reasons)
    wrong = [*table.wrong, *_strays(table, reasons, files, unusable, refused)]
    right = np.flatnonzero((reasons == 0) & ~unusable)
    named = np.zeros(len(names), bool)
    named[files[(files >= 0) & ~several]] = True
    return Labels(
        files[right], classes, labels[right], splits[right],
        groups.take(pa.array(right)) if groups is not None else None,
        weights[right], named, sorted(wrong, key=lambda stray: stray.row or 0),
    )  # fmt: skip


def _strays(
    table: Table, reasons: np.ndarray, files: np.ndarray, unusable: np.ndarray, refused: Mapping[int, str]
) -> Iterator[Stray]:
    wrong = np.flatnonzero((reasons > 0) | unusable)
    texts = table.columns["filename"].take(pa.array(wrong)).to_pylist()
    for place, text in zip(wrong.tolist(), texts, strict=True):
        reason = REASONS[reasons[place] - 1] if reasons[place] else refused[int(files[place])]
        if reason in SHOWN:
            reason += f": {shortened(table.columns[SHOWN[reason]][place].as_py())}"
        yield Stray(text or "", reason, int(table.rows[place]), is_expected=reason != AGAIN)


def _places(filename: Any, names: Any, used: np.ndarray, roots: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the place of each row's file among the names, -1 for none, and which rows may mean several files.

    As it stands; else below a root, with the other slash, with accents in Unicode's other form, below the folder that
    all images are in, without a suffix, in another case.
    """
    files, several = _index(filename, names), np.zeros(len(filename), bool)
    rest = np.flatnonzero((files < 0) & ~_is_empty(filename))
    if not len(rest):
        return files, several
    wanted = _below(pc.replace_substring(pc.utf8_trim_whitespace(filename.take(pa.array(rest))), "\\", "/"), roots)
    if not used.all():
        names = pc.if_else(pa.array(used), names, None)
    for form in (lambda texts: pc.utf8_normalize(texts, "NFC"), pc.utf8_lower):
        wanted, names = form(wanted), form(names)
        outer = _outer(names)
        for cut in {0: None, len(outer): None}:
            inner = pc.utf8_slice_codeunits(names, cut) if cut else names
            for values in (inner, pc.replace_substring_regex(inner, SUFFIX, "")):
                found, repeated = _found(wanted, values)
                new = (files[rest] < 0) & (found >= 0)
                several[rest[new & repeated]] = True
                files[rest[new]] = found[new]
                if (files[rest] >= 0).all():
                    return files, several
    return files, several


def _below(names: Any, roots: Sequence[str]) -> Any:
    """Returns names without the dot or the root that they begin with."""
    names = found = pc.replace_substring_regex(names, r"^(?:\./+)+", "")
    for root in roots:
        below = pc.utf8_slice_codeunits(names, len(root) + 1)
        found = pc.if_else(pc.starts_with(names, f"{root}/"), below, found)
    return found


def _found(texts: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first place of each text among the values, -1 for none, and whether it stands there several times."""
    distinct = pc.unique(texts)
    code, place = _index(texts, distinct), _index(values, distinct)
    hits = np.flatnonzero(place >= 0)
    first = np.full(len(distinct), -1)
    first[place[hits][::-1]] = hits[::-1]
    return first[code], (np.bincount(place[hits], minlength=len(distinct)) > 1)[code]


def _outer(names: Any) -> str:
    """Returns the folder that all names are below, with a slash at its end, or ""."""
    ends = pc.min_max(names).as_py()
    first, last = (PurePosixPath(ends[end] or "").parts[:-1] for end in ("min", "max"))
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(f"{part}/" for part, _ in shared)


def _index(texts: Any, values: Any) -> np.ndarray:
    found: np.ndarray = pc.index_in(texts, value_set=values, skip_nulls=True).fill_null(-1).to_numpy()
    return found.astype(np.int64)


def _is_empty(texts: Any) -> np.ndarray:
    empty: np.ndarray = pc.equal(pc.utf8_trim_whitespace(texts), "").fill_null(True).to_numpy()
    return empty


def _encoded(texts: Any) -> tuple[list[str], np.ndarray]:
    """Returns the distinct texts, and the place of each row's among them, -1 where there is none."""
    encoded = texts.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    if len(encoded.dictionary) > MOST_CLASSES:
        raise UserError(
            f"`dataset.columns`: labels and splits must have at most {MOST_CLASSES:,} different values. Received: "
            f"{len(encoded.dictionary):,}, as {encoded.dictionary[0].as_py()!r:.80}"
        )
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy()


def _classes(label: Any) -> tuple[list[str], np.ndarray]:
    texts, codes = _encoded(label)
    names = [class_name(text.strip()) for text in texts]
    classes = sorted({name for name in names if name})
    numbers = {name: number for number, name in enumerate(classes)} | {"": EMPTY, None: UNUSABLE}
    return classes, np.array([*(numbers[name] for name in names), EMPTY], np.int32)[codes]


def _numbers(texts: Any) -> np.ndarray:
    """Returns numbers, float64; 1 where a cell is empty, NaN where it is none."""
    texts = pc.utf8_trim_whitespace(texts)
    values = pc.if_else(pc.match_substring_regex(texts, NUMBER), texts, None).cast(pa.float64())
    return np.where(_is_empty(texts), 1.0, values.fill_null(np.nan).to_numpy())


def _group(texts: Any) -> Any:
    names = pc.utf8_normalize(pc.utf8_trim_whitespace(texts), "NFC")
    return pc.if_else(pc.equal(names, ""), None, names)


def _mark_repeated(
    rows: np.ndarray, files: np.ndarray, says: Sequence[np.ndarray], groups: Any, reasons: np.ndarray
) -> None:
    """Marks rows of the same file: all where they differ, else all but the first."""
    counts = np.bincount(files[rows])
    rows = rows[counts[files[rows]] > 1]
    if not len(rows):
        return
    rows = rows[np.argsort(files[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(files[rows], prepend=-1))
    lengths = np.diff(starts, append=len(rows))
    said = [column[rows] for column in says]
    if groups is not None:
        said.append(groups.take(pa.array(rows)).fill_null("").to_numpy())
    differ = np.any([np.minimum.reduceat(each, starts) != np.maximum.reduceat(each, starts) for each in said], axis=0)
    is_first = np.zeros(len(rows), bool)
    is_first[starts] = True
    reasons[rows[np.repeat(differ, lengths)]] = 1 + REASONS.index(CONFLICT)
    reasons[rows[~np.repeat(differ, lengths) & ~is_first]] = 1 + REASONS.index(AGAIN)
