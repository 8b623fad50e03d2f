"""A folder of images: CLASS/**/image, or {train,test}/CLASS/**/image with an official test split.

Whatever the suffix, every file is taken for an image until decoding says otherwise.
"""

import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
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


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Checks that the folder has images of at least 2 classes; they are read where they are."""
    found = [item for item in _entries(params.folder) if isinstance(item, SourceImage)]
    classes = {item.text for item in found}
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
        try:
            if isinstance(item, SourceImage):
                yield replace(item, content=Path(params.folder, item.name).read_bytes())
            else:
                yield item
        except OSError as error:
            yield Stray(item.name, f"can't be read: {error.strerror}")


def _entries(folder: str) -> Iterator[SourceImage | Stray]:
    """Yields the files of every class folder, not yet read, and as strays whatever else lies about."""
    try:
        root = Path(folder).resolve()
        top = {path.name for path in root.iterdir() if not _refusal(root, path) and path.is_dir()}
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link to itself
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"`dataset.folder` must be a readable folder ({reason}). Received: {folder}") from error
    depth = 2 if top <= OFFICIAL else 1
    if depth == 1 and len(top & SPLIT_NAMES) > 1:
        raise UserError(
            "`dataset.folder` must hold folders of classes, or train and test and no other (put images for validation "
            f"into train, of which `split.validation` takes its share). Received: {', '.join(sorted(top))}"
        )
    texts: dict[str, str] = {}  # of class folders, by name
    empty: set[str] = set()
    for path, reason in _walk(root):
        parts = path.relative_to(root).parts
        name, class_folder = "/".join(parts), "/".join(parts[:depth])
        if reason:
            yield Stray(name, reason)
        elif path.is_dir():
            if len(parts) == depth:
                texts[name] = _class_name(path)
                empty.add(name)
        elif len(parts) <= depth:
            yield Stray(name, "not in a class folder")
        else:
            empty.discard(class_folder)
            # One of train and test alone is no official split.
            yield SourceImage(name, texts[class_folder], parts[0] if top == OFFICIAL else None, b"")
    for name in empty:
        yield Stray(name, "class folder without images")


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Yields all files and folders of a folder, to any depth, and why they are not even tried, or ""."""
    folders = [root]
    for folder in folders:
        try:
            paths = sorted(folder.iterdir(), key=lambda path: path.name)
        except OSError as error:
            yield folder, f"can't be listed: {error.strerror}"
            continue
        for path in paths:
            reason = _refusal(root, path)
            yield path, reason
            if not reason and path.is_dir():
                folders.append(path)


def _class_name(folder: Path) -> str:
    """Returns the folder's name in Unicode's composed form, for file systems differ in how they store accents."""
    name = unicodedata.normalize("NFC", folder.name)
    if any(unicodedata.category(character) in NOT_IN_CLASS_NAMES for character in name):
        raise UserError(
            f"`dataset.folder`: class folders must have UTF-8 names without control characters. Received: {name!a}"
        )
    return name


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
