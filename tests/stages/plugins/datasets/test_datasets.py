"""Digits and Fashion-MNIST from small copies in the published layouts, and what all archives have in common."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from stages.library.common import downloads
from stages.library.common.console import UserError
from stages.library.sources import contract as datasets
from stages.library.sources import published_archive
from stages.library.sources.contract import Place
from stages.plugins.datasets import caltech101, caltech256, cifar10, cifar100, fashion_mnist
from tests.layouts import fetch_and_read, params


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(downloads, "_download", lambda *_: "no network")


def test_digits_scale_exactly(tmp_path):
    from sklearn.datasets import load_digits

    found = fetch_and_read("digits", None, tmp_path)
    expected = load_digits()
    named = [(f"{index:04d}", str(label), None) for index, label in enumerate(expected.target)]
    assert [(each.name, each.text, each.split) for each in found] == named
    table = np.array([round(255 - value * 255 / 16) for value in range(17)], np.uint8)
    for got, image in zip(found, expected.images, strict=True):
        assert got.content.dtype == np.uint8
        np.testing.assert_array_equal(got.content, table[image.astype(int)])


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """Small files in place of the published ones; and as the Debian package has them, compressed anew."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (12, 5, 4)),
        "train-labels-idx1-ubyte.gz": np.arange(12) % 10,
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (3, 5, 4)),
        "t10k-labels-idx1-ubyte.gz": np.array([9, 0, 4]),
    }
    for folder in ("debian", "published"):
        (tmp_path / folder).mkdir()
    for name, array in arrays.items():
        published = gzip.compress(idx(array), 9)
        (tmp_path / "published" / name).write_bytes(published)
        (tmp_path / "debian" / name).write_bytes(gzip.compress(idx(array), 1))
        monkeypatch.setitem(fashion_mnist.FILES, name, (len(published), hashlib.md5(published).hexdigest()))
        monkeypatch.setitem(fashion_mnist.CONTENT_SHA256, name, hashlib.sha256(idx(array)).hexdigest())
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    return arrays


@pytest.mark.parametrize("installed", [True, False])
def test_fashion_mnist_is_taken_from_the_debian_package_or_the_cache(fashion, tmp_path, no_network, installed):
    if not installed:
        (tmp_path / "published").rename(tmp_path / "cache")
        for number, path in enumerate((tmp_path / "debian").iterdir()):
            path.write_bytes(path.read_bytes()[:-9])
            if number % 2:
                path.unlink()
    found = fetch_and_read("fashion_mnist", None, tmp_path)
    assert [each.name for each in found][-4:] == ["train/00011", "test/00000", "test/00001", "test/00002"]
    assert [each.split for each in found] == ["train"] * 12 + ["test"] * 3
    assert [each.place for each in found[10:13]] == [*(Place("train", at, 12) for at in (10, 11)), Place("test", 0, 3)]
    assert [each.text for each in found][-3:] == ["ankle_boot", "t_shirt_top", "coat"]
    pixels = [fashion[f"{name}-images-idx3-ubyte.gz"] for name in ("train", "t10k")]
    np.testing.assert_array_equal([each.content for each in found], np.concatenate(pixels))
    for path in (tmp_path / "debian").iterdir():  # copied: what the pipeline does to its outs must not reach them
        assert not path.samefile(tmp_path / "raw" / path.name)
    with pytest.raises(UserError, match=r"`dataset.archive` must be null for fashion_mnist"):
        fashion_mnist.fetch(params("fashion_mnist", "x", "0" * 64), tmp_path, tmp_path)


def head(*fields):
    return struct.pack(">HBB3I", *fields)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (idx(np.zeros(9)), "no IDX file of bytes in 3 dimensions"),
        (head(0, 13, 3, 1, 1, 1) + b"1234", "no IDX file of bytes in 3 dimensions"),
        (head(0, 8, 3, 2, 2, 2) + b"1234567", "must hold 8 bytes"),
        (head(0, 8, 3, 2, 2, 2) + b"123456789", "must hold 8 bytes"),
        (head(0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "no IDX file"),
        (head(0, 8, 3, 0, 2**32 - 1, 2**32 - 1), "no IDX file"),
        (b"\0\0", "images.gz is damaged"),
        (None, "images.gz is damaged"),
    ],
)
def test_idx_files_must_be_what_their_header_says(tmp_path, content, reason):
    path = tmp_path / "images.gz"
    whole = gzip.compress(idx(np.zeros((1, 2, 3))), mtime=0)
    for written in (b"", b"plain", whole[:-5]) if content is None else [gzip.compress(content)]:
        path.write_bytes(written)
        with pytest.raises(UserError, match=reason):
            fashion_mnist.read_idx(path, 3)


@pytest.mark.parametrize("labels", [np.arange(11), np.full(12, 10)])
def test_labels_must_fit_the_images(fashion, tmp_path, labels):
    module, chosen, raw = datasets.lookup("fashion_mnist"), params("fashion_mnist"), tmp_path
    module.fetch(chosen, raw, tmp_path / "cache")
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(UserError, match="train has 12 images and"):
        list(module.read(chosen, raw))


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "caltech101", "caltech256", "cifar10", "cifar100"])
def test_what_was_not_fetched_is_a_users_error(tmp_path, name):
    with pytest.raises(UserError, match=r"dvc repro|must be a zip"):
        list(datasets.lookup(name).read(params(name), tmp_path))


@pytest.mark.parametrize("module", [caltech101, caltech256, cifar10, cifar100])
def test_an_archive_that_does_not_fit_or_can_not_be_had_is_a_users_error(tmp_path, module, no_network):
    archive = tmp_path / "archive"
    archive.write_bytes(b"x")
    with pytest.raises(UserError, match=r"`dataset.archive_sha256` must be"):
        module.fetch(params("digits", archive, "0" * 64), tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"or give its path as `dataset.archive`, with `dataset.archive_sha256`"):
        module.fetch(params("digits"), tmp_path, tmp_path / "cache")


def test_the_archive_in_the_cache_is_used(tmp_path, no_network):
    content, name = b"PK\5\6" + bytes(18), "images.zip"  # an empty zip
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).write_bytes(content)
    published = downloads.RemoteFile(name, ("https://nowhere.invalid",), None, hashlib.sha256(content).hexdigest())
    assert published_archive.fetch(published, params("digits"), tmp_path, tmp_path / "cache", unzipped="x") == name
    assert (tmp_path / name).samefile(tmp_path / "cache" / name)
