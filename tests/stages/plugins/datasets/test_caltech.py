"""Caltech-101 and Caltech-256, read from small archives in the published layouts."""

import gzip
import tarfile
import zipfile

import pytest

from stages.library.common.console import UserError
from stages.library.sources.contract import SourceImage, Stray
from tests.layouts import fetch_and_read, special, tar_bytes

INNER = "caltech-101/101_ObjectCategories.tar.gz"
NOT_101, NOT_256 = "not 101_ObjectCategories/CLASS/IMAGE", "not 256_ObjectCategories/CLASS/IMAGE"
LINK = "a link or device in the archive, not a file"
# (name, content or None for a folder, "" for an image or the reason; None: it is passed over)
ENTRIES_101 = [
    ("101_ObjectCategories", None, None),
    ("101_ObjectCategories/.DS_Store", b"Bud1", "hidden file"),
    ("101_ObjectCategories/BACKGROUND_Google", None, None),
    ("101_ObjectCategories/BACKGROUND_Google/image_0001.jpg", b"one", ""),
    ("101_ObjectCategories/BACKGROUND_Google/tmp", b"two", ""),
    ("101_ObjectCategories/panda/image_0001.jpg", b"three", ""),
    ("101_ObjectCategories/panda/.DS_Store", b"Bud1", "hidden file"),
    ("101_ObjectCategories/panda/._image_0001.jpg", b"apple", "hidden file"),
    ("101_ObjectCategories/README", b"text", NOT_101),
    ("101_ObjectCategories/panda/more/image_0001.jpg", b"deep", NOT_101),
    ("../elsewhere/panda/image.jpg", b"x", NOT_101),
]
ENTRIES_256 = [
    ("256_ObjectCategories", None, None),
    ("256_ObjectCategories/056.dog", None, None),
    ("256_ObjectCategories/056.dog/056_0001.jpg", b"dog", ""),
    ("256_ObjectCategories/056.dog/greg", None, "a folder within a class"),
    ("256_ObjectCategories/056.dog/greg/vision309", None, "a folder within a class"),
    ("256_ObjectCategories/198.spider", None, None),
    ("256_ObjectCategories/198.spider/198_0001.jpg", b"spider", ""),
    ("256_ObjectCategories/198.spider/RENAME2", b"#!/bin/sh\n", "not a .jpg"),
    ("256_ObjectCategories/257.clutter/257_0001.jpg", b"clutter", ""),
    ("256_ObjectCategories/README.jpg", b"x", NOT_256),
    ("256_ObjectCategories/056.dog/greg/x.jpg", b"x", NOT_256),
    ("../elsewhere/056.dog/x.jpg", b"x", NOT_256),
    ("256_ObjectCategories/056.dog/._056_0001.jpg", b"x", "hidden file"),
]


def tar(entries, link):
    """The entries, and a link after them; and what must be found in them."""
    found: list[SourceImage | Stray] = [
        Stray(name, reason) if reason else SourceImage(name.partition("/")[2], name.split("/")[1], None, content)
        for name, content, reason in entries
        if reason is not None
    ]
    files = [(name, content) for name, content, _ in entries]
    return tar_bytes(files, [special(link, tarfile.SYMTYPE, "/etc/passwd")]), [*found, Stray(link, LINK)]


TAR_101, FOUND_101 = tar(ENTRIES_101, "101_ObjectCategories/link")
TAR_256, FOUND_256 = tar(ENTRIES_256, "256_ObjectCategories/056.dog/x.jpg")
TAR_GZ = gzip.compress(TAR_101)


def write_zip(path, inner=TAR_GZ, compression=zipfile.ZIP_STORED):
    """The zip of Caltech-101 as published: a second archive beside the images, and what a Mac adds."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("caltech-101/", b"")
        archive.writestr(INNER, inner)
        archive.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", b"\0" * 120)
        archive.writestr("caltech-101/.DS_Store", b"Bud1")
        archive.writestr("caltech-101/Annotations.tar", tar_bytes([("Annotations/panda/annotation_0001.mat", b"mat")]))
        archive.writestr("caltech-101/show_annotation.m", b"%")
    return path


@pytest.mark.parametrize(
    ("name", "write", "found", "kept"),
    [
        ("caltech101", write_zip, FOUND_101, "caltech-101.zip"),
        ("caltech101", lambda path: write_zip(path, TAR_GZ, zipfile.ZIP_DEFLATED), FOUND_101, "caltech-101.zip"),
        ("caltech101", lambda path: path.write_bytes(TAR_GZ), FOUND_101, "101_ObjectCategories.tar.gz"),
        ("caltech256", lambda path: path.write_bytes(TAR_256), FOUND_256, "256_ObjectCategories.tar"),
    ],
)
def test_an_archive_is_read_whatever_its_name(tmp_path, name, write, found, kept):
    """Of Caltech-101 the zip, or the archive within it."""
    write(tmp_path / "any name")
    assert fetch_and_read(name, tmp_path / "any name", tmp_path) == found
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [kept]


# In the central directory: flags at byte 8 (1: encrypted, 0x800: the name is UTF-8), compression at byte 10.
CHANGES = {
    "encrypted": lambda content, at: content[: at + 8] + b"\1" + content[at + 9 :],
    "name that is no UTF-8": lambda content, at: (
        content[:at] + (content[at : at + 9] + b"\x08" + content[at + 10 :]).replace(b"caltech", b"\xffaltech")
    ),
    "unknown compression": lambda content, at: content[: at + 10] + b"\x63\0" + content[at + 12 :],
    "without the inner archive": lambda content, at: content.replace(b"101_Object", b"102_Object"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_zip_that_can_not_be_opened_is_a_users_error(tmp_path, change):
    path = write_zip(tmp_path / "x.zip")
    content = path.read_bytes()
    path.write_bytes(CHANGES[change](content, content.rindex(INNER.encode()) - 46))
    with pytest.raises(UserError, match=rf"must be a zip with {INNER} in it"):
        fetch_and_read("caltech101", path, tmp_path)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_does_not_decompress_is_a_users_error(tmp_path, method, place):
    path = write_zip(tmp_path / "x.zip", gzip.compress(tar_bytes([("a/1.jpg", bytes(range(256)) * 100)]), 0), method)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(INNER)
    content = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(INNER) + int(place * info.compress_size)
    content[start : start + 9] = bytes(byte ^ 0xFF for byte in content[start : start + 9])
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged or truncated"):
        fetch_and_read("caltech101", path, tmp_path)
