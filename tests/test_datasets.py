"""Data sets that come as archives and arrays, read from small copies in their published layouts."""

import gzip
import hashlib
import struct
import tarfile
import zipfile
from typing import Any

import numpy as np
import pytest

from stages.library import datasets, downloads
from stages.library.artifacts import sha256_file
from stages.library.console import UserError
from stages.library.datasets import Params, Picture, Stray, caltech101, cifar10, fashion_mnist
from tests.test_archives import special, tar_bytes


def params(name, archive=None, sha256=None):
    if archive is not None:
        sha256 = sha256 or sha256_file(archive)
    return Params(name=name, folder="-", archive=archive and str(archive), archive_sha256=sha256)


def fetch_and_read(name, archive, tmp_path):
    chosen, module = params(name, archive), datasets.lookup(name)
    raw = tmp_path / "raw"
    raw.mkdir()
    module.fetch(chosen, raw, tmp_path / "cache")
    return list(module.read(chosen, raw))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise UserError("no network")

    monkeypatch.setattr(downloads, "_download", refuse)


# Digits


def test_digits_scale_exactly(tmp_path):
    from sklearn.datasets import load_digits

    found = fetch_and_read("digits", None, tmp_path)
    expected = load_digits()
    assert [each.name for each in found] == [f"{index:04d}" for index in range(1797)]
    assert [each.text for each in found] == [str(label) for label in expected.target]
    assert {each.split for each in found} == {None}
    table = np.array([round(255 - value * 255 / 16) for value in range(17)], np.uint8)
    for picture, image in zip(found, expected.images, strict=True):
        assert picture.content.dtype == np.uint8
        np.testing.assert_array_equal(picture.content, table[image.astype(int)])


# Fashion-MNIST


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """Small files in place of the published ones, which stand in the Debian package's folder."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (12, 5, 4)),
        "train-labels-idx1-ubyte.gz": np.arange(12) % 10,
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (3, 5, 4)),
        "t10k-labels-idx1-ubyte.gz": np.array([9, 0, 4]),
    }
    folder, files = tmp_path / "debian", {}
    folder.mkdir()
    for name, array in arrays.items():
        published = gzip.compress(idx(array), 9)
        (folder / name).write_bytes(gzip.compress(idx(array), 1))
        files[name] = (len(published), hashlib.md5(published).hexdigest(), hashlib.sha256(idx(array)).hexdigest())
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", folder)
    return arrays


def check_fashion(found, arrays):
    assert [each.name for each in found][-4:] == ["train/00011", "test/00000", "test/00001", "test/00002"]
    assert [each.split for each in found] == ["train"] * 12 + ["test"] * 3
    assert [each.text for each in found][-3:] == ["ankle_boot", "t_shirt_top", "coat"]
    np.testing.assert_array_equal(
        [each.content for each in found],
        np.concatenate([arrays["train-images-idx3-ubyte.gz"], arrays["t10k-images-idx3-ubyte.gz"]]),
    )


def test_fashion_mnist_is_taken_from_the_debian_package(fashion, tmp_path, no_network):
    check_fashion(fetch_and_read("fashion_mnist", None, tmp_path), fashion)
    for name in fashion:  # a copy: what the pipeline does to its outs must not reach the system's files
        assert not (tmp_path / "raw" / name).samefile(tmp_path / "debian" / name)


def test_fashion_mnist_is_taken_from_the_cache_where_the_package_is_missing_or_damaged(fashion, tmp_path, no_network):
    (tmp_path / "cache").mkdir()
    for number, (name, array) in enumerate(fashion.items()):
        (tmp_path / "cache" / name).write_bytes(gzip.compress(idx(array), 9))
        debian = tmp_path / "debian" / name
        if number % 2:
            debian.write_bytes(debian.read_bytes()[:-9])
        else:
            debian.unlink()
    # The published hash is of the compressed file, which carries a time.
    files: dict[str, Any] = {
        name: (None, hashlib.md5((tmp_path / "cache" / name).read_bytes()).hexdigest(), content)
        for name, (_, _, content) in fashion_mnist.FILES.items()
    }
    fashion_mnist.FILES.update(files)
    check_fashion(fetch_and_read("fashion_mnist", None, tmp_path), fashion)


def test_fashion_mnist_takes_no_archive(tmp_path):
    with pytest.raises(UserError, match=r"`dataset.archive` must be null for fashion_mnist"):
        fashion_mnist.fetch(params("fashion_mnist", "x", "0" * 64), tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (struct.pack(">HBBI", 0, 8, 1, 9) + b"123456789", "no IDX file of bytes in 3 dimensions"),
        (struct.pack(">HBB3I", 0, 13, 3, 1, 1, 1) + b"1234", "no IDX file of bytes in 3 dimensions"),
        (struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + b"1234567", "must hold 8 bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + b"123456789", "must hold 8 bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "no IDX file"),
        (b"\0\0", "damaged"),
    ],
)
def test_idx_files_must_be_what_their_header_says(tmp_path, content, reason):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=reason):
        fashion_mnist.read_idx(path, 3)


@pytest.mark.parametrize("content", [b"", b"plain", gzip.compress(idx(np.zeros((1, 2, 3))))[:-5]])
def test_idx_files_must_be_whole(tmp_path, content):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"images.gz is damaged"):
        fashion_mnist.read_idx(path, 3)


@pytest.mark.parametrize("labels", [np.arange(11), np.full(12, 10)])
def test_labels_must_fit_the_pictures(fashion, tmp_path, labels):
    module, chosen, raw = datasets.lookup("fashion_mnist"), params("fashion_mnist"), tmp_path
    module.fetch(chosen, raw, tmp_path / "cache")
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(UserError, match="train has 12 pictures and"):
        list(module.read(chosen, raw))


# Caltech-101

CALTECH_FILES = [
    ("101_ObjectCategories/BACKGROUND_Google/image_0001.jpg", b"one"),
    ("101_ObjectCategories/BACKGROUND_Google/tmp", b"two"),
    ("101_ObjectCategories/panda/image_0001.jpg", b"three"),
    ("101_ObjectCategories/panda/._image_0001.jpg", b"apple"),
    ("101_ObjectCategories/README", b"text"),
    ("101_ObjectCategories/panda/more/image_0001.jpg", b"deep"),
    ("../elsewhere/panda/image.jpg", b"x"),
]
CALTECH_FOUND = [
    Picture("BACKGROUND_Google/image_0001.jpg", "BACKGROUND_Google", None, b"one"),
    Picture("BACKGROUND_Google/tmp", "BACKGROUND_Google", None, b"two"),
    Picture("panda/image_0001.jpg", "panda", None, b"three"),
    Stray("101_ObjectCategories/panda/._image_0001.jpg", "hidden file"),
    Stray("101_ObjectCategories/README", "not 101_ObjectCategories/CLASS/PICTURE"),
    Stray("101_ObjectCategories/panda/more/image_0001.jpg", "not 101_ObjectCategories/CLASS/PICTURE"),
    Stray("../elsewhere/panda/image.jpg", "not 101_ObjectCategories/CLASS/PICTURE"),
    Stray("101_ObjectCategories/link", "a link or device in the archive, not a file"),
]


def caltech_tar_gz():
    folder = special("101_ObjectCategories/panda", tarfile.DIRTYPE)
    return gzip.compress(
        tar_bytes(CALTECH_FILES, [folder, special("101_ObjectCategories/link", tarfile.SYMTYPE, "/etc/passwd")])
    )


def write_zip(path, inner, name="caltech-101/101_ObjectCategories.tar.gz"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", b"\0" * 120)
        archive.writestr("caltech-101/Annotations.tar", b"not read")
        archive.writestr(name, inner)
    return path


def test_caltech101_is_read_from_the_archive_within_the_zip(tmp_path):
    archive = write_zip(tmp_path / "any name.zip", caltech_tar_gz())
    assert fetch_and_read("caltech101", archive, tmp_path) == CALTECH_FOUND
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["caltech-101.zip"]


def test_caltech101_is_read_from_the_inner_archive_alone(tmp_path):
    archive = tmp_path / "pictures"
    archive.write_bytes(caltech_tar_gz())
    assert fetch_and_read("caltech101", archive, tmp_path) == CALTECH_FOUND


def test_caltech101_without_its_inner_archive_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match=r"must be a zip with caltech-101/101_ObjectCategories.tar.gz"):
        fetch_and_read("caltech101", write_zip(tmp_path / "x.zip", b"", name="other.tar.gz"), tmp_path)


def test_caltech101_with_a_truncated_inner_archive_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="damaged or truncated"):
        fetch_and_read("caltech101", write_zip(tmp_path / "x.zip", caltech_tar_gz()[:-30]), tmp_path)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_zip_is_a_users_error(tmp_path, place):
    inner = caltech_tar_gz()
    archive = write_zip(tmp_path / "x.zip", inner)
    content = bytearray(archive.read_bytes())
    content[content.index(inner) + int(len(inner) * place)] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(UserError, match="damaged or truncated"):
        fetch_and_read("caltech101", archive, tmp_path)


# CIFAR-10

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def python2(value):
    """Protocol 2 as Python 2 wrote it: every string a byte string, NumPy's old module path."""
    match value:
        case dict():
            return b"}" + b"".join(python2(key) + python2(each) + b"s" for key, each in value.items())
        case list():
            return b"](" + b"".join(python2(each) for each in value) + b"e"
        case int():
            return b"J" + struct.pack("<i", value)
        case np.ndarray():
            shape = b"(" + b"".join(python2(side) for side in value.shape) + b"t"
            dtype = b"cnumpy\ndtype\n(U\2u1K\0K\1tR(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
            start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR"
            return start + b"(K\1" + shape + dtype + b"\x89" + python2(value.tobytes()) + b"tb"
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case _:
            return python2(value.encode())


def cifar_members(change=lambda name, batch: batch):
    """The seven files of a tiny CIFAR-10, in the order of the published archive: the names come late."""
    members, rng = [("cifar-10-batches-py/readme.html", b"<html></html>")], np.random.default_rng(0)
    for name in [
        "data_batch_4",
        "data_batch_1",
        "test_batch",
        "batches.meta",
        "data_batch_3",
        "data_batch_2",
        "data_batch_5",
    ]:
        if name == "batches.meta":
            batch = {"num_cases_per_batch": 2, "label_names": CIFAR_CLASSES, "num_vis": 3072}
        else:
            data = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
            names = ["leptodactylus_s_000004.png", "camion_s_000148.png"]
            batch = {"batch_label": name, "labels": [6, 9], "data": data, "filenames": names}
        members.append((f"cifar-10-batches-py/{name}", b"\x80\2" + python2(change(name, batch)) + b"."))
    return members


def cifar_archive(tmp_path, members):
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes(members)))
    return path


def test_cifar10_is_read_as_published(tmp_path):
    batches: dict[str, Any] = {}

    def keep(name, batch):
        return batches.setdefault(name, batch)

    found = fetch_and_read("cifar10", cifar_archive(tmp_path, cifar_members(keep)), tmp_path)
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["cifar-10-python.tar.gz"]
    assert len(found) == len({each.name for each in found}) == 12
    assert found[0].name == "data_batch_4/leptodactylus_s_000004.png"
    assert [each.text for each in found] == ["frog", "truck"] * 6
    assert {each.name.split("/")[0] for each in found if each.split == "test"} == {"test_batch"}
    row = batches["data_batch_1"]["data"][1]
    picture = next(each for each in found if each.name == "data_batch_1/camion_s_000148.png")
    assert picture.split == "train"
    assert picture.content.shape == (32, 32, 3)
    for channel in range(3):
        for y, x in ((0, 0), (0, 31), (7, 3), (31, 31)):
            assert picture.content[y, x, channel] == row[channel * 1024 + y * 32 + x]


@pytest.mark.parametrize("names", [None, ["same.png", "same.png"]])
def test_cifar10_without_usable_file_names_is_numbered(tmp_path, names):
    def change(name, batch):
        if name != "batches.meta":
            del batch["filenames"]
            if names:
                batch["filenames"] = names
        return batch

    found = fetch_and_read("cifar10", cifar_archive(tmp_path, cifar_members(change)), tmp_path)
    assert [each.name for each in found][:3] == ["data_batch_4/00000", "data_batch_4/00001", "data_batch_1/00000"]


def test_strays_in_cifar10_are_named(tmp_path):
    members = [*cifar_members(), ("cifar-10-batches-py/._test_batch", b"x"), ("cifar-10-batches-py/data_batch_1", b"x")]
    found = fetch_and_read("cifar10", cifar_archive(tmp_path, members), tmp_path)
    assert [each for each in found if isinstance(each, Stray)] == [
        Stray("cifar-10-batches-py/._test_batch", "not a batch of CIFAR-10"),
        Stray("cifar-10-batches-py/data_batch_1", "not a batch of CIFAR-10"),
    ]


def test_a_pickle_that_calls_something_is_refused(tmp_path):
    members = [*cifar_members()[:-1], ("cifar-10-batches-py/data_batch_5", b"cos\nsystem\n(S'touch PROOF'\ntR.")]
    with pytest.raises(UserError, match=r"data_batch_5 is refused: its pickle calls os\.system"):
        fetch_and_read("cifar10", cifar_archive(tmp_path, members), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("data", np.zeros((2, 3071), np.uint8), r"`data` must be uint8 \(n, 3072\). Received: \(2, 3071\)"),
        ("data", [1, 2], "`data` must be uint8"),
        ("labels", [1], "`labels` must be a list of 2 numbers"),
        ("labels", [1, 10], "`labels` must be whole numbers from 0 to 9"),
        ("labels", ["1", "2"], "`labels` must be whole numbers from 0 to 9"),
        ("label_names", ["cat"], "`label_names` must be a list of 10 names"),
    ],
)
def test_batches_must_be_what_they_claim(tmp_path, key, value, reason):
    def change(name, batch):
        return batch | {key: value} if key in batch else batch

    with pytest.raises(UserError, match=reason):
        fetch_and_read("cifar10", cifar_archive(tmp_path, cifar_members(change)), tmp_path)


@pytest.mark.parametrize("missing", ["batches.meta", "data_batch_3", "test_batch"])
def test_a_missing_batch_is_a_users_error(tmp_path, missing):
    members = [member for member in cifar_members() if not member[0].endswith(missing)]
    with pytest.raises(UserError, match=f"lacks cifar-10-batches-py/{missing}"):
        fetch_and_read("cifar10", cifar_archive(tmp_path, members), tmp_path)


# All of them


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "caltech101", "cifar10"])
def test_what_was_not_fetched_is_a_users_error(tmp_path, name):
    with pytest.raises(UserError, match=r"dvc repro|must be a zip"):
        list(datasets.lookup(name).read(params(name), tmp_path))


@pytest.mark.parametrize("module", [caltech101, cifar10])
def test_a_hash_that_does_not_fit_is_a_users_error(tmp_path, module):
    archive = tmp_path / "archive"
    archive.write_bytes(b"x")
    with pytest.raises(UserError, match=r"`dataset.archive_sha256` must be"):
        module.fetch(params("digits", archive, "0" * 64), tmp_path, tmp_path)


@pytest.mark.parametrize("module", [caltech101, cifar10])
def test_without_network_the_remedy_is_named(tmp_path, module, monkeypatch):
    def unreachable(*_):
        raise downloads._AttemptError("no connection")

    monkeypatch.setattr(downloads, "_download", unreachable)
    with pytest.raises(UserError, match=r"or give its path as `dataset.archive`, with `dataset.archive_sha256`"):
        module.fetch(params("digits"), tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("module", [caltech101, cifar10])
def test_the_archive_in_the_cache_is_used(tmp_path, module, monkeypatch, no_network):
    content = b"archive"
    name = module.ARCHIVE.filename
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).write_bytes(content)
    published = downloads.RemoteFile(name, module.ARCHIVE.urls, None, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(module, "ARCHIVE", published)
    module.fetch(params("digits"), tmp_path, tmp_path / "cache")
    assert (tmp_path / name).samefile(tmp_path / "cache" / name)
