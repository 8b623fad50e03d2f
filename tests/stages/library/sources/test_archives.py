"""Archives are read in place; damage anywhere in them is found."""

import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.common.console import UserError
from stages.library.sources.archives import Member, tar_gz_members, tar_members
from tests.layouts import special, tar_bytes

FILES = [("a/1.jpg", b"one"), ("a/2.jpg", b"x" * 5000), ("b/3", b""), ("b/4.jpg", bytes(range(256)) * 80)]


def members(content, **options):
    return list(tar_gz_members(io.BytesIO(content), "images.tar.gz", **options))


class Unseekable(io.RawIOBase):
    """A stream that can only be read forwards."""

    def __init__(self, content):
        self._content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._content.readinto(buffer)


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1), st.binary())))
def test_members_come_back_as_they_were_put_in(files):
    assert members(gzip.compress(tar_bytes(files))) == [Member(name, content) for name, content in files]


def test_a_stream_is_read_forwards_only():
    stream = io.BufferedReader(Unseekable(gzip.compress(tar_bytes(FILES))))
    assert [member.name for member in tar_gz_members(stream, "x")] == [name for name, _ in FILES]


def test_folders_are_passed_over_and_links_and_devices_rejected():
    extra = [
        special("c", tarfile.DIRTYPE),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard", tarfile.LNKTYPE, "a/1.jpg"),
        special("pipe", tarfile.FIFOTYPE),
    ]
    found = members(gzip.compress(tar_bytes([("../../etc/passwd", b"x")], extra)))
    assert found[0] == Member("../../etc/passwd", b"x")
    assert [(each.name, each.content) for each in found[1:]] == [("link", None), ("hard", None), ("pipe", None)]
    assert {each.rejected for each in found[1:]} == {"a link or device in the archive, not a file"}


def test_a_large_member_is_rejected_unread_and_the_next_is_read():
    content = gzip.compress(tar_bytes([("bomb", bytes(4 << 20)), ("small", b"x")]))
    assert members(content, max_member_bytes=1 << 20) == [
        Member("bomb", None, "larger than 1 MiB"),
        Member("small", b"x"),
    ]


WHOLE = gzip.compress(tar_bytes(FILES), mtime=0)


@pytest.mark.parametrize("cut", [100, 512 + 100, 3 * 512])
def test_a_tar_that_was_truncated_before_compression_is_found(cut):
    with pytest.raises(UserError, match="damaged or truncated"):
        members(gzip.compress(tar_bytes(FILES)[:cut]))


@pytest.mark.parametrize("size", range(0, len(WHOLE), 7))
def test_truncation_anywhere_is_found(size):
    with pytest.raises(UserError, match=r"images.tar.gz is damaged or truncated \(.+\). Fetch it again"):
        members(WHOLE[:size])


@pytest.mark.parametrize("place", [0, 3, *range(20, len(WHOLE), 11)])
def test_a_flipped_bit_is_found(place):
    damaged = bytearray(WHOLE)
    damaged[place] ^= 1
    try:
        found = members(bytes(damaged))
    except UserError:
        return
    assert found == [Member(name, content) for name, content in FILES]  # a field that says nothing about the content


# Plain tar, which has no checksum of its content

PLAIN = tar_bytes(FILES)


def test_a_plain_tar_is_read_forwards_only_with_its_folders():
    stream = io.BufferedReader(Unseekable(tar_bytes([("a", None), *FILES, ("c/d", None)])))
    folders = [Member(name, None, "a folder", is_folder=True) for name in ("a", "c/d")]
    files = [Member(name, content) for name, content in FILES]
    assert list(tar_members(stream, "x")) == [folders[0], *files, folders[1]]


END = 512 * (4 + 1 + 10 + 40)  # headers, and blocks of content


@pytest.mark.parametrize("size", [*range(0, END, 1009), *range(0, END + 1, 512), END + 100])
def test_truncation_of_a_plain_tar_is_found_at_the_borders_of_members_too(size):
    assert any(PLAIN[END - 512 : END])
    assert not any(PLAIN[END:])
    with pytest.raises(UserError, match=r"images.tar is damaged or truncated \(.+\). Fetch it again"):
        list(tar_members(io.BytesIO(PLAIN[:size]), "images.tar"))


def test_a_plain_tar_may_end_after_its_first_block_of_zeros():
    assert len(list(tar_members(io.BytesIO(PLAIN[: END + 512]), "images.tar"))) == len(FILES)


@pytest.mark.parametrize("compressed", [True, False])
def test_what_is_no_archive_and_a_damaged_header_are_users_errors(compressed):
    damaged = bytearray(PLAIN)
    damaged[1024 + 10] ^= 1  # in the second file's header, which tarfile takes for the end
    for content, reason in ((bytes(damaged), "a header is damaged"), (b"", ""), (b"not a tar" * 100, "")):
        stream = io.BytesIO(gzip.compress(content, mtime=0) if compressed else content)
        with pytest.raises(UserError, match=rf"x is damaged or truncated \({reason}"):
            list((tar_gz_members if compressed else tar_members)(stream, "x"))
    other = gzip.compress(PLAIN, mtime=0) if not compressed else PLAIN
    with pytest.raises(UserError, match="damaged or truncated"):
        list((tar_gz_members if compressed else tar_members)(io.BytesIO(other), "x"))
