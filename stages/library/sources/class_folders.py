"""Images by class folder: CLASS/**/image; with official splits SPLIT/CLASS/**/image or CLASS/SPLIT/**/image."""

import functools
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.library.common.console import UserError
from stages.library.sources import image_trees
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
    outer, tops, inner = ("", *_folders(root)) if root.is_dir() else _inside(root)
    has_splits = bool(tops) and all(map(split_named, tops))
    is_official = are_official(tops)
    if is_official and not has_splits:
        raise UserError(
            "`dataset.folder` must hold folders of classes, or of splits (train, validation and test, or two of them) "
            f"and no other. Received: {', '.join(sorted(tops))}"
        )
    is_inside = not has_splits and are_official(inner) and all(map(split_named, inner))
    depth = 2 if has_splits or is_inside else 1
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
            split = split_named(parts[is_inside]) if is_official or is_inside else None
            yield SourceImage(name, _checked(parts[has_splits]), split, member.content or b"")
    yield from (Stray(name, "class folder without images") for name in sorted(empty))


def are_official(folders: Iterable[str]) -> bool:
    """Tells whether names of folders are those of two splits at least; one split alone is no official one."""
    return len(set(filter(None, map(split_named, folders)))) > 1


def _folders(root: Path) -> tuple[set[str], set[str]]:
    """Returns the names of the folders in a folder, and of those in them: none where an image lies beside these."""
    levels: tuple[set[str], set[str]] = set(), set()
    for member in image_trees.members(root, contents=False):
        *above, name = member.name.split("/")
        if len(above) > 1:
            break
        if member.is_folder:
            levels[len(above)].add(name)
        elif above and not member.rejected:
            return levels[0], set()
    return levels


def _inside(path: Path) -> tuple[str, set[str], set[str]]:
    """Returns the path of the folders in an archive that hold all else, "" or as "a/b/", and what `_folders` does."""
    folders: set[tuple[str, ...]] = set()
    holding: set[tuple[str, ...]] = set()  # images
    for member in image_trees.members(path, contents=False):
        parts = tuple(member.name.split("/"))
        if member.is_folder:
            folders.add(parts)
        elif not member.rejected:
            holding.add(parts[:-1])
    folders |= holding
    outer: tuple[str, ...] = ()
    while True:
        depth = len(outer)
        tops = {parts[depth] for parts in folders if len(parts) > depth}
        is_alone = len(tops) == 1 and outer not in holding and any(len(parts) > depth + 1 for parts in folders)
        if not is_alone:
            beside = any(len(parts) == depth + 1 for parts in holding)
            inner = set() if beside else {parts[depth + 1] for parts in folders if len(parts) > depth + 1}
            return "".join(f"{part}/" for part in outer), tops, inner
        outer += (*tops,)


@functools.lru_cache(10_000)
def _checked(folder: str) -> str:
    name = class_name(folder)
    if name is None:
        raise UserError(
            f"`dataset.folder`: class folders must have UTF-8 names without control characters. Received: {folder!a}"
        )
    return name
