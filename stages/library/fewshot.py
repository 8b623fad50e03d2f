"""Few-shot experiment: n random images of each class (shots) train a head, all others test it; several repeats.

The images of all splits stand together; of copies of one image (same key) one counts, under its first class, so
that no image is on both sides. Within each class a repeat puts the units (`stratification`: groups of images that
belong together, by default each image alone) in a random order, and the first n images train. What is left of their
units is neither trained on nor tested. So every head and backbone gets the same images, whatever the order of the
rows, and the training images of a smaller n are among those of a larger one. A class that may have no image left to
test sits out.

"With" background, all classes train and are tested, as in published experiments on Caltech-101 and Caltech-256;
"without", the images of the background classes are on neither side.

What a head's cross-validation decides is decided within the training images of all classes, in stratified folds that
divide no unit. It holds without background, too, whose test images are among those of the same repeat with it. Nothing
is chosen by test images.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Annotated, Any

import numpy as np
import pydantic

from stages.library.common import class_weights, plugins, stratification
from stages.library.common.console import UserError
from stages.library.common.hashing import shuffled
from stages.library.common.params import CONFIG, Seed
from stages.library.heads import contract
from stages.library.heads.cross_validation import cross_validate
from stages.library.scoring import metrics
from stages.library.scoring.selection import SelectionMetric


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `fewshot` of params.yaml."""

    heads: Annotated[tuple[str, ...], pydantic.Field(description="names of heads; each is set in its own section")]
    shots: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=2, le=1_000_000)], ...],
        pydantic.Field(description="training images of each class; empty: the stage has nothing to do"),
    ]
    repeats: Annotated[int, pydantic.Field(ge=2, le=1000, description="random choices; mean and deviation are of them")]
    seed: Annotated[Seed, pydantic.Field(description="seed of the choices and of every head's training")]
    folds: Annotated[int, pydantic.Field(ge=2, le=50, description="folds for choosing; of n images a class at most n")]
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
class Images:
    """The images that take part, of all classes or of some."""

    rows: np.ndarray  # int64 (n,), their rows among the features, in the order of the keys
    keys: np.ndarray  # their sha256 hex, (n,)
    labels: np.ndarray  # int64 (n,), class ids in [0, len(classes))
    units: np.ndarray  # uint64 (n,), numbers of what stays on one side
    classes: tuple[str, ...]

    def without(self, names: Collection[str]) -> "Images":
        """Returns the images of the other classes, whose ids close up."""
        kept = np.array([name not in names for name in self.classes])
        ids, mask = np.cumsum(kept) - 1, kept[self.labels]
        classes = tuple(compress(self.classes, kept.tolist()))
        return Images(self.rows[mask], self.keys[mask], ids[self.labels[mask]], self.units[mask], classes)


def distinct(keys: np.ndarray, labels: np.ndarray, units: np.ndarray, classes: Sequence[str]) -> Images:
    """Returns each image once, in the order of the keys; of copies in several classes the first class counts."""
    in_bytes = keys.astype(bytes)  # a fourth of text's memory, in the same order
    order = np.lexsort((labels, in_bytes))
    rows = order[np.unique(in_bytes[order], return_index=True)[1]]
    return Images(rows, keys[rows], labels[rows], units[rows], tuple(classes))


def large_enough(images: Images, shots: int) -> tuple[Images, list[str]]:
    """Returns the images of the classes that have more, at least two or a UserError, and the other classes' names.

    A class has more if an image is left whichever units are drawn, the last of which may be its largest.
    """
    counts = np.bincount(images.labels, minlength=len(images.classes))
    units = np.unique(images.units, return_inverse=True)[1]
    pairs, sizes = np.unique(units * len(counts) + images.labels, return_counts=True)
    largest = np.ones_like(counts)
    np.maximum.at(largest, pairs % len(counts), sizes)
    small = list(compress(images.classes, (counts - largest < shots).tolist()))
    large = images.without(small)
    if len(large.classes) < 2:
        raise UserError(
            f"`fewshot.shots` must leave at least 2 classes an image to test. Received: {shots}, and only "
            f"{len(large.classes)} of {len(images.classes)} classes has more"
        )
    return large, small


def variants(images: Images, background: Sequence[str]) -> dict[str, Images]:
    """Returns all images as "with" and, where the data set has background classes, those of the others as "without"."""
    others = images.without(background)
    return {"with": images} | ({"without": others} if 1 < len(others.classes) < len(images.classes) else {})


def ranks(keys: np.ndarray, labels: np.ndarray, units: np.ndarray, repeat: int, seed: int) -> np.ndarray:
    """Returns the place of each image within its class, int64 (n,), from 0: units in a random order, one by one."""
    order = np.lexsort((keys.astype(bytes), shuffled(units, f"fewshot {repeat}", seed), labels))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
    return place


def run(
    name: str,
    section: Any,
    shots: int,
    features: np.ndarray,
    groups: Mapping[str, Images],
    settings: Params,
    weights: np.ndarray,
    of_classes: str | dict[str, float],
    selected_by: SelectionMetric,
) -> Iterator[dict[str, Any]]:
    """Yields the rows of repeats.csv: a head's scores in every repeat and group of images (see `variants`).

    The section is the head's; features are (rows, dim), of which blocks or training sets are copied. The weights,
    float64 (rows,), are of images, `of_classes` is the setting `class_weights`.
    """
    for repeat in range(settings.repeats):
        best_params: Mapping[str, Any] | None = None
        trained = np.empty(0, np.uint64)
        for background, group in groups.items():
            place = ranks(group.keys, group.labels, group.units, repeat, settings.seed)
            training = np.flatnonzero(place < shots)
            trained = np.union1d(trained, group.units[training])
            tested = np.flatnonzero(~np.isin(group.units, trained))
            if not len(tested):
                raise UserError(f"`fewshot.shots` must leave a group of images to test. Received: {shots}")
            divided = group.units[training], group.labels[training], min(settings.folds, shots)
            folds = stratification.folds(*divided, f"fewshot folds {repeat}", settings.seed)
            data = features[group.rows[training]], group.labels[training], len(group.classes), folds
            weighed = class_weights.of_images(of_classes, data[1], weights[group.rows[training]], group.classes)
            trainer = contract.lookup(name).Trainer(contract.Examples(*data, weighed), section, settings.seed)
            if best_params is None:
                one = len(trainer.candidates) == 1
                best_params = trainer.candidates[0] if one else cross_validate(trainer, selected_by).best_params
            logits = contract.logits_of_rows(trainer.fit(best_params), features, group.rows[tested])
            found = metrics.per_class(group.labels[tested], logits.argmax(axis=1), len(group.classes))
            yield {
                "repeat": repeat,
                "background": background,
                "top1_accuracy": float(found.right.sum() / len(tested)),
                "balanced_accuracy": found.balanced_accuracy,
                "best_params": json.dumps(best_params, sort_keys=True),
                "n_train": len(training),
                "n_test": len(tested),
            }


def summarise(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns METRIC.{mean,std} over the repeats, and below `without_background`, where there is any, the same.

    `num_examples` are the test images of a repeat, the fewest: what is left beside the units that train differs.
    """
    found: dict[str, dict[str, Any]] = {}
    for background in dict.fromkeys(score["background"] for score in scores):
        members = [score for score in scores if score["background"] == background]
        found[background] = {"num_examples": min(score["n_test"] for score in members)}
        for metric in ("top1_accuracy", "balanced_accuracy"):
            values = [score[metric] for score in members]
            moments = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1))}
            found[background][metric] = {key: round(value, 6) for key, value in moments.items()}
    return found["with"] | ({"without_background": found["without"]} if "without" in found else {})
