"""Folders of images as people have them: nested, linked, with litter, in any script."""

import os

import pytest

from stages.library.common.console import UserError
from stages.library.sources.contract import SourceImage, Stray
from stages.plugins.datasets import folder
from tests.layouts import params


def put(root, *names):
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def read(root):
    """The images, whose content is their name here, with class and split; and the reasons of the strays."""
    found = list(folder.read(params("folder", folder=root), root))
    images = [each for each in found if isinstance(each, SourceImage)]
    assert all(each.content == os.fsencode(each.name) for each in images)
    return {each.name: (each.text, each.split) for each in images}, {
        each.name: each.reason for each in found if isinstance(each, Stray)
    }


def fetch(root, tmp_path):
    (tmp_path / "raw").mkdir(exist_ok=True)
    return folder.fetch(params("folder", folder=root), tmp_path / "raw", tmp_path / "cache")


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("images", "strays"),
    [
        # To any depth, whatever the suffix.
        ({"cat/1.jpg": "cat", "cat/a/b/2.png": "cat", "dog/no suffix": "dog", "dog/notes.txt": "dog"}, {}),
        # One of train and test alone is no split, and a class may be called train.
        ({"train/cat/1.jpg": "cat", "train/dog/1.jpg": "dog"}, {}),
        ({"test/cat/1.jpg": "cat", "test/dog/1.jpg": "dog"}, {}),
        ({"train/1.jpg": "train", "bus/1.jpg": "bus", "car/1.jpg": "car"}, {}),
        (
            {"cat/1.jpg": "cat", "dog/1.jpg": "dog"},
            dict.fromkeys(["cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini"], "hidden or system file"),
        ),
    ],
)
def test_class_folders_are_read_with_their_litter(root, tmp_path, images, strays):
    put(root, *images, *strays)
    assert read(root) == ({name: (text, None) for name, text in images.items()}, strays)
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link") == read(root)


def test_train_and_test_are_the_official_split(root, tmp_path):
    put(root, "train/cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg", "test/cat/sub/2.jpg", "test/litter", "README.txt")
    images = {
        "train/cat/1.jpg": ("cat", "train"),
        "train/dog/1.jpg": ("dog", "train"),
        "test/cat/1.jpg": ("cat", "test"),
        "test/cat/sub/2.jpg": ("cat", "test"),
    }
    assert read(root) == (images, dict.fromkeys(["test/litter", "README.txt"], "not in a class folder"))
    assert fetch(root, tmp_path) == "4 files in 2 classes, read where they are"


def test_hidden_and_empty_folders_are_named(root):
    put(root, "cat/1.jpg", ".git/HEAD", "__MACOSX/x/y")
    (root / "emu" / "empty").mkdir(parents=True)
    hidden = dict.fromkeys([".git", "__MACOSX"], "hidden or system file")
    assert read(root) == ({"cat/1.jpg": ("cat", None)}, hidden | {"emu": "class folder without images"})


def test_what_is_no_folder_is_an_error(tmp_path):
    put(tmp_path, "a file")
    for name in ("missing", "a file", "nul\0"):
        with pytest.raises(UserError, match=r"`dataset.folder` must be a readable folder"):
            fetch(tmp_path / name, tmp_path)


def test_composed_and_decomposed_accents_are_one_class(root):
    put(root, "train/caf\u00e9/1.jpg", "train/dog/1.jpg", "test/cafe\u0301/2.jpg", "test/dog/1.jpg")
    assert {text for text, _ in read(root)[0].values()} == {"caf\u00e9", "dog"}


@pytest.mark.parametrize("name", [b"tab\t", "\u2028".encode()])
def test_class_names_that_no_label_file_can_hold_are_errors(root, tmp_path, name):
    put(root, name + b"/1.jpg", "dog/1.jpg")
    with pytest.raises(UserError, match=r"UTF-8 names without control characters. Received: '.*'$"):
        fetch(root, tmp_path)
