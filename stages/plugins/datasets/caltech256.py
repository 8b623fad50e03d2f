"""Caltech-256: 30,607 images of about 350 pixels in 257 classes (257.clutter is one); no official split.

G. Griffin, A. Holub and P. Perona, Caltech-256 Object Category Dataset, Caltech technical report 7694, 2007.
https://data.caltech.edu/records/nyy15-4j048. A plain tar of 1.18 GB, read as a stream.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile
from stages.library.sources import published_archive
from stages.library.sources.archives import Member, tar_members
from stages.library.sources.contract import Params, SourceImage, Stray

ARCHIVE = RemoteFile(
    filename="256_ObjectCategories.tar",
    urls=("https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",),
    size_bytes=1183006720,
    sha256="08ff01b03c65566014ae88eb0490dbe4419fc7ac4de726ee1163e39fd809543e",
    md5="67b4f42ca05d46448c6bb8ecd2220f6d",
)
IMAGES = "256_ObjectCategories"


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Puts the archive into `raw`."""
    return published_archive.fetch(ARCHIVE, params, raw, cache)


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields every .jpg of the class folders, whose names, as in "001.ak47", are the classes'."""
    path = raw / ARCHIVE.filename
    if not path.exists():
        raise UserError(f"{path} is missing. Run: dvc repro fetch")
    with path.open("rb") as file:
        for member in tar_members(file, str(path)):
            folders = PurePosixPath(member.name).parts
            if reason := _refusal(member, folders):
                yield Stray(member.name, reason)
            elif member.content is not None:
                yield SourceImage("/".join(folders[1:]), folders[1], None, member.content)


def _refusal(member: Member, folders: tuple[str, ...]) -> str:
    """Returns why an entry is no image, or "" for an image and for the folders that images are in."""
    if member.is_folder:
        return "a folder within a class" if len(folders) > 2 else ""
    if len(folders) != 3 or folders[0] != IMAGES:
        return f"not {IMAGES}/CLASS/IMAGE"
    if folders[-1].startswith("."):
        return "hidden file"
    # All 30,607 images have the suffix; the one other file is 198.spider/RENAME2.
    return member.rejected or ("" if folders[-1].endswith(".jpg") else "not a .jpg")
