"""Few-shot experiment: n random pictures of each class (shots) train a head, all others test it; several repeats.

The pictures of all splits stand together; of copies of one picture (same key) one counts, under its first class, so
that no picture is on both sides. Within each class a repeat puts the pictures in the order of a hash of seed, repeat
and key, and the first n train. So every head and backbone gets the same pictures, whatever the order of the rows, and
the training pictures of a smaller n are among those of a larger one. A class with no picture left to test sits out.

"With" background, all classes train and are tested, as in published experiments on Caltech-101 and Caltech-256;
"without", the pictures of the background classes are on neither side.

What a head's cross-validation decides is decided within the training pictures of all classes: the i-th of each class
is in fold i modulo the number of folds. It holds without background, too, whose test pictures are among those of the
same repeat with it. Nothing is chosen by test pictures.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library.common import plugins
from stages.library.common.console import UserError
from stages.library.common.hashing import uniform
from stages.library.common.params import CONFIG
from stages.library.heads import contract as heads
from stages.library.heads.blocks import batches
from stages.library.scoring import metrics

BLOCK_ROWS = 4096


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `fewshot` of params.yaml."""

    heads: Annotated[tuple[str, ...], pydantic.Field(description="names of heads; each is set in its own section")]
    shots: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=2, le=1_000_000)], ...],
        pydantic.Field(description="training pictures of each class; empty: the stage has nothing to do"),
    ]
    repeats: Annotated[int, pydantic.Field(ge=2, le=1000, description="random choices; mean and deviation are of them")]
    seed: Annotated[int, pydantic.Field(ge=0, description="seed of the choices and of every head's training")]
    folds: Annotated[
        int, pydantic.Field(ge=2, le=50, description="folds for choosing; of n pictures a class at most n")
    ]
    background: Annotated[
        tuple[str, ...], pydantic.Field(description="classes of clutter, where the data set has them")
    ]

    @pydantic.field_validator("heads")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = plugins.plugin_names(plugins.PLUGINS["heads"])
        if not set(names) <= set(known):
            raise ValueError(f"must be among {', '.join(known)}")
        return names

    @pydantic.field_validator("heads", "shots")
    @classmethod
    def _distinct(cls, items: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(items)) < len(items):
            raise ValueError("must not name anything twice")
        return items


@dataclass(frozen=True)
class Pictures:
    """The pictures that take part, of all classes or of some.

    Attributes:
      background: "with" or "without".
      rows: int64 (n,), their rows among the features, in the order of the keys.
      keys: their sha256 hex, (n,).
      labels: int64 (n,), class ids in [0, len(classes)).
      classes: class names.
    """

    background: str
    rows: np.ndarray
    keys: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def without(self, names: Collection[str]) -> "Pictures":
        """Returns the pictures of the other classes, whose ids close up."""
        kept = np.array([name not in names for name in self.classes])
        ids, mask = np.cumsum(kept) - 1, kept[self.labels]
        classes = tuple(name for name in self.classes if name not in names)
        return Pictures(self.background, self.rows[mask], self.keys[mask], ids[self.labels[mask]], classes)


@dataclass(frozen=True)
class Score:
    """A head, fitted on one random choice of pictures.

    Attributes:
      repeat, background: see `Params`; background is "with" or "without".
      top1_accuracy: fraction of the test pictures that are right; mean_class_accuracy: mean over classes.
      chosen: what cross-validation on the training pictures decided, as JSON.
      n_train, n_test: numbers of pictures.
    """

    repeat: int
    background: str
    top1_accuracy: float
    mean_class_accuracy: float
    chosen: str
    n_train: int
    n_test: int


METRICS = "top1_accuracy", "mean_class_accuracy"


def distinct(keys: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Pictures:
    """Returns each picture once, in the order of the keys; of copies in several classes the first class counts."""
    order = np.lexsort((labels, keys.astype(str)))
    rows = order[np.unique(keys[order].astype(str), return_index=True)[1]]
    return Pictures("with", rows, keys[rows], labels[rows], tuple(classes))


def large_enough(pictures: Pictures, shots: int) -> tuple[Pictures, list[str]]:
    """Returns the pictures of the classes that have more than `shots`, and the names of the other classes.

    Raises:
      UserError: fewer than two classes are left.
    """
    counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
    small = [name for name, count in zip(pictures.classes, counts, strict=True) if count <= shots]
    if len(pictures.classes) - len(small) < 2:
        raise UserError(
            f"`fewshot.shots` must leave at least 2 classes a picture to test. Received: {shots}, and only "
            f"{len(pictures.classes) - len(small)} of {len(pictures.classes)} classes has more"
        )
    return pictures.without(small), small


def variants(pictures: Pictures, background: Sequence[str]) -> list[Pictures]:
    """Returns all pictures and, where the data set has background classes, those of the others."""
    others = replace(pictures.without(background), background="without")
    return [pictures, others] if 1 < len(others.classes) < len(pictures.classes) else [pictures]


def ranks(keys: np.ndarray, labels: np.ndarray, repeat: int, seed: int) -> np.ndarray:
    """Returns the place of each picture within its class in a random order, int64 (n,), from 0."""
    numbers = np.array([uniform(str(key), f"fewshot {repeat}", seed) for key in keys])
    order = np.lexsort((numbers, labels))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
    return place


def run(
    name: str, section: Any, shots: int, features: np.ndarray, groups: Sequence[Pictures], settings: Params
) -> Iterator[Score]:
    """Yields the score of a head in every repeat and group of pictures.

    Args:
      name: of the head.
      section: its section of params.yaml.
      shots: training pictures of each class.
      features: (rows, dim), float16 or float32; only the rows of a block or a training set are copied.
      groups: all pictures, then those without background; what is chosen is chosen on the first.
      settings: section `fewshot`.
    """
    for repeat in range(settings.repeats):
        places = [ranks(group.keys, group.labels, repeat, settings.seed) for group in groups]
        validation = _cross_validate(name, features, groups[0], places[0], shots, section, settings)
        for group, place in zip(groups, places, strict=True):
            training = place < shots
            head = validation.head if group is groups[0] else None
            if head is None:
                data = features[group.rows[training]], group.labels[training], len(group.classes)
                head = heads.lookup(name).fit(*data, section, settings.seed, validation.chosen)
            confusion = _test(head, features, group, ~training)
            yield Score(
                repeat=repeat,
                background=group.background,
                top1_accuracy=float(confusion.trace() / confusion.sum()),
                mean_class_accuracy=metrics.mean_class_accuracy(confusion),
                chosen=json.dumps(validation.chosen, sort_keys=True),
                n_train=int(training.sum()),
                n_test=int(confusion.sum()),
            )


def summarise(scores: Sequence[Score]) -> dict[str, Any]:
    """Returns METRIC.{mean,std} over the repeats, and below `without_background`, where there is any, the same."""

    def moments(members: Sequence[Score]) -> dict[str, Any]:
        numbers: dict[str, Any] = {"num_examples": members[0].n_test}
        for metric in METRICS:
            values = [getattr(score, metric) for score in members]
            mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
            numbers[metric] = {"mean": round(mean, 6), "std": round(std, 6)}
        return numbers

    without = [score for score in scores if score.background == "without"]
    numbers = moments([score for score in scores if score.background == "with"])
    return numbers | ({"without_background": moments(without)} if without else {})


def _cross_validate(
    name: str, features: np.ndarray, group: Pictures, place: np.ndarray, shots: int, section: Any, settings: Params
) -> heads.CrossValidation:
    """Returns a head's cross-validation on the training pictures; an empty one where it decides nothing."""
    module, training = heads.lookup(name), place < shots
    if not module.CHOOSES:
        return heads.CrossValidation(np.empty((0, len(group.classes)), np.float32), [])
    data = features[group.rows[training]], group.labels[training], len(group.classes)
    return module.cross_validate(*data, place[training] % min(settings.folds, shots), section, settings.seed)


def _test(head: heads.Fitted, features: np.ndarray, group: Pictures, tested: np.ndarray) -> np.ndarray:
    """Returns the confusion matrix of the pictures `tested` (bool (n,))."""
    rows, labels = group.rows[tested], group.labels[tested]
    blocks = (head.logits(features[rows[block]]).argmax(axis=1) for block in batches(len(rows), BLOCK_ROWS))
    return metrics.confusion_matrix(labels, np.concatenate(list(blocks)), len(group.classes))
