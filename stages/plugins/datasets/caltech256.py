"""Caltech-256: 30,607 images of about 350 pixels in 257 classes (257.clutter is one); no official split.

G. Griffin, A. Holub and P. Perona, Caltech-256 Object Category Dataset, Caltech technical report 7694, 2007.
https://data.caltech.edu/records/nyy15-4j048. A plain tar of 1.18 GB, read as a stream.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from stages.library.common.downloads import RemoteFile
from stages.library.sources import published_archive
from stages.library.sources.archives import tar_members
from stages.library.sources.contract import Params, SourceImage, Stray

ARCHIVE = RemoteFile(
    filename="256_ObjectCategories.tar",
    urls=("https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",),
    size_bytes=1183006720,
    sha256="08ff01b03c65566014ae88eb0490dbe4419fc7ac4de726ee1163e39fd809543e",
)
IMAGES = "256_ObjectCategories"


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Puts the archive into `raw`."""
    return published_archive.fetch(ARCHIVE, params, raw, cache)


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields every .jpg of the class folders, whose names, as in "001.ak47", are the classes'."""
    path = published_archive.fetched(raw / ARCHIVE.filename)
    with path.open("rb") as file:
        for member in tar_members(file, str(path)):
            if not member.is_folder:
                # All 30,607 images have the suffix; the one other file is 198.spider/RENAME2.
                yield published_archive.class_image(member, IMAGES, ".jpg")
            elif len(PurePosixPath(member.name).parts) > 2:
                yield Stray(member.name, "a folder within a class")
