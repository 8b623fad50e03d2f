"""Folders, zips and tars of images: the same rules for all, and guards against archives that were made to harm."""

import os
import shutil
import struct
import zipfile
import zlib

import pytest

from stages.library.common.console import UserError
from stages.library.sources import image_trees
from tests.layouts import special, tar_bytes

JPEG = b"\xff\xd8\xff" + bytes(100)
FILES = {
    "cat/1.jpg": b"no matter",
    "cat/sub/2.PNG": b"",
    "dog/no suffix": JPEG,
    "dog/notes.txt": b"text",
    "dog/sound.wav": b"RIFF0000WAVE",
    "dog/film.mp4": b"\0\0\0\x18ftypisom",
    "README": b"P is no portable pixmap",
}
HIDDEN = [".git/HEAD", ".git/1.png", "__MACOSX/cat/._1.jpg", "cat/@eaDir/1.jpg/THUMB.jpg", "cat/Thumbs.db",
          "cat/._1.jpg", "dog/.ipynb_checkpoints/1.jpg", "#recycle/1.jpg", "System Volume Information/x",
          ".AppleDouble/1.jpg"]  # fmt: skip
PLACES = [".git", "__MACOSX", "cat/@eaDir", "cat/Thumbs.db", "cat/._1.jpg", "dog/.ipynb_checkpoints", "#recycle",
          "System Volume Information", ".AppleDouble"]  # fmt: skip


def put(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def found(path, contents=True):
    """Content of the images, and reasons of the others, by name; no folders."""
    listed = [member for member in image_trees.members(path, contents) if not member.is_folder]
    assert len({member.name for member in listed}) == len(listed)
    return {member.name: member.rejected or member.content for member in listed}


@pytest.fixture(params=["folder", "zip", "tar", "gztar", "bztar", "xztar"])
def packed(request, tmp_path):
    """Makes of files, {name: content}, a folder or an archive."""

    def make(files):
        root = put(tmp_path / "made", files)
        if request.param == "folder":
            return root
        return image_trees.located(shutil.make_archive(str(tmp_path / "packed"), request.param, root))

    return make


def test_images_are_told_from_all_else_by_suffix_and_content(packed):
    path = packed(FILES)
    reasons = {"dog/notes.txt": "not an image", "dog/sound.wav": "not an image", "dog/film.mp4": "a film, not an image"}
    expected = FILES | reasons | {"README": "not an image"}
    assert found(path) == expected
    listed = found(path, contents=False)
    assert {name for name, content in listed.items() if isinstance(content, bytes)} == {*FILES} - {*reasons, "README"}
    assert {name: reason for name, reason in listed.items() if isinstance(reason, str)} == reasons | {
        "README": "not an image"
    }


def test_what_systems_leave_behind_is_passed_over_once_for_each_folder(packed):
    path = packed({"cat/1.jpg": b"", **dict.fromkeys(HIDDEN, b"x"), ".images/cat/1.jpg": b"", ".notes/1.txt": b""})
    expected = dict.fromkeys([*PLACES, ".notes"], image_trees.HIDDEN) | {".images": image_trees.HIDDEN_IMAGES}
    assert found(path) == {"cat/1.jpg": b"", **expected}


def zipped(path, files=FILES, change=lambda info: None, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            change(info)
            archive.writestr(info, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_leave_an_archive_and_links_in_it_are_rejected(tmp_path):
    leaves, link = "a name that leaves the archive", "a link or device in the archive, not a file"
    names = {"../1.jpg": b"a", "/etc/2.jpg": b"b", "./cat/3.jpg": b"c"}
    (tmp_path / "a.tar").write_bytes(tar_bytes([*names.items()], [special("cat/4.jpg", b"2", "/etc/passwd")]))
    expected = {"../1.jpg": leaves, "/etc/2.jpg": leaves, "cat/3.jpg": b"c", "cat/4.jpg": link}
    assert found(tmp_path / "a.tar") == expected

    def linked(info):
        info.external_attr = (0o120777 if "4" in info.filename else 0o100644) << 16

    path = zipped(tmp_path / "a.zip", names | {"cat/4.jpg": b"/etc/passwd", "win\\5.jpg": b"e"}, linked)
    assert found(path) == expected | {"win/5.jpg": b"e"}
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for content in (b"1", b"2"):
            archive.writestr("cat/1.jpg", content)
    reasons = [member.rejected for member in image_trees.members(tmp_path / "twice.zip", contents=True)]
    assert reasons == ["", "the same name stands twice in the archive"]


def test_members_of_a_zip_that_cannot_be_had_are_rejected_alone_and_count(tmp_path):
    files = {"cat/1.jpg": JPEG, "cat/2.jpg": b"x" * 1000, "cat/3.txt": b"x" * 1000}
    path = zipped(tmp_path / "a.zip", files)
    content = bytearray(path.read_bytes())
    content[content.index(b"cat/2.jpg") + 12] ^= 255
    path.write_bytes(content)
    damaged = {member.name: member for member in image_trees.members(path, contents=True)}
    assert damaged["cat/1.jpg"].content == JPEG
    assert damaged["cat/2.jpg"].rejected.startswith("damaged in the archive: ")
    assert (damaged["cat/2.jpg"].is_lost, damaged["cat/3.txt"].is_lost) == (True, False)

    encrypted = bytearray(zipped(tmp_path / "b.zip", {"cat/1.jpg": JPEG}).read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        encrypted[encrypted.index(mark) + place] |= 1
    (tmp_path / "b.zip").write_bytes(encrypted)
    assert found(tmp_path / "b.zip") == {"cat/1.jpg": "encrypted in the archive"}
    other = zipped(tmp_path / "c.zip", {"cat/1.jpg": JPEG}, method=zipfile.ZIP_LZMA)
    assert found(other) == {"cat/1.jpg": "compressed in the archive by another method than Deflate"}


def bomb(size, said):
    """A zip of one image of zeros whose headers say another size."""
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = body.compress(bytes(size)) + body.flush()
    name, crc = b"cat/1.jpg", zlib.crc32(bytes(size))
    fields = struct.pack("<HHHHIIIHH", 0, 8, 0, 0, crc, len(packed), said, len(name), 0)
    local = b"PK\3\4\x14\0" + fields + name + packed
    central = b"PK\1\2\x14\0\x14\0" + fields + bytes(14) + name
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def test_a_member_that_unpacks_to_more_than_it_may_or_than_it_says_is_rejected(tmp_path):
    path = tmp_path / "bomb.zip"
    path.write_bytes(bomb(1000, 1000))
    assert found(path) == {"cat/1.jpg": bytes(1000)}
    path.write_bytes(bomb(1000, 300 << 20))
    assert found(path) == {"cat/1.jpg": "larger than 256 MiB"}
    path.write_bytes(bomb(50_000_000, 1000))
    assert str(found(path)["cat/1.jpg"]).startswith("damaged in the archive: Bad CRC")


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_an_archive_cut_short_or_changed_is_an_error_or_the_same_images(tmp_path, kind):
    path = image_trees.located(shutil.make_archive(str(tmp_path / "a"), kind, put(tmp_path / "x", FILES)))
    whole, content = path.read_bytes(), found(path)
    for place in range(0, len(whole), 97):
        for changed in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            path.write_bytes(changed)
            try:
                other = found(path)
            except UserError:
                continue
            for name in {*content} & {*other}:
                same = other[name] == content[name] or kind == "tar"  # a plain one has no checksum of its content
                assert same or "archive" in str(other[name]) or name not in content


def test_a_home_is_expanded_and_a_file_that_is_no_archive_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    assert image_trees.located("~/images") == tmp_path / "images"
    (tmp_path / "a.zip").write_bytes(b"no archive" * 99)
    with pytest.raises(
        UserError, match=r"must be a folder, or a zip, tar, tar\.gz, tar\.bz2 or tar\.xz of one\. Received: .*a\.zip$"
    ):
        found(image_trees.located("~/a.zip"))


def test_an_image_that_cannot_be_read_is_lost_and_a_link_out_of_the_folder_is_not(tmp_path):
    root = put(tmp_path / "images", {"cat/1.jpg": b""})
    for name, target in (("gone.jpg", "nowhere"), ("gone.txt", "nowhere"), ("out.jpg", tmp_path), ("self", "self")):
        (root / "cat" / name).symlink_to(target)
    os.mkfifo(root / "cat" / "pipe.jpg")
    lost = {member.name: member.is_lost for member in image_trees.members(root, contents=True) if member.rejected}
    assert lost == {
        f"cat/{name}": name == "gone.jpg" for name in ("gone.jpg", "gone.txt", "out.jpg", "self", "pipe.jpg")
    }
