"""Caltech-101 and Caltech-256, read from small archives in the published layouts."""

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from stages.library.common.artifacts import sha256_file
from stages.library.common.console import UserError
from stages.library.records import tfrecord
from stages.library.sources.contract import SourceImage, Stray
from tests.layouts import fetch_and_read, special, tar_bytes

# Caltech-101: a tar.gz within a zip

FILES_101 = [
    ("101_ObjectCategories", None),
    ("101_ObjectCategories/.DS_Store", b"Bud1"),
    ("101_ObjectCategories/BACKGROUND_Google", None),
    ("101_ObjectCategories/BACKGROUND_Google/image_0001.jpg", b"one"),
    ("101_ObjectCategories/BACKGROUND_Google/tmp", b"two"),
    ("101_ObjectCategories/panda/image_0001.jpg", b"three"),
    ("101_ObjectCategories/panda/.DS_Store", b"Bud1"),
    ("101_ObjectCategories/panda/._image_0001.jpg", b"apple"),
    ("101_ObjectCategories/README", b"text"),
    ("101_ObjectCategories/panda/more/image_0001.jpg", b"deep"),
    ("../elsewhere/panda/image.jpg", b"x"),
]
FOUND_101 = [
    Stray("101_ObjectCategories/.DS_Store", "hidden file"),
    SourceImage("BACKGROUND_Google/image_0001.jpg", "BACKGROUND_Google", None, b"one"),
    SourceImage("BACKGROUND_Google/tmp", "BACKGROUND_Google", None, b"two"),
    SourceImage("panda/image_0001.jpg", "panda", None, b"three"),
    Stray("101_ObjectCategories/panda/.DS_Store", "hidden file"),
    Stray("101_ObjectCategories/panda/._image_0001.jpg", "hidden file"),
    Stray("101_ObjectCategories/README", "not 101_ObjectCategories/CLASS/IMAGE"),
    Stray("101_ObjectCategories/panda/more/image_0001.jpg", "not 101_ObjectCategories/CLASS/IMAGE"),
    Stray("../elsewhere/panda/image.jpg", "not 101_ObjectCategories/CLASS/IMAGE"),
    Stray("101_ObjectCategories/link", "a link or device in the archive, not a file"),
]


def inner_101():
    return gzip.compress(tar_bytes(FILES_101, [special("101_ObjectCategories/link", tarfile.SYMTYPE, "/etc/passwd")]))


def write_zip(path, inner, name="caltech-101/101_ObjectCategories.tar.gz", compression=zipfile.ZIP_STORED):
    """The zip as published: a second archive beside the images, and what a Mac adds."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("caltech-101/", b"")
        archive.writestr(name, inner)
        archive.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", b"\0" * 120)
        archive.writestr("caltech-101/.DS_Store", b"Bud1")
        archive.writestr("caltech-101/Annotations.tar", tar_bytes([("Annotations/panda/annotation_0001.mat", b"mat")]))
        archive.writestr("caltech-101/show_annotation.m", b"%")
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_caltech101_is_read_from_the_archive_within_the_zip(tmp_path, compression):
    archive = write_zip(tmp_path / "any name.zip", inner_101(), compression=compression)
    assert fetch_and_read("caltech101", archive, tmp_path) == FOUND_101
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["caltech-101.zip"]


def test_caltech101_is_read_from_the_inner_archive_alone(tmp_path):
    archive = tmp_path / "images"
    archive.write_bytes(inner_101())
    assert fetch_and_read("caltech101", archive, tmp_path) == FOUND_101
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["101_ObjectCategories.tar.gz"]


def test_caltech101_without_its_inner_archive_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match=r"must be a zip with caltech-101/101_ObjectCategories.tar.gz"):
        fetch_and_read("caltech101", write_zip(tmp_path / "x.zip", b"", name="other.tar.gz"), tmp_path)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_zip_is_a_users_error(tmp_path, place):
    inner = inner_101()
    archive = write_zip(tmp_path / "x.zip", inner)
    content = bytearray(archive.read_bytes())
    content[content.index(inner) + int(len(inner) * place)] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(UserError, match="damaged or truncated"):
        fetch_and_read("caltech101", archive, tmp_path)


# Caltech-256: a plain tar


def jpeg(mode, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12) if mode == "L" else (9, 12, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


GREY, SPIDER, DOG, CLUTTER = jpeg("L", 0), jpeg("RGB", 1), jpeg("RGB", 2), jpeg("RGB", 3)
FILES_256 = [
    ("256_ObjectCategories", None),
    ("256_ObjectCategories/056.dog", None),
    ("256_ObjectCategories/056.dog/056_0001.jpg", DOG),
    ("256_ObjectCategories/056.dog/greg", None),
    ("256_ObjectCategories/056.dog/greg/vision309", None),
    ("256_ObjectCategories/198.spider", None),
    ("256_ObjectCategories/198.spider/198_0001.jpg", SPIDER),
    ("256_ObjectCategories/198.spider/198_0002.jpg", GREY),
    ("256_ObjectCategories/198.spider/RENAME2", b"#!/bin/sh\n"),
    ("256_ObjectCategories/257.clutter/257_0001.jpg", CLUTTER),
]
FOUND_256 = [
    SourceImage("056.dog/056_0001.jpg", "056.dog", None, DOG),
    Stray("256_ObjectCategories/056.dog/greg", "a folder within a class"),
    Stray("256_ObjectCategories/056.dog/greg/vision309", "a folder within a class"),
    SourceImage("198.spider/198_0001.jpg", "198.spider", None, SPIDER),
    SourceImage("198.spider/198_0002.jpg", "198.spider", None, GREY),
    Stray("256_ObjectCategories/198.spider/RENAME2", "not a .jpg"),
    SourceImage("257.clutter/257_0001.jpg", "257.clutter", None, CLUTTER),
]


def write_tar(path, files=FILES_256, extra=()):
    path.write_bytes(tar_bytes(files, extra))
    return path


def test_caltech256_is_read_from_the_plain_tar(tmp_path):
    assert fetch_and_read("caltech256", write_tar(tmp_path / "any name"), tmp_path) == FOUND_256
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["256_ObjectCategories.tar"]


def test_other_entries_of_caltech256_are_strays(tmp_path):
    extra = [special("256_ObjectCategories/056.dog/x.jpg", tarfile.SYMTYPE, "/etc/passwd")]
    files = [
        ("256_ObjectCategories/README.jpg", b"x"),
        ("256_ObjectCategories/056.dog/greg/x.jpg", b"x"),
        ("../elsewhere/056.dog/x.jpg", b"x"),
        ("256_ObjectCategories/056.dog/._056_0001.jpg", b"x"),
    ]
    found = fetch_and_read("caltech256", write_tar(tmp_path / "x.tar", files, extra), tmp_path)
    assert [each.reason for each in found] == [
        *["not 256_ObjectCategories/CLASS/IMAGE"] * 3,
        "hidden file",
        "a link or device in the archive, not a file",
    ]


def test_caltech256_runs_through_fetch_and_tfrecord(tmp_path, write_params, run_stage):
    more = [(f"256_ObjectCategories/001.class/001_{index:04d}.jpg", jpeg("RGB", 100 + index)) for index in range(1, 30)]
    path = write_tar(tmp_path / "x.tar", FILES_256 + more)
    params = write_params(
        dataset__name="caltech256", dataset__archive=str(path), dataset__archive_sha256=sha256_file(path)
    )
    run_stage("fetch", "--params", params, "--out", tmp_path / "raw")
    out = tmp_path / "out"
    run_stage("tfrecord", "--params", params, "--raw", tmp_path / "raw", "--out", out, "--examples", tmp_path / "e.png")
    content = json.loads((out / "dataset.json").read_text())
    assert content["classes"] == ["001.class", "056.dog", "198.spider", "257.clutter"]
    assert (content["images"], content["rejected"], content["files"]) == (33, 3, {})
    shards = [shard for split in tfrecord.SPLITS for shard in tfrecord.find_shards(out, split)]
    found = {record.filename: record for shard in shards for record in tfrecord.read_shard(shard)}
    assert found["198.spider/198_0002.jpg"].encoded == GREY
