"""Few-shot experiment: n random pictures of each class train a head, all other pictures test it; several draws.

The pictures of all splits stand together; of copies of one picture (same key) one counts, under its first class, so
that no picture is on both sides. Within each class a draw puts the pictures in the order of a hash of seed, draw and
key, and the first n train. So every head and backbone gets the same pictures, whatever the order of the rows, and the
training pictures of a smaller n are among those of a larger one.

"With" background, all classes train and are tested, as in published experiments on Caltech-101 and Caltech-256;
"without", the pictures of the background classes are on neither side.

What a head's cross-validation decides is decided within the training pictures of all classes: the i-th of each class
is in fold i modulo the number of folds. It holds without background, too, whose test pictures are among those of the
same draw with it. Nothing is chosen by test pictures.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library import heads, metrics, params
from stages.library.console import UserError
from stages.library.params import CONFIG
from stages.library.splits import uniform

BLOCK_ROWS = 4096


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `fewshot` of params.yaml."""

    heads: Annotated[
        tuple[str, ...], pydantic.Field(min_length=1, description="names of heads; each is set in its own section")
    ]
    train_per_class: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=2, le=1_000_000)], ...],
        pydantic.Field(
            min_length=1, description="training pictures of each class; sizes that a class lacks are left out"
        ),
    ]
    draws: Annotated[int, pydantic.Field(ge=2, le=1000, description="random draws; mean and deviation are over them")]
    seed: Annotated[int, pydantic.Field(ge=0, description="seed of the draws and of every head's training")]
    folds: Annotated[
        int, pydantic.Field(ge=2, le=50, description="folds for choosing; of n pictures a class at most n")
    ]
    background: Annotated[
        tuple[str, ...], pydantic.Field(description="classes of clutter, where the data set has them")
    ]

    @pydantic.field_validator("heads")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = params.plugin_names(params.PLUGINS["heads"])
        if not set(names) <= set(known):
            raise ValueError(f"must be among {', '.join(known)}")
        return names

    @pydantic.field_validator("heads", "train_per_class")
    @classmethod
    def _distinct(cls, items: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(items)) < len(items):
            raise ValueError("must not name anything twice")
        return items


@dataclass(frozen=True)
class Pictures:
    """The pictures that take part, all classes or all but the background.

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

    def without(self, background: Sequence[str]) -> "Pictures":
        """Returns the pictures of the other classes, whose ids close up."""
        kept = np.array([name not in background for name in self.classes])
        ids, mask = np.cumsum(kept) - 1, kept[self.labels]
        classes = tuple(name for name in self.classes if name not in background)
        return Pictures("without", self.rows[mask], self.keys[mask], ids[self.labels[mask]], classes)


@dataclass(frozen=True)
class Score:
    """One head, fitted on one draw.

    Attributes:
      head, features: name of the head and what it was trained on.
      train_per_class, draw, background: see `Params`; background is "with" or "without".
      top1_accuracy: fraction of the test pictures that are right; mean_class_accuracy: mean over classes.
      chosen: what cross-validation on the training pictures decided, as JSON.
      n_train, n_test: numbers of pictures.
    """

    head: str
    features: str
    train_per_class: int
    draw: int
    background: str
    top1_accuracy: float
    mean_class_accuracy: float
    chosen: str
    n_train: int
    n_test: int


DRAWS = tuple(field.name for field in fields(Score))
MOMENTS = ("top1_accuracy_mean", "top1_accuracy_std", "mean_class_accuracy_mean", "mean_class_accuracy_std")
SUMMARY = ("head", "features", "train_per_class", "background", "draws", *MOMENTS, "n_train", "n_test")


def distinct(keys: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Pictures:
    """Returns each picture once, in the order of the keys; of copies in several classes the first class counts."""
    order = np.lexsort((labels, keys.astype(str)))
    rows = order[np.unique(keys[order].astype(str), return_index=True)[1]]
    return Pictures("with", rows, keys[rows], labels[rows], tuple(classes))


def variants(pictures: Pictures, background: Sequence[str]) -> list[Pictures]:
    """Returns all pictures and, where the data set has background classes, those of the others."""
    others = pictures.without(background)
    return [pictures, others] if 1 < len(others.classes) < len(pictures.classes) else [pictures]


def possible_sizes(pictures: Pictures, sizes: Sequence[int]) -> list[int]:
    """Returns the sizes that leave every class a test picture: none where a class is very small.

    Raises:
      UserError: there is one class only.
    """
    if len(pictures.classes) < 2:
        raise UserError(f"`fewshot` needs at least 2 classes. Received: {list(pictures.classes)}")
    counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
    return [size for size in sizes if size < counts.min()]


def ranks(keys: np.ndarray, labels: np.ndarray, draw: int, seed: int) -> np.ndarray:
    """Returns the place of each picture within its class in a random order, int64 (n,), from 0."""
    numbers = np.array([uniform(str(key), f"fewshot {draw}", seed) for key in keys])
    order = np.lexsort((numbers, labels))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
    return place


def run(
    values: Mapping[str, np.ndarray],
    groups: Sequence[Pictures],
    sizes: Sequence[int],
    settings: Params,
    head_params: Mapping[str, Any],
) -> Iterator[Score]:
    """Yields the score of every head, size, draw and group of pictures.

    Args:
      values: features (rows, dim), float16 or float32, by kind; only the rows of a block or a training set are copied.
      groups: all pictures, then those without background; what is chosen is chosen on the first.
      sizes: training pictures of each class.
      settings: section `fewshot`.
      head_params: sections of the heads, by name.
    """
    draws = [
        [ranks(group.keys, group.labels, draw, settings.seed) for group in groups] for draw in range(settings.draws)
    ]
    for name, size in product(settings.heads, sizes):
        section = head_params[name]
        features = values[section.features]
        for draw, places in enumerate(draws):
            validation = _cross_validate(name, features, groups[0], places[0], size, section, settings)
            for group, place in zip(groups, places, strict=True):
                training = place < size
                head = validation.head if group is groups[0] else None
                if head is None:
                    data = features[group.rows[training]], group.labels[training], len(group.classes)
                    head = heads.lookup(name).fit(*data, section, settings.seed, validation.chosen)
                confusion = _test(head, features, group, ~training)
                yield Score(
                    name,
                    section.features,
                    size,
                    draw,
                    group.background,
                    float(confusion.trace() / confusion.sum()),
                    metrics.mean_class_accuracy(confusion),
                    json.dumps(validation.chosen, sort_keys=True),
                    int(training.sum()),
                    int(confusion.sum()),
                )


def summarise(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Returns a row per head, size and background: mean and sample standard deviation over the draws."""
    groups: dict[tuple[str, int, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.head, score.train_per_class, score.background), []).append(score)
    return [
        {
            "head": head,
            "features": members[0].features,
            "train_per_class": size,
            "background": background,
            "draws": len(members),
            **_moments("top1_accuracy", members),
            **_moments("mean_class_accuracy", members),
            "n_train": members[0].n_train,
            "n_test": members[0].n_test,
        }
        for (head, size, background), members in groups.items()
    ]


def as_metrics(summary: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns nested numbers: HEAD.N_per_class.top1_accuracy.{mean,std}, and below `without_background` the same."""
    numbers: dict[str, Any] = {}
    for row in summary:
        place = numbers.setdefault(row["head"], {}).setdefault(f"{row['train_per_class']}_per_class", {})
        if row["background"] == "without":
            place = place.setdefault("without_background", {})
        for metric in ("top1_accuracy", "mean_class_accuracy"):
            place[metric] = {part: row[f"{metric}_{part}"] for part in ("mean", "std")}
        place["num_examples"] = row["n_test"]
    return numbers


def _cross_validate(
    name: str, features: np.ndarray, group: Pictures, place: np.ndarray, size: int, section: Any, settings: Params
) -> heads.CrossValidation:
    """Returns a head's cross-validation on the training pictures of a draw; an empty one where it decides nothing."""
    module, training = heads.lookup(name), place < size
    if not module.CHOOSES:
        return heads.CrossValidation(np.empty((0, len(group.classes)), np.float32), [])
    data = features[group.rows[training]], group.labels[training], len(group.classes)
    return module.cross_validate(*data, place[training] % min(settings.folds, size), section, settings.seed)


def _test(head: heads.Fitted, features: np.ndarray, group: Pictures, tested: np.ndarray) -> np.ndarray:
    """Returns the confusion matrix of the pictures `tested` (bool (n,))."""
    rows, labels = group.rows[tested], group.labels[tested]
    blocks = (head.logits(features[rows[block]]).argmax(axis=1) for block in heads.batches(len(rows), BLOCK_ROWS))
    return metrics.confusion_matrix(labels, np.concatenate(list(blocks)), len(group.classes))


def _moments(metric: str, scores: Sequence[Score]) -> dict[str, float]:
    values = [getattr(score, metric) for score in scores]
    return {
        f"{metric}_mean": round(float(np.mean(values)), 6),
        f"{metric}_std": round(float(np.std(values, ddof=1)), 6),
    }
