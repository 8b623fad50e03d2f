"""Folders of images as people have them: nested, linked, with litter, in any script, packed, split in any words."""

import os
import shutil

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
    return root


def read(root):
    """The images, whose content is their name here, with class and split; and the reasons of the strays."""
    found = list(folder.read(params("folder", folder=root), root))
    images = [each for each in found if isinstance(each, SourceImage)]
    assert all(os.fsdecode(bytes(each.content)).endswith(each.name) for each in images)
    strays = {each.name: each.reason for each in found if isinstance(each, Stray)}
    return {each.name: (each.text, each.split) for each in images}, strays


def fetch(root, tmp_path):
    (tmp_path / "raw").mkdir(exist_ok=True)
    return folder.fetch(params("folder", folder=root), tmp_path / "raw", tmp_path / "cache")


HIDDEN, OUTSIDE, OTHER = "hidden or system file", "not in a class folder", "not an image"
SPLIT = {"train/dog/1.jpg": ("dog", "train"), "test/dog/1.jpg": ("dog", "test")}
INSIDE = {
    "cat/train/1.jpg": ("cat", "train"),
    "cat/TEST/2.jpg": ("cat", "test"),
    "dog/val/a/3.jpg": ("dog", "validation"),
}
CAPITALS = {"Training/a/1.jpg": ("a", "train"), "TEST/b/1.jpg": ("b", "test"), "Dev/a/1.jpg": ("a", "validation")}


@pytest.mark.parametrize(
    ("images", "strays", "more"),
    [
        # To any depth; text among them is none.
        (
            {"cat/1.jpg": "cat", "cat/a/b/2.PNG": "cat", "dog/3.heic": "dog"},
            {"dog/notes.txt": OTHER, "dog/x": OTHER},
            (),
        ),
        # One of train and test alone is no split, and a class may be called train.
        ({"train/cat/1.jpg": "cat", "train/dog/1.jpg": "dog"}, {}, ()),
        ({"test/cat/1.jpg": "cat", "test/dog/1.jpg": "dog"}, {}, ()),
        ({"train/1.jpg": "train", "bus/1.jpg": "bus", "car/1.jpg": "car"}, {}, ()),
        # Two or three are the official ones, by any of their names.
        (SPLIT | {"test/cat/a/2.jpg": ("cat", "test")}, {"test/litter.jpg": OUTSIDE, "README.txt": OTHER}, ()),
        (CAPITALS, {}, ()),
        ({"train/a/1.jpg": ("a", "train"), "valid/b/1.jpg": ("b", "validation")}, {}, ()),
        (
            {"train/a/1.jpg": ("a", "train"), "Training/a/2.jpg": ("a", "train"), "val/b/1.jpg": ("b", "validation")},
            {},
            (),
        ),
        # So are those in the class folders, where each of these has them and nothing else; one of them is none.
        (INSIDE, {"cat/train/notes.txt": OTHER}, ()),
        ({"cat/train/1.jpg": "cat", "dog/train/2.jpg": "dog", "dog/more/3.jpg": "dog"}, {}, ()),
        # Composed and decomposed accents are one class.
        (
            SPLIT | {"train/caf\u00e9/1.png": ("caf\u00e9", "train"), "test/cafe\u0301/2.png": ("caf\u00e9", "test")},
            {},
            (),
        ),
        (
            {"cat/1.jpg": "cat", "dog/1.jpg": "dog"},
            dict.fromkeys(
                ["cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", ".git", "__MACOSX", "dog/@eaDir"], HIDDEN
            )
            | {"emu": "class folder without images"},
            (".git/HEAD", "__MACOSX/x/y", "emu/empty/", "dog/@eaDir/1.jpg/T.jpg"),
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
    said = f"{len(images)} files in {len(classes)} classes, read where they are"
    assert fetch(root, tmp_path) == said
    outer = shutil.copytree(root, tmp_path / "outer" / "my images")
    for kind in ("zip", "tar", "gztar", "bztar", "xztar"):
        for base in (root, outer.parent):
            packed = shutil.make_archive(str(tmp_path / "packed"), kind, base)
            found, left = read(packed)
            if not any(name.startswith(("train", "test")) and split is None for name, (_, split) in expected.items()):
                assert found == expected
                assert left == strays
            assert sorted(text for text, _ in found.values()) == sorted(text for text, _ in expected.values())
            assert fetch(packed, tmp_path) == said


NO_FOLDER = r"`dataset.folder` must be a readable folder"
NO_NAME = r"UTF-8 names without control characters. Received: '.*'$"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", NO_FOLDER),
        ("a file", "or a zip, tar"),
        ("nul\0", NO_FOLDER),
        ("tab", NO_NAME),
        ("separator", NO_NAME),
    ],
)
def test_what_is_no_folder_and_class_names_that_no_label_file_can_hold_are_errors(tmp_path, name, message):
    put(tmp_path, "a file", "tab/\t/1.jpg", "tab/dog/1.jpg", "separator/\u2028/1.jpg", "separator/dog/1.jpg")
    with pytest.raises(UserError, match=message):
        fetch(tmp_path / name, tmp_path)


ALONE = r"both train and test must hold images of classes, or .* with such in "
BELOW = r"where class folders hold folders of splits \(.*\), all must, and nothing else\. Received: .* with "
FEW = r"`dataset\.folder` must hold images of at least 2 classes, .* Received: .*"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["in/cat/1.jpg", "in/dog/1.jpg"], FEW + r"with 2 files in 1 classes\. Did you mean .*/images/in\?$"),
        (["a/b/cat/1.jpg", "a/b/dog/1.jpg", "a/README"], FEW + r"\. Did you mean .*/images/a/b\?$"),
        (["in/train/cat/1.jpg", "in/test/cat/1.jpg"], FEW + r"\. Did you mean .*/images/in\?$"),
        (
            ["1.jpg", "2.jpg"],
            FEW + r"0 files in 0 classes; 2 images lie in no class folder: make a folder for each class",
        ),
        (["cat/1.jpg"], FEW + r"with 1 files in 1 classes$"),
        (
            ["cat/1.jpg", "dog/a.txt", "dog/b.txt"],
            FEW + r"1 classes; 2 more are left out, as dog/a\.txt: not an image$",
        ),
        (
            ["1.jpg", "labels.csv"],
            FEW
            + r"If .*/images/labels\.csv has their labels, give it, too: LABELS=/.*/images/labels\.csv \(dataset\.name",
        ),
        (["in/1.jpg", "sample.csv", "test.csv", "train.csv"], FEW + r"If .*/images/train\.csv has their labels"),
        (["train/1.jpg", "test/2.jpg", "sub/a.csv", "train.csv"], r"folders of classes, or of splits"),
        (["train/1.jpg", "test/2.jpg", "train.csv"], FEW + r"If .*/images/train\.csv has their labels"),
        (
            [".images/cat/1.jpg", "cat/1.jpg"],
            FEW + r"; \.images is a hidden folder with images \(rename it without the dot",
        ),
        (["train/cat/1.jpg", "val/"], ALONE + r"train alone\. To split these, give /.*/images/train$"),
        (["train/cat/1.jpg", "train/dog/1.jpg", "test/3.jpg"], ALONE + r"train alone\. To split these, give .*/train$"),
        (
            ["cat/train/1.jpg", "cat/test/2.jpg", "dog/3.jpg"],
            BELOW + r"cat/test/2\.jpg and dog/3\.jpg\. Move one of them",
        ),
        (
            ["cat/train/1.jpg", "dog/test/2.jpg", "dog/more/3.jpg"],
            BELOW + r"cat/train/1\.jpg and dog/more/3\.jpg\. Move",
        ),
        (
            ["cat/train/1.jpg", "dog/test/2.jpg", "dog/more/"],
            BELOW + r"cat/train/1\.jpg and a folder without images\. M",
        ),
        (
            ["cat/train/1.jpg", "dog/val/1.jpg", "dog/val/2.jpg", "cat/3.jpg"],
            BELOW + r"cat/train/1\.jpg and cat/3\.jpg",
        ),
        (["val/cat/1.jpg", "test/dog/1.jpg"], ALONE + r"test, validation alone$"),
    ],
)
def test_a_folder_that_gives_no_data_set_is_an_error_with_the_remedy(tmp_path, names, message):
    names = [name.replace("train/cat/1.jpg", "train/dog/1.jpg") if "val/" in names else name for name in names]
    root = put(tmp_path / "images", *names, *(["train/cat/2.jpg"] if "val/" in names else []))
    with pytest.raises(UserError, match=message):
        fetch(root, tmp_path)


def test_a_table_in_an_archive_is_not_read_there(tmp_path):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", put(tmp_path / "images", "1.jpg", "labels.csv"))
    with pytest.raises(UserError, match=FEW + r"If labels\.csv has their labels, take it out of the archive: "):
        fetch(packed, tmp_path)


def test_a_folder_of_links_that_leave_it_says_so(tmp_path):
    put(tmp_path / "elsewhere", "cat/1.jpg", "dog/1.jpg")
    root = put(tmp_path / "images", "cat/", "dog/")
    for text in ("cat", "dog"):
        (root / text / "1.jpg").symlink_to(tmp_path / "elsewhere" / text / "1.jpg")
    with pytest.raises(
        UserError, match=r"; 2 are links that leave it, as cat/1\.jpg: give the folder that they lead to"
    ):
        fetch(root, tmp_path)
