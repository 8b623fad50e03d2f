"""A folder of images, or a zip or tar of one: CLASS/**/image; with official splits SPLIT/CLASS/** or CLASS/SPLIT/**.

Splits are named train or training; val, valid, validation or dev; test or testing, in any case. One that is missing is
taken from the others, as the section `split` says.
"""

from collections.abc import Iterator
from pathlib import Path

from stages.library.common import artifacts
from stages.library.sources import class_folders, image_trees
from stages.library.sources.contract import Params, SourceImage, Stray
from stages.library.sources.folder_advice import Findings


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Checks that the folder has images of at least 2 classes; they are read where they are."""
    root = image_trees.located(params.folder)
    found = Findings(params.folder, class_folders.images(root, contents=False))
    found.check()
    artifacts.write_json(raw / "source.json", {"folder": root.name})
    return f"{found.images:,} files in {len(found.classes):,} classes, read where they are"


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields the images, and as strays what is none or can't be read; `raw` is not used."""
    return class_folders.images(image_trees.located(params.folder), contents=True)
