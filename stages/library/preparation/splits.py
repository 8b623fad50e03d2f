"""Which split each image belongs to: decided by content, by group or by publication, never by a path alone.

An official split stays as published; what a data set lacks is taken from its training images. Images of a group, and
copies, are on one side of what is taken (`stratification`), and each class gives its share.
"""

import re
import unicodedata
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import pydantic

from stages.library.common import stratification
from stages.library.common.console import UserError
from stages.library.common.hashing import Fraction
from stages.library.common.params import CONFIG, Seed
from stages.library.records.dataset_file import SPLITS

if TYPE_CHECKING:
    from stages.library.preparation.image_list import ImageList
    from stages.library.sources.contract import SourceImage

TRAIN, VALIDATION, TEST = range(3)  # ranks among SPLITS
NOWHERE = -1  # the side of an image that is dropped
KEYWORDS = "none", "folder"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `split` of params.yaml."""

    method: Annotated[Literal["hash", "tail"], pydantic.Field(description="by content, or by place")]
    group: Annotated[
        str, pydantic.Field(description="what stays on one side: `none`, `folder` or an expression with one group")
    ]
    near_duplicates: Annotated[
        Literal["ignore", "together"],
        pydantic.Field(description="whether resized, cut or mirrored copies stay on one side"),
    ]
    validation: Annotated[Fraction, pydantic.Field(description="fraction of each class, where no split is official")]
    test: Annotated[Fraction, pydantic.Field(description="fraction of each class, where no test split is official")]
    seed: Annotated[Seed, pydantic.Field(description="another seed gives another split")]

    @pydantic.field_validator("group")
    @classmethod
    def _names_groups(cls, rule: str) -> str:
        if rule not in KEYWORDS:
            try:
                expression = re.compile(rule)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"must be none, folder or a regular expression ({error})") from error
            if expression.groups != 1:
                one = r"with one group, as patient_(\d+); other brackets are (?:...)"
                raise ValueError(f"must be none, folder or a regular expression {one}")
        return rule

    @pydantic.model_validator(mode="after")
    def _leaves_training(self) -> "Params":
        if self.validation + self.test >= 1:
            raise ValueError("`validation` + `test` must be < 1")
        return self


class Split(NamedTuple):
    """What `draw` returns, of images in the order in which they came."""

    sides: np.ndarray  # ranks among SPLITS, int64 (n,)
    units: np.ndarray  # numbers of what stays on one side, uint64 (n,)


def group_of(image: "SourceImage", rule: str) -> str | None:
    """Returns the name of an image's group: the data set's own, or what `split.group` finds in its name; or None."""
    if image.group is not None:
        return image.group
    if rule == "none":
        return None
    name = unicodedata.normalize("NFC", image.name)
    if rule == "folder":
        folders = name.split("/")[:-1]
        below = folders.index(image.text) + 1 if image.in_class_folder and image.text in folders else 0
        below += below == 1 and image.split is not None  # CLASS/SPLIT
        return "/".join(folders[below:]) or None
    found = re.search(rule, name)
    return (found[1] or None) if found else None


def decided(image: "SourceImage", params: Params) -> str | None:
    """Returns the split that is known before all images are: the official one, or with `tail` that of its place.

    `hash` leaves official training images open. `tail` follows the order of publication, as many published figures
    were measured: the last part of each file of training images validates. UserError: `tail` without an official test
    split or files with an order.
    """
    if params.method == "tail" and (image.split is None or image.place is None):
        raise UserError(
            "`split.method` must be hash for data sets without an official test split in files that have an order "
            "(cifar10, cifar100 and fashion_mnist have). Received: tail"
        )
    if image.split in ("test", "validation"):
        return image.split
    if params.method == "tail" and image.place:
        first = image.place.count - round(image.place.count * params.validation)
        return "validation" if image.place.index >= first else "train"
    return None


def draw(images: "ImageList", labels: np.ndarray, params: Params, pairs: np.ndarray | None = None) -> Split:
    """Returns the split of each image: the decided one, or by the shares that `params` gives to what is not official.

    Args:
      images: all images.
      labels: ranks of their classes, int64 (n,).
      params: the section `split`.
      pairs: rows of images that stay together, int64 (m, 2), for example near-duplicates.

    Raises:
      UserError: a split is empty, or `split.group` finds no group.
    """
    if params.group != "none" and not images.in_group.any():
        raise UserError(
            f"`split.group` must find a group in the name of an image, as in {images.example!r:.200}. Received: "
            f"{params.group}"
        )
    units = stratification.units(images.numbers, images.groups, pairs)
    sides = images.decided.astype(np.int64)
    pool = np.flatnonzero(sides < 0)
    validation, test = (
        0 if (sides == rank).any() else share for rank, share in ((VALIDATION, params.validation), (TEST, params.test))
    )
    shares = stratification.assign(units[pool], labels[pool], (validation, 1 - test), "split", params.seed)
    sides[pool] = np.array([VALIDATION, TRAIN, TEST])[shares]
    if empty := [split for rank, split in enumerate(SPLITS) if not (sides == rank).any()]:
        raise UserError(
            f"no image fell into: {', '.join(empty)}. Received: {len(sides)} images in {labels.max() + 1} classes, of "
            "which each gives its share, in whole images or groups. Add some, or raise `split.validation` or "
            "`split.test`"
        )
    return Split(sides, units)
