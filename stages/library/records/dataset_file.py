"""dataset.json: what the tfrecord stage says of a data set, as the other stages and the programs read it."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypeVar, get_args

import pydantic
from typing_extensions import TypedDict

from stages.library.common import guarded_files

REMEDY = "Run: dvc repro -f tfrecord"

Names = TypeVar("Names", list[str], tuple[str, ...])
Count = Annotated[int, pydantic.Field(ge=0)]
Range = Annotated[list[Count], pydantic.Field(min_length=2, max_length=2)]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
OPEN = pydantic.ConfigDict(extra="allow")  # keys that only people read


def each_once(classes: Names) -> Names:
    """Returns class names; raises ValueError where one stands twice."""
    if len(set(classes)) < len(classes):
        raise ValueError("must not name a class twice")
    return classes


Classes = Annotated[list[str], pydantic.Field(min_length=1), pydantic.AfterValidator(each_once)]


@pydantic.with_config(OPEN)
class Shape(TypedDict):
    """The smallest and the largest side of the images, in pixels."""

    height_px: Range
    width_px: Range


@pydantic.with_config(OPEN)
class Duplicates(TypedDict):
    """Distinct images that stand in more than one place (see `dataset_summary`)."""

    across_official_split: Count


@pydantic.with_config(OPEN)
class Dataset(TypedDict):
    """What is read of dataset.json; `classes` is in the order of the labels, `counts` says how many of each."""

    name: str
    images: Count
    classes: Classes
    counts: dict[Split, dict[str, Count]]
    shape: Shape
    duplicates: Duplicates
    rejected: Count
    content_sha256: NotRequired[str]


def _checked(dataset: Dataset) -> Dataset:
    if set(dataset["counts"]) != set(SPLITS):
        raise ValueError("`counts` must have train, validation and test")
    if any(set(counted) != set(dataset["classes"]) for counted in dataset["counts"].values()):
        raise ValueError("`counts` must have each of `classes` in each split")
    return dataset


def read(path: Path) -> Dataset:
    """Reads a dataset.json; raises UserError where a key is missing or breaks its rule."""
    found: Dataset = guarded_files.read_json(path, Annotated[Dataset, pydantic.AfterValidator(_checked)], REMEDY)
    return found


def content_sha256(entries: Iterable[tuple[str, str, str]]) -> str:
    """Returns the hex sha256 of a data set's content: split, key and class of every image, in any order."""
    # JSON, for a class may be any name that a folder can have: of several lines, or bytes that are no text.
    digest = hashlib.sha256()
    for number, line in enumerate(sorted(json.dumps(entry) for entry in entries)):
        digest.update(("\n" + line if number else line).encode())  # a text of all lines would be as long once more
    return digest.hexdigest()
