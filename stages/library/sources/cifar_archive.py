"""The archives of CIFAR-10 and CIFAR-100: a tar.gz of pickles that Python 2 wrote.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile
from stages.library.sources import published_archive, restricted_pickle
from stages.library.sources.archives import Member, tar_gz_members
from stages.library.sources.contract import Params, Place, SourceImage, Stray

SIZE_PX = 32


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """One of the two data sets."""

    archive: RemoteFile
    title: str  # for people
    folder: str  # of all members
    splits: Mapping[str, str]  # batch file -> "train" or "test"
    meta: str  # file of the class names
    num_classes: int
    prefix: str = ""  # of the keys of class ids and class names
    no_images: tuple[str, ...] = ()  # files that belong to the data set and hold no images

    def fetch(self, params: Params, raw: Path, cache: Path) -> str:
        """Puts the archive into `raw`."""
        return published_archive.fetch(self.archive, params, raw, cache)

    def read(self, params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
        """Yields the images; their names are batch and file name, for these alone repeat in some copies."""
        path = raw / self.archive.filename
        classes = self._class_names(path)
        missing = {f"{self.folder}/{batch}" for batch in self.splits}
        no_images = {f"{self.folder}/{name}" for name in (self.meta, *self.no_images)}
        for member in _members(path):
            if member.content is None:
                yield Stray(member.name, member.rejected)
            elif member.name in missing:
                missing.remove(member.name)
                yield from self._images(member.name, member.content, classes)
            elif member.name not in no_images:
                yield Stray(member.name, f"not a batch of {self.title}")
        if missing:
            raise UserError(f"{path} lacks {', '.join(sorted(missing))}")

    def _class_names(self, path: Path) -> list[str]:
        # A pass of its own: in the published archives the names come after most or all of the batches.
        name, key = f"{self.folder}/{self.meta}", f"{self.prefix}label_names"
        content = next((member.content for member in _members(path) if member.name == name), None)
        if content is None:
            raise UserError(f"{path} lacks {name}")
        names = _loaded(name, content, key)[key]
        if not isinstance(names, list) or len(names) != self.num_classes:
            raise UserError(f"{name}: `{key}` must be a list of {self.num_classes} names. Received: {names!r:.200}")
        return [_text(each) for each in names]

    def _images(self, member: str, content: bytes, classes: list[str]) -> Iterator[SourceImage]:
        key = f"{self.prefix}labels"
        batch = _loaded(member, content, "data", key)
        data, labels, names = batch["data"], batch[key], batch.get("filenames")
        row = 3 * SIZE_PX * SIZE_PX
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != row:
            shape = getattr(data, "shape", type(data))
            raise UserError(f"{member}: `data` must be uint8 (n, {row}). Received: {shape}")
        if not isinstance(labels, list) or len(labels) != len(data):
            raise UserError(f"{member}: `{key}` must be a list of {len(data)} numbers")
        if not all(isinstance(label, int) and 0 <= label < self.num_classes for label in labels):
            raise UserError(f"{member}: `{key}` must be whole numbers from 0 to {self.num_classes - 1}")
        if not isinstance(names, list) or len(names) != len(labels) or len(set(map(_text, names))) != len(labels):
            names = [f"{index:05d}" for index in range(len(labels))]
        images = np.asarray(data).reshape(-1, 3, SIZE_PX, SIZE_PX).transpose(0, 2, 3, 1)  # channel planes to pixels
        file = member.rsplit("/")[-1]
        for index, (pixels, label, name) in enumerate(zip(images, labels, names, strict=True)):
            place = Place(file, index, len(labels))
            yield SourceImage(f"{file}/{_text(name)}", classes[label], self.splits[file], pixels, place)


def _members(path: Path) -> Iterator[Member]:
    with published_archive.fetched(path).open("rb") as file:
        yield from tar_gz_members(file, str(path))


def _loaded(member: str, content: bytes, *keys: str) -> dict[str, Any]:
    """Returns a batch that has some keys, which are bytes where Python 2 wrote the pickle."""
    loaded = restricted_pickle.load(content, member)
    batch = {_text(key): value for key, value in loaded.items()} if isinstance(loaded, dict) else {}
    for key in keys:
        if key not in batch:
            raise UserError(f"{member} lacks the entry `{key}`")
    return batch


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
