"""Folders of images as people have them: nested, linked, with litter, in any script."""

import os

import pytest

from stages.library.common.console import UserError
from stages.library.sources.contract import SourceImage, Stray
from stages.plugins.datasets import folder
from tests.layouts import params


def put(root, *names):
    """Makes files whose content is their name; one that ends in "/" is an empty folder."""
    for name in names:
        path = root / os.fsdecode(name)
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(os.fsencode(name))


def read(root):
    """The images, whose content is their name here, with class and split; and the reasons of the strays."""
    found = list(folder.read(params("folder", folder=root), root))
    images = [each for each in found if isinstance(each, SourceImage)]
    assert all(each.content == os.fsencode(each.name) for each in images)
    strays = {each.name: each.reason for each in found if isinstance(each, Stray)}
    return {each.name: (each.text, each.split) for each in images}, strays


def fetch(root, tmp_path):
    (tmp_path / "raw").mkdir(exist_ok=True)
    return folder.fetch(params("folder", folder=root), tmp_path / "raw", tmp_path / "cache")


HIDDEN, OUTSIDE = "hidden or system file", "not in a class folder"
SPLIT = {"train/dog/1.jpg": ("dog", "train"), "test/dog/1.jpg": ("dog", "test")}


@pytest.mark.parametrize(
    ("images", "strays", "more"),
    [
        # To any depth, whatever the suffix.
        ({"cat/1.jpg": "cat", "cat/a/b/2.png": "cat", "dog/no suffix": "dog", "dog/notes.txt": "dog"}, {}, ()),
        # One of train and test alone is no split, and a class may be called train.
        ({"train/cat/1.jpg": "cat", "train/dog/1.jpg": "dog"}, {}, ()),
        ({"test/cat/1.jpg": "cat", "test/dog/1.jpg": "dog"}, {}, ()),
        ({"train/1.jpg": "train", "bus/1.jpg": "bus", "car/1.jpg": "car"}, {}, ()),
        # Both are the official one.
        (SPLIT | {"test/cat/a/2.jpg": ("cat", "test")}, dict.fromkeys(["test/litter", "README.txt"], OUTSIDE), ()),
        # Composed and decomposed accents are one class.
        (SPLIT | {"train/caf\u00e9/1": ("caf\u00e9", "train"), "test/cafe\u0301/2": ("caf\u00e9", "test")}, {}, ()),
        (
            {"cat/1.jpg": "cat", "dog/1.jpg": "dog"},
            dict.fromkeys(["cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", ".git", "__MACOSX"], HIDDEN)
            | {"emu": "class folder without images"},
            (".git/HEAD", "__MACOSX/x/y", "emu/empty/"),
        ),
    ],
)
def test_class_folders_are_read_with_their_litter(tmp_path, images, strays, more):
    root = tmp_path / "images"
    put(root, *images, *more, *(name for name in strays if not any(f"{name}/" in each for each in more)))
    expected = {name: (found, None) if isinstance(found, str) else found for name, found in images.items()}
    assert read(root) == (expected, strays)
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link") == read(root)
    classes = {text for text, _ in expected.values()}
    assert fetch(root, tmp_path) == f"{len(images)} files in {len(classes)} classes, read where they are"


NO_FOLDER = r"`dataset.folder` must be a readable folder"
NO_NAME = r"UTF-8 names without control characters. Received: '.*'$"


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", NO_FOLDER), ("a file", NO_FOLDER), ("nul\0", NO_FOLDER), ("tab", NO_NAME), ("separator", NO_NAME)],
)
def test_what_is_no_folder_and_class_names_that_no_label_file_can_hold_are_errors(tmp_path, name, message):
    put(tmp_path, "a file", "tab/\t/1.jpg", "tab/dog/1.jpg", "separator/\u2028/1.jpg", "separator/dog/1.jpg")
    with pytest.raises(UserError, match=message):
        fetch(tmp_path / name, tmp_path)
