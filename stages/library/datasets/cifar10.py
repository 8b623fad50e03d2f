"""CIFAR-10: 60,000 RGB pictures of 32 x 32 pixels in 10 classes, 10,000 of them the official test split.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
https://www.cs.toronto.edu/~kriz/cifar.html. A tar.gz of pickles that Python 2 wrote.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.library import downloads, restricted_pickle
from stages.library.archives import Member, tar_gz_members
from stages.library.console import UserError
from stages.library.datasets import Params, Picture, Stray
from stages.library.downloads import RemoteFile

ARCHIVE = RemoteFile(
    filename="cifar-10-python.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
    size_bytes=170498071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    md5="c58f30108f718f92721af3b95e74349a",
)
FOLDER = "cifar-10-batches-py"
META = f"{FOLDER}/batches.meta"
SPLITS = {f"{FOLDER}/data_batch_{number}": "train" for number in range(1, 6)} | {f"{FOLDER}/test_batch": "test"}
NO_PICTURES = {META, f"{FOLDER}/readme.html"}
SIZE_PX = 32


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Puts the archive into `raw`."""
    if params.archive is None:
        remedy = "or give its path as `dataset.archive`, with `dataset.archive_sha256`"
        downloads.link(downloads.obtain(ARCHIVE, cache, remedy), raw / ARCHIVE.filename)
        return ARCHIVE.filename
    downloads.link(
        downloads.verified_local(params.archive, params.archive_sha256 or ""),
        raw / ARCHIVE.filename,
    )
    return f"{ARCHIVE.filename} from `dataset.archive`"


def read(params: Params, raw: Path) -> Iterator[Picture | Stray]:
    """Yields the pictures; their names are batch and file name, for these alone repeat in some copies."""
    classes = _class_names(raw)
    missing = set(SPLITS)
    for member in _members(raw):
        if member.content is None:
            yield Stray(member.name, member.refused)
        elif member.name in missing:
            missing.remove(member.name)
            yield from _pictures(member.name, member.content, classes)
        elif member.name not in NO_PICTURES:
            yield Stray(member.name, "not a batch of CIFAR-10")
    if missing:
        raise UserError(f"{raw / ARCHIVE.filename} lacks {', '.join(sorted(missing))}")


def _members(raw: Path) -> Iterator[Member]:
    path = raw / ARCHIVE.filename
    if not path.exists():
        raise UserError(f"{path} is missing. Run: dvc repro fetch")
    with path.open("rb") as file:
        yield from tar_gz_members(file, str(path))


def _class_names(raw: Path) -> list[str]:
    # A pass of its own: in the published archive the names come after half of the batches.
    for member in _members(raw):
        if member.name == META and member.content is not None:
            names = _entry(restricted_pickle.load(member.content, META), b"label_names")
            if isinstance(names, list) and len(names) == 10:
                return [_text(name) for name in names]
            raise UserError(f"{META}: `label_names` must be a list of 10 names. Received: {names!r:.200}")
    raise UserError(f"{raw / ARCHIVE.filename} lacks {META}")


def _pictures(member: str, content: bytes, classes: list[str]) -> Iterator[Picture]:
    batch = restricted_pickle.load(content, member)
    data, labels = _entry(batch, b"data"), _entry(batch, b"labels")
    _check(member, data, labels)
    images = np.asarray(data).reshape(-1, 3, SIZE_PX, SIZE_PX).transpose(0, 2, 3, 1)  # channel planes to pixels
    names = batch.get(b"filenames", batch.get("filenames"))
    if not isinstance(names, list) or len(set(names)) != len(labels):
        names = [f"{index:05d}" for index in range(len(labels))]
    for pixels, label, name in zip(images, labels, names, strict=True):
        yield Picture(f"{member.rsplit('/')[-1]}/{_text(name)}", classes[label], SPLITS[member], pixels)


def _check(member: str, data: Any, labels: Any) -> None:
    row = 3 * SIZE_PX * SIZE_PX
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != row:
        raise UserError(f"{member}: `data` must be uint8 (n, {row}). Received: {getattr(data, 'shape', type(data))}")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise UserError(f"{member}: `labels` must be a list of {len(data)} numbers")
    if not all(isinstance(label, int) and 0 <= label < 10 for label in labels):
        raise UserError(f"{member}: `labels` must be whole numbers from 0 to 9")


def _entry(batch: Any, key: bytes) -> Any:
    """Returns an entry whose key is bytes where Python 2 wrote the pickle, text where Python 3 did."""
    if isinstance(batch, dict):
        for spelling in (key, key.decode()):
            if spelling in batch:
                return batch[spelling]
    raise UserError(f"{FOLDER}: a pickle lacks the entry {key.decode()!r}")


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
