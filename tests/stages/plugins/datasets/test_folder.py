"""Folders of images as people have them: nested, linked, with litter, in any script."""

import os

import pytest

from stages.library.common.console import UserError
from stages.library.sources.contract import Params, SourceImage, Stray
from stages.plugins.datasets import folder


def put(root, *names):
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def params(root):
    return Params(name="folder", folder=str(root), archive=None, archive_sha256=None)


def read(root):
    return list(folder.read(params(root), root))


def images(root):
    return {(each.name, each.text, each.split) for each in read(root) if isinstance(each, SourceImage)}


def strays(root):
    return {each.name: each.reason for each in read(root) if isinstance(each, Stray)}


def fetch(root, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    return folder.fetch(params(root), raw, tmp_path / "cache")


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    return path


def test_class_folders_are_read_to_any_depth(root):
    put(root, "cat/1.jpg", "cat/a/b/2.png", "dog/no suffix", "dog/notes.txt")
    assert images(root) == {
        ("cat/1.jpg", "cat", None),
        ("cat/a/b/2.png", "cat", None),
        ("dog/no suffix", "dog", None),
        ("dog/notes.txt", "dog", None),
    }
    assert {each.content for each in read(root)} == {b"cat/1.jpg", b"cat/a/b/2.png", b"dog/no suffix", b"dog/notes.txt"}
    assert read(root) == read(root)


def test_train_and_test_are_the_official_split(root, tmp_path):
    put(root, "train/cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg", "test/cat/sub/2.jpg", "test/litter", "README.txt")
    assert images(root) == {
        ("train/cat/1.jpg", "cat", "train"),
        ("train/dog/1.jpg", "dog", "train"),
        ("test/cat/1.jpg", "cat", "test"),
        ("test/cat/sub/2.jpg", "cat", "test"),
    }
    assert strays(root) == {"test/litter": "not in a class folder", "README.txt": "not in a class folder"}
    assert fetch(root, tmp_path) == "4 files in 2 classes, read where they are"


@pytest.mark.parametrize("only", ["train", "test"])
def test_one_of_train_and_test_alone_is_no_split(root, only):
    put(root, f"{only}/cat/1.jpg", f"{only}/dog/1.jpg")
    assert images(root) == {(f"{only}/cat/1.jpg", "cat", None), (f"{only}/dog/1.jpg", "dog", None)}


def test_a_class_may_be_called_train(root):
    put(root, "train/1.jpg", "bus/1.jpg", "car/1.jpg")
    assert {text for _, text, _ in images(root)} == {"train", "bus", "car"}


@pytest.mark.parametrize("name", ["missing", "a file", "nul\0"])
def test_what_is_no_folder_is_an_error(tmp_path, name):
    put(tmp_path, "a file")
    with pytest.raises(UserError, match=r"`dataset.folder` must be a readable folder"):
        fetch(tmp_path / name, tmp_path)


def test_litter_is_named(root):
    put(
        root, "cat/1.jpg", "dog/1.jpg", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", ".git/HEAD", "__MACOSX/x/y"
    )
    (root / "emu" / "empty").mkdir(parents=True)
    assert len(images(root)) == 2
    hidden = dict.fromkeys(
        [".git", "__MACOSX", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini"], "hidden or system file"
    )
    assert strays(root) == hidden | {"emu": "class folder without images"}


def test_the_folder_itself_may_be_a_link(root, tmp_path):
    put(root, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "link").symlink_to(root)
    assert images(tmp_path / "link") == images(root)


# Persian with a zero-width non-joiner, an emoji joined of two, marks that sort and print oddly.


def test_composed_and_decomposed_accents_are_one_class(root):
    put(root, "train/caf\u00e9/1.jpg", "train/dog/1.jpg", "test/cafe\u0301/2.jpg", "test/dog/1.jpg")
    assert {text for _, text, _ in images(root)} == {"caf\u00e9", "dog"}


@pytest.mark.parametrize("name", [b"tab\t", "\u2028".encode()])
def test_class_names_that_no_label_file_can_hold_are_errors(root, tmp_path, name):
    put(root, name + b"/1.jpg", "dog/1.jpg")
    with pytest.raises(UserError, match=r"UTF-8 names without control characters. Received: '.*'$"):
        fetch(root, tmp_path)
