"""Folders of images as people have them: nested, linked, with litter, in any script."""

import os
import threading
import unicodedata
from pathlib import Path

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


@pytest.mark.parametrize("third", ["val", "validation", "valid"])
def test_a_third_split_is_an_error(root, tmp_path, third):
    put(root, "train/cat/1.jpg", "test/cat/1.jpg", f"{third}/cat/1.jpg")
    with pytest.raises(UserError, match=rf"train and test and no other.*Received: .*{third}"):
        fetch(root, tmp_path)


def test_an_empty_official_split_is_an_error(root, tmp_path):
    put(root, "train/cat/1.jpg", "train/dog/1.jpg")
    (root / "test").mkdir()
    with pytest.raises(UserError, match="both train and test must hold images"):
        fetch(root, tmp_path)


@pytest.mark.parametrize("names", [[], ["1.jpg", "2.jpg"], ["cat/1.jpg", "cat/2.jpg"], ["cat/1.jpg", "dog/.hidden"]])
def test_fewer_than_two_classes_is_an_error(root, tmp_path, names):
    put(root, *names)
    with pytest.raises(UserError, match=r"at least 2 classes.*Received: .* with \d files in [01] classes"):
        fetch(root, tmp_path)


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


def test_links_are_followed_to_files_of_the_folder_only(root, tmp_path):
    put(root, "cat/1.jpg", "dog/1.jpg")
    put(tmp_path, "outside/secret.jpg")
    (root / "cat" / "same.jpg").symlink_to("1.jpg")
    (root / "cat" / "outside.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (root / "cat" / "up").symlink_to("..")
    (root / "cat" / "loop").symlink_to("loop")
    (root / "cat" / "broken").symlink_to("nowhere")
    (root / "emu").symlink_to("cat")
    (root / "fox").symlink_to(tmp_path / "outside")
    assert images(root) == {("cat/1.jpg", "cat", None), ("cat/same.jpg", "cat", None), ("dog/1.jpg", "dog", None)}
    found = strays(root)
    assert found.pop("cat/loop").startswith("can't be read: ")
    assert found == {
        "cat/outside.jpg": "a link that leaves the folder",
        "cat/up": "a link to a folder",
        "cat/broken": "can't be read: No such file or directory",
        "emu": "a link to a folder",
        "fox": "a link that leaves the folder",
    }


def test_the_folder_itself_may_be_a_link(root, tmp_path):
    put(root, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "link").symlink_to(root)
    assert images(tmp_path / "link") == images(root)


def test_pipes_are_not_opened(root):
    put(root, "cat/1.jpg")
    os.mkfifo(root / "cat" / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append(strays(root)), daemon=True)
    reader.start()
    reader.join(5)
    assert found == [{"cat/pipe": "not a regular file"}]


def test_large_files_are_not_read(root, monkeypatch):
    put(root, "cat/1.jpg")
    with (root / "cat" / "large.jpg").open("wb") as file:
        file.truncate((256 << 20) + 1)
    assert strays(root) == {"cat/large.jpg": "larger than 256 MiB"}


def test_what_can_not_be_read_is_named(root, monkeypatch):
    put(root, "cat/1.jpg", "cat/closed/2.jpg", "cat/2.jpg")
    original_read, original_list = Path.read_bytes, Path.iterdir

    def reject(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", lambda self: (reject if self.name == "2.jpg" else original_read)(self))
    monkeypatch.setattr(Path, "iterdir", lambda self: (reject if self.name == "closed" else original_list)(self))
    assert strays(root) == {
        "cat/2.jpg": "can't be read: Permission denied",
        "cat/closed": "can't be listed: Permission denied",
    }


# Persian with a zero-width non-joiner, an emoji joined of two, marks that sort and print oddly.
@pytest.mark.parametrize(
    "text", ["猫", "кошка", "\u0642\u0637\u200c\u0647\u0627", "बिल्ली", "🐈\u200d⬛", 'a,b;"c"', "-rf", "%s{0}"]
)
def test_names_in_any_script(root, text):
    put(root, f"{text}/{text} 1.jpg", "dog/1.jpg")
    normal = unicodedata.normalize("NFC", text)
    assert (f"{text}/{text} 1.jpg", normal, None) in images(root)


def test_composed_and_decomposed_accents_are_one_class(root):
    put(root, "train/caf\u00e9/1.jpg", "train/dog/1.jpg", "test/cafe\u0301/2.jpg", "test/dog/1.jpg")
    assert {text for _, text, _ in images(root)} == {"caf\u00e9", "dog"}


def test_undecodable_file_names_survive(root):
    put(root, b"cat/\xff\xfe.jpg", "dog/1.jpg")
    (name,) = (name for name, text, _ in images(root) if text == "cat")
    assert os.fsencode(name) == b"cat/\xff\xfe.jpg"


@pytest.mark.parametrize("name", [b"\xff", b"two\nlines", b"tab\t", "\u2028".encode()])
def test_class_names_that_no_label_file_can_hold_are_errors(root, tmp_path, name):
    put(root, name + b"/1.jpg", "dog/1.jpg")
    with pytest.raises(
        UserError, match=r"class folders must have UTF-8 names without control characters. Received: '.*'$"
    ):
        fetch(root, tmp_path)
