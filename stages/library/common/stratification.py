"""Which share of a data set each image falls into: the one rule of splits, folds and few-shot draws.

A unit is what must not be divided: the images of one group, and the copies of one image. Each class is divided by
itself. Its units stand in a random order that follows from their own numbers, a purpose and a seed, and a unit falls
where its middle lies, counted in images. So each class has its part of each share to within one image (or one unit),
and one more image moves at most one other unit across each border. No name and no order of the rows decides anything.

A unit of several classes counts as one of the class that most of its images have.
"""

from collections.abc import Sequence

import numpy as np

from stages.library.common.console import UserError
from stages.library.common.hashing import shuffled

GOLDEN = (5**0.5 - 1) / 2
ROUNDING = 1e-12  # a middle that is on a border but for this belongs to the share above


def units(images: np.ndarray, groups: np.ndarray, pairs: np.ndarray | None = None) -> np.ndarray:
    """Returns the unit of each image, uint64 (n,): the smallest number of `groups` in it.

    Args:
      images: numbers of their contents, uint64 (n,); copies have the same one.
      groups: numbers of their groups' names, uint64 (n,), or where they have none those of `images`.
      pairs: rows of images that stay together, too, int64 (m, 2).
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    numbers, node = np.unique(groups, return_inverse=True)
    _, first, image = np.unique(images, return_index=True, return_inverse=True)
    starts, ends = [node], [node[first[image]]]  # each image's group, and that of its first copy
    if pairs is not None:
        starts.append(node[pairs[:, 0]])
        ends.append(node[pairs[:, 1]])
    edges = np.concatenate(starts), np.concatenate(ends)
    graph = coo_matrix((np.ones(len(edges[0]), bool), edges), shape=(len(numbers), len(numbers)))
    component = connected_components(graph, directed=False)[1]
    smallest = numbers[np.unique(component, return_index=True)[1]]  # the numbers rise
    return np.asarray(smallest[component][node])


def assign(
    units: np.ndarray, labels: np.ndarray, borders: Sequence[float], purpose: str, seed: int, turned: bool = False
) -> np.ndarray:
    """Returns the share of each image, int64 (n,), in [0, len(borders)].

    Args:
      units: numbers of what is not divided, uint64 (n,).
      labels: classes, int64 (n,), not negative.
      borders: where one share ends and the next begins, rising fractions in [0, 1].
      purpose: what it is for: each use has an order of its own.
      seed: another one gives another order.
      turned: whether the shares are laid out on a circle that each class enters elsewhere, evenly. Then small classes
        fill all shares together. Without it a class of one image falls into the share that has the middle.
    """
    numbers, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    stratum = np.unique(_most_common(unit, labels, len(numbers)), return_inverse=True)[1]
    order = np.lexsort((shuffled(numbers, purpose, seed), stratum))
    totals = np.bincount(stratum, sizes)
    before = (np.cumsum(totals) - totals)[stratum[order]]
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2 - before) / totals[stratum[order]]
    if turned:
        middle = (middle + stratum[order] * GOLDEN) % 1
    share = np.empty(len(numbers), np.int64)
    share[order] = np.searchsorted(borders, middle + ROUNDING, side="right")
    return np.asarray(share[unit])


def folds(units: np.ndarray, labels: np.ndarray, count: int, purpose: str, seed: int) -> np.ndarray:
    """Returns the fold of each image, int64 (n,): `count` of them, or fewer, none of them empty, where units are few.

    Two units of different classes, or of one, never share the only fold. Raises UserError where there is one unit.
    """
    borders = [share / count for share in range(1, count)]
    found, fold = np.unique(assign(units, labels, borders, purpose, seed, turned=True), return_inverse=True)
    if len(found) < 2:
        raise UserError(
            f"cross-validation must have images of at least 2 groups. Received: {len(labels)} images in one. Add "
            "images, or change `split.group`"
        )
    return np.asarray(fold, np.int64)


def _most_common(unit: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the class that most images of each unit have, int64 (count,); of equally common ones the first."""
    base = labels.max(initial=0) + 1
    pairs, sizes = np.unique(unit * base + labels, return_counts=True)
    owner = pairs // base
    order = np.lexsort((-sizes, owner))  # stable, and the pairs rise
    return np.asarray(pairs[order[np.searchsorted(owner, np.arange(count))]] % base)
