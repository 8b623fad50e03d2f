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
MEMBERS = [Member(name, content) for name, content in FILES]
PLAIN = tar_bytes(FILES)  # it has no checksum of its content
WHOLE = gzip.compress(PLAIN, mtime=0)
DAMAGED = r"^images is damaged or truncated \(.+\). Fetch it again"


class Forward(io.BytesIO):
    """A stream that can only be read forwards."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation


def members(content, **options):
    return list(tar_gz_members(Forward(content), "images", **options))


def plain_members(content):
    return list(tar_members(Forward(content), "images"))


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1), st.binary())))
def test_members_come_back_as_they_were_put_in(files):
    assert members(gzip.compress(tar_bytes(files))) == [Member(name, content) for name, content in files]


def test_of_a_plain_tar_folders_come_too():
    folders = [Member(name, None, "a folder", is_folder=True) for name in ("a", "c/d")]
    assert plain_members(tar_bytes([("a", None), *FILES, ("c/d", None)])) == [folders[0], *MEMBERS, folders[1]]


def test_folders_are_passed_over_and_links_and_devices_rejected():
    kinds = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}
    extra = [special("c", tarfile.DIRTYPE), *(special(name, kind, "/etc/passwd") for name, kind in kinds.items())]
    assert members(gzip.compress(tar_bytes([("../../etc/passwd", b"x")], extra))) == [
        Member("../../etc/passwd", b"x"),
        *(Member(name, None, "a link or device in the archive, not a file") for name in kinds),
    ]


def test_a_large_member_is_rejected_unread_and_the_next_is_read():
    content = gzip.compress(tar_bytes([("bomb", bytes(4 << 20)), ("small", b"x")]))
    expected = [Member("bomb", None, "larger than 1 MiB"), Member("small", b"x")]
    assert members(content, max_member_bytes=1 << 20) == expected


@pytest.mark.parametrize("cut", [100, 512 + 100, 3 * 512])
def test_a_tar_that_was_truncated_before_compression_is_found(cut):
    with pytest.raises(UserError, match=DAMAGED):
        members(gzip.compress(PLAIN[:cut]))


@pytest.mark.parametrize("size", range(0, len(WHOLE), 7))
def test_truncation_anywhere_is_found(size):
    with pytest.raises(UserError, match=DAMAGED):
        members(WHOLE[:size])


@pytest.mark.parametrize("place", [0, 3, *range(20, len(WHOLE), 11)])
def test_a_flipped_bit_is_found(place):
    try:
        found = members(WHOLE[:place] + bytes([WHOLE[place] ^ 1]) + WHOLE[place + 1 :])
    except UserError:
        return
    assert found == MEMBERS  # a field that says nothing about the content


END = 512 * (4 + 1 + 10 + 40)  # headers, and blocks of content


@pytest.mark.parametrize("size", [*range(0, END, 1009), *range(0, END + 1, 512), END + 100])
def test_truncation_of_a_plain_tar_is_found_at_the_borders_of_members_too(size):
    assert any(PLAIN[END - 512 : END])
    assert not any(PLAIN[END:])
    with pytest.raises(UserError, match=DAMAGED):
        plain_members(PLAIN[:size])


def test_a_plain_tar_may_end_after_its_first_block_of_zeros():
    assert plain_members(PLAIN[: END + 512]) == MEMBERS


@pytest.mark.parametrize(("read", "other"), [(members, PLAIN), (plain_members, WHOLE)])
def test_what_is_no_archive_and_a_damaged_header_are_users_errors(read, other):
    damaged = bytearray(PLAIN)
    damaged[1024 + 10] ^= 1  # in the second file's header, which tarfile takes for the end
    compressed = gzip.compress if read is members else bytes
    for content, reason in ((bytes(damaged), r".*\(a header is damaged\)"), (b"", DAMAGED), (b"no tar" * 99, DAMAGED)):
        with pytest.raises(UserError, match=reason):
            read(compressed(content))
    with pytest.raises(UserError, match=DAMAGED):
        read(other)
