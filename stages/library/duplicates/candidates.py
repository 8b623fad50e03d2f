"""Looks for candidates: pairs of images with nearly the same 8 x 8 grey values.

Each image is looked for as it is, with its edges cut off, and mirrored. What is looked through are lists around one of
each LIST_LENGTH images, of which only the nearest are read. To find these an image is compared with all centres: what
grows with the square of the images is a thousandth of all pairs.
"""

import os
from collections.abc import Iterator
from itertools import islice, pairwise, product
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.library.common import console
from stages.library.common.threads import ahead
from stages.library.duplicates.alignment import sample
from stages.library.duplicates.miniatures import Miniatures

GRID = 8
CUTS = (0, 0), (0.01, 0.04), (0.04, 0.01), (0, 0.1), (0.03, 0.07), (0.07, 0.03), (0.1, 0)  # from both ends of a side
FRAMES = np.array(  # see `alignment.sample`
    [
        ((top - bottom) / 2, 1 - top - bottom, (left - right) / 2, 1 - left - right)
        for (top, bottom), (left, right) in product(CUTS, CUTS)
    ],
    np.float32,
)
LIST_LENGTH = 1024
LISTS_READ = 4
ROWS = 1 << 14  # are looked for at a time
SCORES = 1 << 20  # are in memory at a time
BEST = 4  # of each way of looking
MOST_CANDIDATES = 20  # of each image
LEAST_CORRELATION = 0.8
LEAST_NORM = 8.0  # of 64 grey values without their mean: below, an image is of one colour
FOUND = np.dtype([("seen", "i4"), ("other", "i4"), ("mirrored", "?"), ("frame", "i1"), ("score", "f4")])


class Candidates(NamedTuple):
    """Pairs of images, one of which looks like the other through a frame, and where it says so mirrored after that."""

    seen: np.ndarray  # rows of the images that are seen through the frame, int64 (m,)
    others: np.ndarray  # int64 (m,)
    mirrored: np.ndarray  # bool (m,)
    frames: np.ndarray  # float32 (m, 4), see `alignment.sample`


class Lists(NamedTuple):
    """Images in lists, each around one of them, the centre; those of one colour are in none."""

    centres: np.ndarray  # what `_described` gives of them, float32 (lists, 64)
    rows: np.ndarray  # of the images, list after list, rising in each, int64 (m,)
    values: np.ndarray  # what `_described` gives of these, float32 (m, 64)
    borders: np.ndarray  # where each list begins, and where the last ends, int64 (lists + 1,)


def find(images: Miniatures) -> Candidates:
    """Returns candidates among images in random order, each pair once as it is and once mirrored at most."""
    with threadpool_limits(1):  # of the looks, each has a thread
        lists = _lists(images)
        parts = _parts(len(images), ROWS) if len(lists.rows) else []
        looks = [(part, number) for part in parts for number in range(len(FRAMES))]
        tried = ahead(lambda look: _look(images, *look, lists), looks, os.cpu_count() or 1)
        shown = iter(console.progress(tried, "near-duplicates: look", "ways", len(looks)))
        found = [_best(np.concatenate(list(islice(shown, len(FRAMES))))) for _ in range(0, len(looks), len(FRAMES))]
        list(shown)  # which clears the bar
    every = np.concatenate([np.zeros(0, FOUND), *found])
    once = _distinct(every, np.minimum(every["seen"], every["other"]), np.maximum(every["seen"], every["other"]))
    seen, others = once["seen"].astype(np.int64), once["other"].astype(np.int64)
    return Candidates(seen, others, once["mirrored"], FRAMES[once["frame"]])


def _lists(images: Miniatures) -> Lists:
    values = _described(images, FRAMES[0])
    rows = np.flatnonzero(values.any(axis=1))
    centres = values[rows[::LIST_LENGTH]]
    listed = np.zeros(len(rows), np.int64)
    for part in _parts(len(rows), LIST_LENGTH):
        listed[part] = (values[rows[part]] @ centres.T).argmax(axis=1)
    order = np.argsort(listed, kind="stable")
    borders = np.searchsorted(listed[order], np.arange(len(centres) + 1))
    return Lists(centres, rows[order], values[rows[order]], borders)


def _look(images: Miniatures, part: slice, number: int, lists: Lists) -> np.ndarray:
    """Returns what is like a part of the images when that is seen through a frame, as FOUND."""
    found = [np.zeros(0, FOUND)]
    plain = _described(images[part], FRAMES[number])
    for mirrored in (False, True):
        asked = plain.reshape(-1, GRID, GRID)[:, :, ::-1].reshape(plain.shape) if mirrored else plain
        for which, rows in _asking(asked, lists):
            begin, end = lists.borders[which : which + 2]
            members, values = lists.rows[begin:end], lists.values[begin:end]
            scores = asked[rows] @ values.T
            itself = np.searchsorted(members, rows + part.start) % len(members)
            scores[np.arange(len(rows)), itself] -= 2 * (members[itself] == rows + part.start)
            for _ in range(min(BEST, len(members))):
                best = scores.argmax(axis=1)
                score = np.take_along_axis(scores, best[:, None], axis=1)[:, 0]
                like = score >= LEAST_CORRELATION
                rows, best, score, scores = rows[like], best[like], score[like], scores[like]
                one = np.empty(len(rows), FOUND)
                one["seen"], one["other"], one["score"] = rows + part.start, members[best], score
                one["mirrored"], one["frame"] = mirrored, number
                found.append(one)
                scores[np.arange(len(rows)), best] = -1
    return np.concatenate(found)


def _asking(asked: np.ndarray, lists: Lists) -> Iterator[tuple[int, np.ndarray]]:
    """Yields numbers of lists and rows of `asked` for which to look there, few enough that their scores fit."""
    count, sizes = min(LISTS_READ, len(lists.centres)), np.diff(lists.borders)
    kept = np.flatnonzero(asked.any(axis=1))
    near = np.zeros((len(kept), count), np.int64)
    for part in _parts(len(kept), LIST_LENGTH):
        near[part] = np.argpartition(-(asked[kept[part]] @ lists.centres.T), count - 1, axis=1)[:, :count]
    listed = near.ravel()
    order = np.argsort(listed, kind="stable")
    borders = np.searchsorted(listed[order], np.arange(len(lists.centres) + 1))
    for which, (begin, end) in enumerate(pairwise(borders)):
        rows = kept[order[begin:end] // count]
        for block in _parts(len(rows) if sizes[which] else 0, max(1, SCORES // max(1, int(sizes[which])))):
            yield which, rows[block]


def _best(found: np.ndarray) -> np.ndarray:
    """Returns of each image that was looked for the candidates most like it, as FOUND."""
    found = _distinct(found, found["seen"], found["other"])
    ranked = found[np.lexsort((-found["score"], found["seen"]))]
    rank = np.arange(len(ranked)) - np.searchsorted(ranked["seen"], ranked["seen"])
    return ranked[rank < MOST_CANDIDATES]


def _distinct(found: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the most alike of those that have the same first row, second row and mirroring, sorted by these."""
    order = np.lexsort((found["seen"], found["frame"], -found["score"], found["mirrored"], second, first))
    same = np.stack([first, second, found["mirrored"]])[:, order]
    fresh = np.append(True, (np.diff(same) != 0).any(axis=0))[: len(order)]
    return np.asarray(found[order[fresh]])


def _described(images: Miniatures, frame: np.ndarray) -> np.ndarray:
    """Returns grey values without their mean, as rows of unit length, float32 (n, 64); zeros for one colour."""
    found = [np.zeros((0, GRID * GRID), np.float32)]
    for part in _parts(len(images), LIST_LENGTH):
        frames = np.tile(frame, (part.stop - part.start, 1))
        values = sample(images[part], frames, (GRID, GRID), 1.0)[0].reshape(-1, GRID * GRID)
        values -= values.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        found.append(np.where(norms < LEAST_NORM, 0, values / np.maximum(norms, LEAST_NORM)).astype(np.float32))
    return np.concatenate(found)


def _parts(count: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, count)) for start in range(0, count, most))
