"""A folder of images: CLASS/**/image, or {train,test}/CLASS/**/image with an official test split.

Whatever the suffix, every file is taken for an image until decoding says otherwise.
"""

import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.sources.contract import Params, SourceImage, Stray

MAX_FILE_BYTES = 256 << 20
OFFICIAL = {"train", "test"}
SPLIT_NAMES = OFFICIAL | {"val", "valid", "validation", "training", "testing"}
SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx"}
# Control characters, undecodable bytes and line separators: a class name is a line of labels.txt.
NOT_IN_CLASS_NAMES = {"Cc", "Cs", "Zl", "Zp"}


@dataclass(frozen=True)
class _Found:
    """A file that may be an image, not yet read."""

    path: Path
    name: str
    text: str
    split: str | None


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Checks that the folder has images of at least 2 classes; they are read where they are."""
    found = [item for item in _entries(params.folder) if isinstance(item, _Found)]
    classes = Counter(item.text for item in found)
    if len(classes) < 2:
        raise UserError(
            "`dataset.folder` must hold images of at least 2 classes, as CLASS/image or "
            f"{{train,test}}/CLASS/image. Received: {params.folder} with {len(found)} files in {len(classes)} classes"
        )
    if {item.split for item in found} in ({"train"}, {"test"}):
        raise UserError(f"`dataset.folder`: both train and test must hold images. Received: {params.folder}")
    artifacts.write_json(raw / "source.json", {"folder": Path(params.folder).name})
    return f"{len(found):,} files in {len(classes):,} classes, read where they are"


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields every file of the folder, and as strays what can't be an image; `raw` is not used."""
    for item in _entries(params.folder):
        if isinstance(item, Stray):
            yield item
            continue
        try:
            yield SourceImage(item.name, item.text, item.split, item.path.read_bytes())
        except OSError as error:
            yield Stray(item.name, f"can't be read: {error.strerror}")


def _entries(folder: str) -> Iterator[_Found | Stray]:
    """Yields the files of every class folder, and as strays whatever else lies about."""
    try:
        root = Path(folder).resolve()
        next(root.iterdir(), None)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link to itself
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"`dataset.folder` must be a readable folder ({reason}). Received: {folder}") from error
    top = list(_listed(root, root))
    folders = {entry.name for entry in top if isinstance(entry, Path) and entry.is_dir()}
    are_splits = folders <= OFFICIAL
    if not are_splits and len(folders & SPLIT_NAMES) > 1:
        raise UserError(
            "`dataset.folder` must hold folders of classes, or train and test and no other (put images for validation "
            f"into train, of which `split.validation` takes its share). Received: {', '.join(sorted(folders))}"
        )
    for entry in top:
        if are_splits and isinstance(entry, Path) and entry.is_dir():
            for inner in _listed(root, entry):  # one of the two alone is no official split
                yield from _class(root, inner, entry.name if folders == OFFICIAL else None)
        else:
            yield from _class(root, entry, None)


def _class(root: Path, entry: Path | Stray, split: str | None) -> Iterator[_Found | Stray]:
    """Yields the files of a class folder, to any depth; and as a stray what is none."""
    if isinstance(entry, Stray):
        yield entry
        return
    if not entry.is_dir():
        yield Stray(_name(root, entry), "not in a class folder")
        return
    text = _class_name(entry)
    waiting, is_empty = deque([entry]), True
    while waiting:
        for found in _listed(root, waiting.popleft()):
            if isinstance(found, Stray):
                yield found
            elif found.is_dir():
                waiting.append(found)
            else:
                is_empty = False
                yield _Found(found, _name(root, found), text, split)
    if is_empty:
        yield Stray(_name(root, entry), "class folder without images")


def _class_name(folder: Path) -> str:
    """Returns the folder's name in Unicode's composed form, for file systems differ in how they store accents."""
    name = unicodedata.normalize("NFC", folder.name)
    if any(unicodedata.category(character) in NOT_IN_CLASS_NAMES for character in name):
        raise UserError(
            f"`dataset.folder`: class folders must have UTF-8 names without control characters. Received: {name!a}"
        )
    return name


def _listed(root: Path, folder: Path) -> Iterator[Path | Stray]:
    """Yields what is in a folder, sorted: files and folders to go on with, and the rest as strays."""
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        yield Stray(_name(root, folder), f"can't be listed: {error.strerror}")
        return
    for path in paths:
        reason = _refusal(root, path)
        yield Stray(_name(root, path), reason) if reason else path


def _refusal(root: Path, path: Path) -> str:
    """Returns why a path is not even tried, or ""."""
    if path.name.startswith(".") or path.name.lower() in SYSTEM_NAMES:
        return "hidden or system file"
    try:
        if path.is_symlink():
            target = path.resolve(strict=True)
            if not target.is_relative_to(root):
                return "a link that leaves the folder"
            if target.is_dir():
                return "a link to a folder"
        status = path.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        return f"can't be read: {getattr(error, 'strerror', None) or 'a link to itself'}"
    if stat.S_ISDIR(status.st_mode):
        return ""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return f"larger than {MAX_FILE_BYTES >> 20} MiB" if status.st_size > MAX_FILE_BYTES else ""


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
