"""Caltech-101: 9,145 images of about 300 x 200 pixels in 102 classes (BACKGROUND_Google is one); no official split.

L. Fei-Fei, R. Fergus and P. Perona, Learning Generative Visual Models from Few Training Examples, CVPR 2004 workshop.
https://data.caltech.edu/records/mzrjq-6wc02, CC BY 4.0. The zip holds a tar.gz, which is read in place.
"""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile
from stages.library.sources import published_archive
from stages.library.sources.archives import tar_gz_members
from stages.library.sources.contract import Params, SourceImage, Stray

ARCHIVE = RemoteFile(
    filename="caltech-101.zip",
    urls=("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
    size_bytes=137414764,
    sha256="331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
)
IMAGES = "101_ObjectCategories"


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Puts the zip into `raw`, or the tar.gz from within it where `dataset.archive` is that."""
    return published_archive.fetch(ARCHIVE, params, raw, cache, unzipped=f"{IMAGES}.tar.gz")


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields every file of 101_ObjectCategories; one has no suffix (BACKGROUND_Google/tmp), and is an image too."""
    bare, path = raw / f"{IMAGES}.tar.gz", raw / ARCHIVE.filename
    with contextlib.ExitStack() as stack:
        try:
            if bare.exists():
                file: IO[bytes] = stack.enter_context(bare.open("rb"))
            else:
                archive = stack.enter_context(zipfile.ZipFile(path))
                file = stack.enter_context(archive.open(f"caltech-101/{IMAGES}.tar.gz"))
        # RuntimeError: it is encrypted; ValueError: a name that is no UTF-8.
        except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{path} must be a zip with caltech-101/{IMAGES}.tar.gz in it ({error})") from error
        for member in tar_gz_members(file, f"{raw}: {IMAGES}.tar.gz"):
            yield published_archive.class_image(member, IMAGES)
