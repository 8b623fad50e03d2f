"""Data sets: one module each, looked up by the name in `dataset.name`.

A data set's module has two functions:

  fetch(params, raw, cache): puts what `read` needs into the folder `raw`. Returns one phrase on what it did. The only
    function that may use the network, and only through `downloads.obtain`.
  read(params, raw): yields every image as found, in any order, without unpacking archives to disk. An image that
    can't be had, or an entry that is no image, is yielded as a `Stray` with the reason; nothing is dropped silently.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Literal, get_args

import numpy as np
import pydantic

from stages.library.common.params import CONFIG
from stages.library.common.plugins import PLUGINS, plugin_names

NAMES = plugin_names(PLUGINS["datasets"])
FILES = {"folder": ("folder",), "table": ("folder", "table")}  # keys of the files that a data set reads; else `archive`
Column = Literal["filename", "label", "split", "group", "weight"]
COLUMNS: tuple[Column, ...] = get_args(Column)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `dataset` of params.yaml."""

    name: Annotated[str, pydantic.Field(description="data set: " + ", ".join(NAMES))]
    folder: Annotated[
        str,
        pydantic.Field(
            min_length=1,
            description="for names `folder` and `table`: the images, or a zip, tar, tar.gz, tar.bz2 or tar.xz of them",
        ),
    ]
    table: Annotated[
        str | None, pydantic.Field(description="for name `table`: the labels, as CSV, TSV, JSON Lines or parquet")
    ]
    columns: Annotated[
        dict[Column, str],
        pydantic.Field(description="what the columns of `table` are called; the last three may be missing"),
    ]
    archive: Annotated[str | None, pydantic.Field(description="local archive to use in place of the download")]
    archive_sha256: Annotated[
        str | None, pydantic.Field(pattern="^[0-9a-f]{64}$", description="sha256 of `archive`, hex")
    ]

    @pydantic.field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NAMES:
            raise ValueError(f"must be among {', '.join(NAMES)}")
        return name

    @pydantic.model_validator(mode="after")
    def _archive_with_hash(self) -> "Params":
        if (self.archive is None) != (self.archive_sha256 is None):
            raise ValueError("`archive` and `archive_sha256` must be given together or both be null")
        if self.name == "table" and not self.table:
            raise ValueError("`table` must be the path of the labels where `name` is table")
        return self


@dataclass(frozen=True)
class Place:
    """Where an image stands in the file that its data set is published in."""

    file: str  # its name, as in "data_batch_1"
    index: int  # images before it there
    count: int  # images in the file, all of the same official split


@dataclass(frozen=True)
class SourceImage:
    """An image as its data set has it."""

    name: str  # path inside the data set, with forward slashes; unique within it
    text: str  # class name
    split: str | None  # "train", "validation" or "test" where the data set says so, else None
    content: bytes | np.ndarray  # an image file's bytes, or uint8 pixels (height, width[, 3])
    place: Place | None = None  # if the data set is published as files of many images whose order means something
    group: str | None = None  # a name that images share which must stay on one side of a split
    weight: float = 1.0  # > 0; what the image counts in training
    in_class_folder: bool = True  # whether the class is a folder of its name


@dataclass(frozen=True)
class Stray:
    """An entry that is not a usable image: it is listed in rejected.csv with its reason."""

    name: str
    reason: str
    row: int | None = None  # of the table that names it, from 1
    is_expected: bool = False  # it should have been an image: it counts against `tfrecord.max_rejected`


def lookup(name: str) -> ModuleType:
    """Returns the module of a data set; `name` is validated by `Params`."""
    return importlib.import_module(f"stages.plugins.datasets.{name}")
