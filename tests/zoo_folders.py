"""Every kind of odd or bad entry of a folder and every kind of folder that is tried, with what must become of it.

`python -m tests.zoo_folders` prints every kind by what becomes of it, then the table of docs/reliability.md.
"""

import contextlib
import ctypes
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from tests.zoo import CONVERTED, KEPT, KINDS, Kind

ACCEPTED, NOTHING = "used", "nothing in it to be used"
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
# The rows of the table: the first pattern that a kind's name fits.
SUBJECTS = {
    "small file that unpacks to a huge one": "bomb",
    "folder": "^(empty )?folder|folders deep",
    "link": "link",
    "name of a file": r"\bname\b",
    "GIF, WebP, AVIF, BMP, ICO, PPM, TGA": "GIF|WebP|AVIF|BMP|icon|PPM|TGA",
    "JPEG": "JPEG(?! 2000)",
    "JPEG 2000": "JPEG 2000",
    "PNG": "PNG",
    "TIFF": "TIFF",
    "other": "",
}
OUTCOMES = "used as it is", "used as PNG", "rejected", "error", "skipped"


def png(path, seed):
    """Writes a small image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path, "PNG")


class Entry(NamedTuple):
    """A kind of entry of the class folder `cat`."""

    name: str  # for people
    made: bytes  # relative path of what is made there
    outcome: str  # `ACCEPTED`, `NOTHING`, or the reason in rejected.csv
    make: Callable[[Path, Path], object] | None = None  # at a path, given a folder outside the data set; None: an image
    row: str = ""  # how its name in the record or in rejected.csv begins, if that is another one


def deep(path, outside):
    """Folders in folders until no path can name the last of them."""
    path.mkdir()
    with contextlib.chdir(path):
        for _ in range(17):
            Path("d" * 255).mkdir()
            os.chdir("d" * 255)


def listening(path, outside):
    # A socket's own path may have 107 bytes only.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def closed(path, outside):
    png(path if path.suffix else path / "1.png", 91)
    path.chmod(0)


def sparse(path, outside):
    with path.open("wb") as file:
        file.truncate((256 << 20) + 1)


def linked(target):
    return lambda path, outside: path.symlink_to(target.replace("OUTSIDE", str(outside)))


NAMES = {
    "a line break": b"two\nlines.png",
    "quotes": b'"it\'s" `x`.png',
    "an emoji of several code points": "👩\u200d👩\u200d👧.png".encode(),
    "255 bytes": b"n" * 251 + b".png",
    "bytes that are no UTF-8": b"\xff\xfe\x80.png",
    "a composed accent": "caf\u00e9.png".encode(),
    "the same accent, decomposed": "cafe\u0301.png".encode(),
    "capitals, beside the same in small ones": b"A.png",
    "small letters, beside the same in capitals": b"a.png",
    "a leading dash": b"-rf.png",
    "blanks at both ends": b"  x.png ",
    "commas and semicolons": b"a,b;c.png",
    "a formula": b"=cmd|' /C calc'!A0.png",
    "format codes": b"%s{0}$x$.png",
    "a backslash": b"a\\..\\..\\x.png",
    "an escape sequence of terminals": b"\x1b[31mred\x07.png",
    "text that runs from right to left": "\u202egnp.\u05d0".encode(),
    "a pattern": b"[ab]*?.png",
    "three dots before the suffix": b"...png",
}
LEAVES = "a link that leaves the folder"
HIDDEN = "hidden or system file"
ENTRIES = [
    *(Entry(f"name with {what}", made, HIDDEN if made[:1] == b"." else ACCEPTED) for what, made in NAMES.items()),
    Entry("image 60 folders deep", b"/".join([b"f"] * 60) + b"/1.png", ACCEPTED),
    Entry("link to an image of the folder", b"link.png", ACCEPTED, linked("a.png")),
    Entry("link to a file outside", b"out.png", LEAVES, linked("OUTSIDE/secret.png")),
    Entry("link to a system file", b"passwd.png", LEAVES, linked("/etc/passwd")),
    Entry("link to an endless device", b"zero.png", LEAVES, linked("/dev/zero")),
    Entry("link to a folder outside", b"outside", LEAVES, linked("OUTSIDE")),
    Entry("link to the folder above, a circle", b"up", "a link to a folder", linked("..")),
    Entry("link to itself", b"itself.png", "can't be read: a link to itself", linked("itself.png")),
    Entry("text beside images", b"notes.txt", "not an image", lambda path, _: path.write_text("text")),
    Entry("link to nothing", b"dangling.png", "can't be read: No such file or directory", linked("nowhere")),
    Entry("folder named .jpg", b"folder.jpg", ACCEPTED, lambda path, _: png(path / "in.png", 93), "cat/folder.jpg/in"),
    Entry("empty folder within a class", b"nothing", NOTHING, lambda path, _: path.mkdir()),
    Entry("pipe named .jpg", b"pipe.jpg", "not a regular file", lambda path, _: os.mkfifo(path)),
    Entry("socket named .jpg", b"socket.jpg", "not a regular file", listening),
    Entry("file without permission", b"closed.png", "can't be read: Permission denied", closed),
    Entry("folder without permission", b"closed", "can't be listed: Permission denied", closed),
    Entry("file larger than 256 MiB", b"large.png", "larger than 256 MiB", sparse),
    Entry("folders too deep for any path", b"deep", "can't be", deep, "cat/deep/ddd"),
    Entry("hidden file", b".hidden.png", HIDDEN),
    Entry("litter of Windows", b"Thumbs.db", HIDDEN),
    Entry("litter of macOS", b".DS_Store", HIDDEN),
    Entry("thumbnails of a network drive", b"@eaDir", HIDDEN, lambda path, _: png(path / "1.png" / "T.png", 94)),
    Entry("hidden folder with images", b".more", "hidden folder with images", lambda path, _: png(path / "1.png", 95)),
]


class Folder(NamedTuple):
    """A kind of folder that is no data set."""

    name: str  # for people
    files: tuple[bytes, ...]  # paths of images; one that ends in "/" is an empty folder, one in "!" is a damaged one
    message: str  # regular expression of the error
    stage: str = "fetch"  # that says so


def some(*folders, count=12):
    return tuple(b"%s/%d.png" % (folder.encode(), index) for folder in folders for index in range(count))


FEW = r"`dataset.folder` must hold images of at least 2 classes, .* Received: .* with \d+ files in [01] classes"
NO_NAME = r"`dataset.folder`: class folders must have UTF-8 names without control characters. Received: "
FOLDERS = [
    Folder("empty", (), FEW),
    Folder("with empty class folders only", (b"cat/", b"dog/"), FEW),
    Folder("with images outside of class folders only", (b"1.png", b"2.png"), FEW),
    Folder("with one class", some("cat"), FEW),
    Folder("with one image", (b"cat/1.png",), FEW),
    Folder("with one image a class", (b"cat/1.png", b"dog/2.png"), r"no image fell into: .*Add some", "tfrecord"),
    Folder("with hidden files only in its second class", (*some("cat"), b"dog/.1.png"), FEW),
    Folder("with no file but text", (b"cat/1?", b"cat/2?", b"dog/3?"), FEW),
    Folder("with damaged images only", (b"cat/1!", b"cat/2!", b"dog/3!"), r"3 of 3 images can't be read", "tfrecord"),
    Folder("with a class without a readable image", (*some("cat", "dog", count=30), b"emu/1!"),
           r"no image of these classes can be read: emu. Mend or remove their folders", "tfrecord"),
    Folder("with too many unreadable images", (*some("cat", "dog"), *(b"cat/%d!" % index for index in range(9))),
           r"9 of 33 images can't be read \(9 not an image\), more than `tfrecord.max_rejected` = 0.05 "
           r".*'cat/0!': not an image",
           "tfrecord"),
    Folder("with train and an empty test", (*some("train/cat", "train/dog"), b"test/"), "both train and test must"),
    Folder("with splits and another folder", some("train/cat", "test/cat", "more/cat"), "or of splits .* and no other"),
    Folder("with a class whose name has a line break", some("cat", "d\nog"), NO_NAME),
    Folder("with a class whose name is no UTF-8", (*some("cat"), b"\xff/1.png"), NO_NAME),
]  # fmt: skip


@contextlib.contextmanager
def as_anyone() -> Iterator[None]:
    """Takes from the thread, where it is root's, the right to read what permissions forbid."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the lower 32 bits, then the upper
    assert libc.capget(head, data) == 0
    before = data[0]
    data[0] = before & ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(head, data) == 0
    try:
        yield
    finally:
        data[0] = before
        assert libc.capset(head, data) == 0


def outcomes() -> Iterator[tuple[str, str]]:
    """Yields the name of every kind, and which of `OUTCOMES` must become of it."""
    said = {KEPT: "used as it is", ACCEPTED: "used as it is", CONVERTED: "used as PNG", NOTHING: "skipped"}
    kinds: tuple[Kind | Entry, ...] = (*KINDS, *ENTRIES)
    for kind in kinds:
        yield kind.name, said.get(kind.outcome, "rejected")
    for folder in FOLDERS:
        yield f"folder: {folder.name}", "error"


def table() -> str:
    """Returns the number of kinds by what they are and by what becomes of them, as Markdown."""
    found = pd.DataFrame(outcomes(), columns=["name", "outcome"])
    subjects = found["name"].map(lambda name: next(label for label in SUBJECTS if re.search(SUBJECTS[label], name)))
    counts = pd.crosstab(subjects, found["outcome"], margins=True, margins_name="**all**")
    counts = counts.reindex(index=[*SUBJECTS, "**all**"], columns=[*OUTCOMES, "**all**"], fill_value=0)
    rows = [("kind of input", *counts), *counts.astype(str).replace("0", "").itertuples()]
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


if __name__ == "__main__":
    for name, outcome in outcomes():
        print(f"{outcome}: {name}")
    print(table())
