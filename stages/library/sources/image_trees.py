"""The files of a folder, a zip or a tar of one, with what is passed over there and why; nothing is unpacked to disk."""

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stages.library.common.console import UserError
from stages.library.common.named_files import named
from stages.library.sources import archives, image_files
from stages.library.sources.archives import Member

MAX_FILE_BYTES = archives.MAX_MEMBER_BYTES
HIDDEN = "hidden or system file"
HIDDEN_IMAGES = "hidden folder with images (rename it without the dot to use them)"
LEAVES = "a link that leaves the folder"
# What systems, network drives and tools leave behind, in small letters. All that begins with a dot is hidden, too; of
# these folders, nobody is told that there are images in them.
LITTER = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx", "__pycache__", "@eadir", "@tmp", "#recycle",
          "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "system volume information",
          "lost+found", "network trash folder", "temporary items"}  # fmt: skip
TOOLS = (".appledouble", ".cache", ".dvc", ".git", ".hg", ".ipynb_checkpoints", ".picasaoriginals", ".svn", ".thumb",
         ".tmp", ".trash", ".venv")  # fmt: skip


def located(folder: str) -> Path:
    """Returns where `dataset.folder` is; UserError where it is no readable folder and no archive."""
    try:
        root = named(folder).resolve()
        if not root.is_file():
            with os.scandir(root):
                pass
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link to itself, or a home that nobody knows
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"`dataset.folder` must be a readable folder, or a zip or tar of one ({reason}). Received: {folder}"
        ) from error
    return root


def check_apart(folder: str) -> None:
    """Raises UserError where `dataset.folder` holds the current folder, so that what is made here would change it."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # `located` says what is wrong
        if Path.cwd().resolve().is_relative_to(named(folder).resolve()):
            raise UserError(
                f"`dataset.folder` must hold images, not {Path.cwd()} among them. Received: {folder}. Give the folder "
                "that has the images alone"
            )


def members(root: Path, contents: bool) -> Iterator[Member]:
    """Yields folders, images, and, rejected with the reason, all else; folders above what is in them.

    Without `contents` each image's is empty: it is not read, but where only its first bytes tell what it is. UserError:
    an archive is damaged.
    """
    if root.is_dir():
        for member, entry in walk(root):
            yield member if member.is_folder or member.rejected else _read(entry.path, member.name, contents)
    else:
        yield from _in_archive(root, contents)


def _in_archive(path: Path, contents: bool) -> Iterator[Member]:
    seen: set[str] = set()
    for member in archives.members(path, lambda name: contents or not image_files.has_suffix(name)):
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        name, is_image = "/".join(parts), image_files.has_suffix(member.name)
        if ".." in parts or member.name.startswith("/"):
            yield Member(member.name, None, "a name that leaves the archive")
            continue
        hidden = next((part for part in parts if _is_litter(part)), None)
        if hidden is None:
            found = _looked_at(replace(member, name=name, is_lost=member.is_lost and is_image))
        else:
            with_images = is_image and hidden != parts[-1] and _holds_more(hidden)
            name = "/".join(parts[: parts.index(hidden) + 1])
            found = Member(name, None, HIDDEN_IMAGES if with_images else HIDDEN)
        if name in seen:
            if hidden is None and not member.is_folder:
                yield Member(name, None, "the same name stands twice in the archive")
        elif parts and not (hidden and member.is_folder):
            seen.add(name)
            yield found


def walk(root: Path) -> Iterator[tuple[Member, os.DirEntry[str]]]:
    """Yields what is in a folder, to any depth, rejected where it is not even tried, with its entry there."""
    waiting: list[tuple[str, str, os.DirEntry[str] | None]] = [(str(root), "", None)]
    for path, place, folder in waiting:
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if folder is None:
                raise
            yield Member(place, None, f"can't be listed: {error.strerror}"), folder
            continue
        for entry in entries:
            member = _examined(root, entry, f"{place}/{entry.name}" if place else entry.name)
            if member.is_folder:
                waiting.append((entry.path, member.name, entry))
            yield member, entry


def what_else(path: str, name: str) -> str | None:
    """Returns what a file is that is no image by its name nor by its first bytes; None for what may be one. OSError."""
    if image_files.has_suffix(name):
        return None
    with Path(path).open("rb") as file:
        return _looked_at(Member(name, file.read(image_files.HEAD_BYTES))).rejected


def _read(path: str, name: str, contents: bool) -> Member:
    known = image_files.has_suffix(name)
    if known and not contents:
        return Member(name, b"")
    try:
        with Path(path).open("rb") as file:
            start = b"" if known else file.read(image_files.HEAD_BYTES)
            member = _looked_at(Member(name, start))
            if member.rejected or not contents:
                return member
            # Not MAX_FILE_BYTES: to make room for so many takes longer than to read a small image.
            return Member(name, start + file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES)))
    except OSError as error:
        return Member(name, None, f"can't be read: {error.strerror}", is_lost=known)


def _looked_at(member: Member) -> Member:
    """Rejects what is no image by its name nor by its first bytes."""
    if member.content is None or image_files.should_be_image(member.name, member.content[: image_files.HEAD_BYTES]):
        return member
    return Member(member.name, None, image_files.what_else(member.content))


def _examined(root: Path, entry: os.DirEntry[str], name: str) -> Member:
    """Returns a folder's entry, not yet read; rejected where it is not even tried."""
    if _is_litter(entry.name):
        return Member(name, None, HIDDEN_IMAGES if _holds_more(entry.name) and _has_images(entry) else HIDDEN)
    try:
        if entry.is_symlink():
            target = Path(entry.path).resolve(strict=True)
            if not target.is_relative_to(root):
                return Member(name, None, LEAVES)
            if target.is_dir():
                return Member(name, None, "a link to a folder")
        status = entry.stat()
    except (OSError, RuntimeError) as error:  # a link to itself: RuntimeError, from Python 3.13 on ELOOP
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            reason = f"can't be read: {error.strerror}"
        else:
            reason = "can't be read: a link to itself"
        return Member(name, None, reason, is_lost=image_files.has_suffix(name))
    if stat.S_ISDIR(status.st_mode):
        return Member(name, None, is_folder=True)
    if not stat.S_ISREG(status.st_mode):
        return Member(name, None, "not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        reason = f"larger than {MAX_FILE_BYTES >> 20} MiB"
        return Member(name, None, reason, is_lost=image_files.has_suffix(name))
    return Member(name, b"")


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


def _holds_more(name: str) -> bool:
    """Tells whether a hidden folder may be one that somebody hid by mistake."""
    return name.startswith(".") and not name.lower().startswith(TOOLS)


def _has_images(entry: os.DirEntry[str]) -> bool:
    """Tells whether a folder has images, in it or in the folders in it."""
    try:
        if not entry.is_dir(follow_symlinks=False):
            return False
        names = (name for _, _, files in os.walk(entry.path) for name in files)
        return any(image_files.has_suffix(name) for name in itertools.islice(names, 10_000))
    except (OSError, RecursionError):
        return False
