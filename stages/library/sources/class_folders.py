"""Images by class folder: CLASS/**/image, or SPLIT/CLASS/**/image where splits are official; which names are splits."""

import functools
import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from stages.library.common.console import UserError
from stages.library.sources import image_trees
from stages.library.sources.archives import Member
from stages.library.sources.contract import SourceImage, Stray

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    "test": "test",
    "testing": "test",
}
OUTSIDE = "not in a class folder"
# Control characters, undecodable bytes and line separators: a class name is a line of labels.txt.
NOT_IN_CLASS_NAMES = {"Cc", "Cs", "Zl", "Zp"}


def split_named(text: str) -> str | None:
    """Returns "train", "validation" or "test" for one of their usual names, in any case; else None."""
    return SPLIT_NAMES.get(text.strip().casefold())


def class_name(text: str) -> str | None:
    """Returns a class name in Unicode's composed form, for file systems differ there; None where it can't be one."""
    name = unicodedata.normalize("NFC", text)
    return None if any(unicodedata.category(char) in NOT_IN_CLASS_NAMES for char in name) else name


def images(root: Path, contents: bool) -> Iterator[SourceImage | Stray]:
    """Yields the images of a folder or an archive, and as strays whatever else lies about; see `image_trees.members`.

    An archive may hold one folder that holds all else. UserError: class folders and folders of splits stand side by
    side, or a class folder's name can't be a class.
    """
    outer, tops = ("", _top_folders(root)) if root.is_dir() else _inside(root)
    splits = {top: split_named(top) for top in tops}
    official = {split for split in splits.values() if split}
    has_splits = bool(splits) and all(splits.values())
    if len(official) > 1 and not has_splits:
        raise UserError(
            "`dataset.folder` must hold folders of classes, or of splits (train, validation and test, or two of them) "
            f"and no other. Received: {', '.join(sorted(tops))}"
        )
    depth = 2 if has_splits else 1
    empty: set[str] = set()
    for member in image_trees.members(root, contents):
        name = member.name.removeprefix(outer)
        parts = name.split("/")
        place = "/".join(parts[:depth])
        if member.is_folder:
            if len(parts) == depth and not outer.startswith(f"{member.name}/"):
                empty.add(name)
        elif member.rejected:
            yield Stray(name, member.rejected, is_expected=member.is_lost)
        elif len(parts) <= depth:
            yield Stray(name, OUTSIDE)
        else:
            empty.discard(place)
            # One split alone is no official one.
            split = splits[parts[0]] if len(official) > 1 else None
            yield SourceImage(name, _checked(parts[depth - 1]), split, member.content or b"")
    yield from (Stray(name, "class folder without images") for name in sorted(empty))


def _top_folders(root: Path) -> set[str]:
    listed = itertools.takewhile(lambda member: "/" not in member.name, image_trees.members(root, contents=False))
    return {member.name for member in listed if member.is_folder}


def _inside(path: Path) -> tuple[str, set[str]]:
    """Returns the path of the folders in an archive that hold all else, "" or as "a/b/", and the folders in that."""
    found = list(map(_folders, filter(_counts, image_trees.members(path, contents=False))))
    folders, holding = {parts for parts, _ in found}, {parts for parts, is_image in found if is_image}
    outer: tuple[str, ...] = ()
    while True:
        depth = len(outer)
        tops = {parts[depth] for parts in folders if len(parts) > depth}
        is_alone = len(tops) == 1 and outer not in holding and any(len(parts) > depth + 1 for parts in folders)
        if not is_alone:
            return "".join(f"{part}/" for part in outer), tops
        outer += (*tops,)


def _counts(member: Member) -> bool:
    return member.is_folder or not member.rejected


def _folders(member: Member) -> tuple[tuple[str, ...], bool]:
    parts = tuple(member.name.split("/"))
    return (parts, False) if member.is_folder else (parts[:-1], True)


@functools.lru_cache(10_000)
def _checked(folder: str) -> str:
    name = class_name(folder)
    if name is None:
        raise UserError(
            f"`dataset.folder`: class folders must have UTF-8 names without control characters. Received: {folder!a}"
        )
    return name
