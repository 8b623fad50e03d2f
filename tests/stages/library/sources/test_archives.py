"""Archives are read in place; damage and what was made to harm are found: bombs, headers that lie."""

import bz2
import gzip
import io
import lzma
import struct
import sys
import tarfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.common.console import UserError
from stages.library.sources import archives
from stages.library.sources.archives import Member, tar_gz_members, tar_members
from tests import processes
from tests.layouts import special, tar_bytes

FILES = [("a/1.jpg", b"one"), ("a/2.jpg", b"x" * 5000), ("b/3", b""), ("b/4.jpg", bytes(range(256)) * 80)]
MEMBERS = [Member(name, content) for name, content in FILES]
PLAIN = tar_bytes(FILES)  # it has no checksum of its content
END = 512 * (4 + 1 + 10 + 40)  # headers, and blocks of content; then zeros
WHOLE = gzip.compress(PLAIN, mtime=0)
DAMAGED = r"^images is damaged or truncated \(.+\). Fetch it again"


class Forward(io.BytesIO):
    """A stream that can only be read forwards."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation


def members(content):
    return list(tar_gz_members(Forward(content), "images"))


def plain_members(content):
    return list(tar_members(Forward(content), "images"))


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1), st.binary())))
def test_members_come_back_as_they_were_put_in(files):
    assert members(gzip.compress(tar_bytes(files))) == [Member(name, content) for name, content in files]


def test_of_a_plain_tar_folders_come_too_and_it_may_end_after_its_first_block_of_zeros():
    folders = [Member(name, None, "a folder", is_folder=True) for name in ("a", "c/d")]
    assert plain_members(tar_bytes([("a", None), *FILES, ("c/d", None)])) == [folders[0], *MEMBERS, folders[1]]
    assert PLAIN[:END] == PLAIN.rstrip(b"\0")
    assert plain_members(PLAIN[: END + 512]) == MEMBERS


def test_folders_are_passed_over_and_links_and_devices_rejected():
    kinds = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}
    extra = [special("c", tarfile.DIRTYPE), *(special(name, kind, "/etc/passwd") for name, kind in kinds.items())]
    assert members(gzip.compress(tar_bytes([("../../etc/passwd", b"x")], extra))) == [
        Member("../../etc/passwd", b"x"),
        *(Member(name, None, "a link or device in the archive, not a file") for name in kinds),
    ]


TRUNCATED = [
    *((members, gzip.compress(PLAIN[:size])) for size in (100, 512 + 100, 3 * 512)),  # before it was compressed
    *((members, WHOLE[:size]) for size in range(0, len(WHOLE), 7)),
    *((plain_members, PLAIN[:size]) for size in (*range(0, END, 1009), *range(0, END + 1, 512), END + 100)),
]
CHANGED = bytearray(PLAIN)
CHANGED[1024 + 10] ^= 1  # in the second file's header, which tarfile takes for the end
OTHER = [(members, PLAIN), (plain_members, WHOLE), (members, b"no tar" * 99), (plain_members, b"no tar" * 99)]
OTHER += [(members, gzip.compress(content)) for content in (b"", b"no tar" * 99)]


@pytest.mark.parametrize(("read", "content"), TRUNCATED + OTHER, ids=lambda _: "")
def test_truncation_anywhere_and_what_is_no_archive_are_found(read, content):
    """At the borders of a plain tar's members too."""
    with pytest.raises(UserError, match=DAMAGED):
        read(content)


def test_a_damaged_header_is_found():
    for read, content in ((members, gzip.compress(CHANGED)), (plain_members, CHANGED)):
        with pytest.raises(UserError, match=r"^images .*\(a header is damaged\)"):
            read(content)


@pytest.mark.parametrize("place", [0, 3, *range(20, len(WHOLE), 11)])
def test_a_flipped_bit_is_found(place):
    try:
        found = members(WHOLE[:place] + bytes([WHOLE[place] ^ 1]) + WHOLE[place + 1 :])
    except UserError:
        return
    assert found == MEMBERS  # a field that says nothing about the content


IMAGE = FILES[0]
END_BLOCKS = bytes(2 * tarfile.BLOCKSIZE)


def padded(content):
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def attributes(values):
    """A pax header without the member that it is of."""
    info = tarfile.TarInfo()
    info.pax_headers = values
    return info.tobuf(tarfile.PAX_FORMAT)[: -tarfile.BLOCKSIZE]


ONE = header(IMAGE[0], 3) + padded(IMAGE[1])
SPARSE = {"GNU.sparse.name": "s", "GNU.sparse.realsize": "9", "GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
SPARSE_1 = attributes(SPARSE) + header("s", 512)
LIES = {
    "a member of 2^87 bytes": header("liar", int.from_bytes(b"\x7f" * 11)),
    "3,000 lists of attributes in a row": attributes({"a": "b"}) * 3000,
    "3,000 long names in a row": (header("x", 5, tarfile.GNUTYPE_LONGNAME) + padded(b"abcd\0")) * 3000,
    "a sparse file whose map is no number": SPARSE_1 + padded(b"x\n0\n"),
    "a sparse file whose map never ends": SPARSE_1 + padded(b"99999999999\n0\n"),
    "a sparse file whose old map is no number": attributes({"GNU.sparse.map": "1,x", "GNU.sparse.size": "9"}),
    "a sparse file whose size is no number": attributes({"GNU.sparse.size": "zz", "GNU.sparse.offset": "q"}),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize(("read", "compress"), [(members, gzip.compress), (plain_members, bytes)])
def test_headers_that_lie_are_a_users_error_at_once(name, read, compress):
    content = ONE + LIES[name] + header("s", 3) + padded(b"abc") + END_BLOCKS
    with pytest.raises(UserError, match=DAMAGED):
        read(compress(content))


def test_a_negative_size_neither_hangs_nor_hides_the_next_member():
    content = header("liar", -256) + ONE + END_BLOCKS
    assert plain_members(content)[1:] == [Member(*IMAGE)]


EXTENDED = [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, *EXTENDED])
def test_bombs_stay_in_bounded_memory(tmp_path, kind):
    path = tmp_path / "bomb.tar.gz"
    zeros = gzip.compress(bytes(1 << 20)) * 300  # so many MiB in some KiB
    path.write_bytes(gzip.compress(header("bomb", 300 << 20, kind)) + zeros + gzip.compress(ONE + END_BLOCKS))
    code = (
        "import sys; from tests.memory import peak_mib; from stages.library.sources.archives import tar_gz_members; "
        "from stages.library.common.console import UserError\n"
        "try: print([member.rejected for member in tar_gz_members(open(sys.argv[1], 'rb'), 'x')])\n"
        "except UserError as error: print(error)\n"
        "print(peak_mib())"
    )
    said, peak_mib = processes.run(sys.executable, "-c", code, path).stdout.splitlines()
    assert ("a header of 314572800 bytes" if kind in EXTENDED else "['larger than 256 MiB', '']") in said
    assert int(peak_mib) < 128


def test_no_name_leads_out_for_nothing_is_unpacked(tmp_path, monkeypatch):
    names = ["/etc/passwd", "../../../etc/passwd", "a/../../x", "C:\\x", "\\\\host\\x", "a\0b", "."]
    monkeypatch.chdir(tmp_path)
    found = plain_members(tar_bytes([*((name, b"x") for name in names), IMAGE]))
    assert found[len(names) :] == [Member(*IMAGE)]
    assert list(tmp_path.iterdir()) == []


PACKERS = {"bz2": bz2.compress, "xz": lzma.compress}


def read_packed(path, content):
    path.write_bytes(content)
    return list(archives.members(path, lambda name: True))


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_bzip2_and_xz_are_told_by_their_content_and_may_have_several_parts(tmp_path, pack):
    halves = pack(PLAIN[:3000]) + pack(b"") + pack(PLAIN[3000:])
    for content in (pack(PLAIN), halves, halves + bytes(8), pack(PLAIN) + bytes(200_000)):
        assert read_packed(tmp_path / "a.zip", content) == MEMBERS
    for junk in (b"x" * 99, pack(b"x"), bytes(100_000) + b"x"):
        with pytest.raises(UserError, match=r"a\.zip is damaged or truncated \(.+\)\. Get it anew"):
            read_packed(tmp_path / "a.zip", pack(PLAIN) + junk)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_bzip2_and_xz_are_an_error_wherever_they_are_cut_or_changed(tmp_path, pack):
    whole = pack(PLAIN)
    for place in range(0, len(whole), 3):
        with pytest.raises(UserError, match=r"is damaged or truncated|must be a folder, or a zip, tar"):
            read_packed(tmp_path / "a", whole[:place])
        try:
            found = read_packed(tmp_path / "a", whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        except UserError:
            continue
        assert found == MEMBERS  # bits that pad the last byte


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize(("name", "lie"), LIES.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_headers_that_lie_in_bzip2_and_xz_are_a_users_error_at_once(tmp_path, pack, name, lie):
    with pytest.raises(UserError, match=r"is damaged or truncated"):
        read_packed(tmp_path / "a", pack(ONE + lie + header("s", 3) + padded(b"abc") + END_BLOCKS))


def of_a_large_dictionary(zeros):
    """An xz whose first block asks for 3 GiB (xz-file-format 1.1.0, 3.1 and 5.3.1)."""
    content = bytearray(lzma.compress(zeros))
    end = 12 + 4 * content[12]
    content[16] = 39
    content[end : end + 4] = struct.pack("<I", zlib.crc32(content[12:end]))
    return bytes(content)


BOMBS = {
    "bz2": (lambda zeros: bz2.compress(zeros) * 2000, "it unpacks to more than 1,032 times its size"),
    "xz": (lambda zeros: lzma.compress(zeros) * 2000, "it unpacks to more than 1,032 times its size"),
    "dictionary": (of_a_large_dictionary, "its dictionary takes more than 256 MiB; pack it again, as by xz -9"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_of_bzip2_and_xz_are_an_error_in_bounded_memory(tmp_path, name):
    pack, reason = BOMBS[name]
    head = bz2.compress if name == "bz2" else lzma.compress
    path = tmp_path / "bomb"
    path.write_bytes((b"" if name == "dictionary" else head(header("bomb", 2 << 30))) + pack(bytes(1 << 20)))
    code = (
        "import pathlib, sys; from tests.memory import peak_mib; from stages.library.sources import archives\n"
        "archives.UNPACKED_ANYWAY = 64 << 20\n"
        "try: list(archives.members(pathlib.Path(sys.argv[1]), lambda name: True))\n"
        "except archives.UserError as error: print(error)\n"
        "print(peak_mib())"
    )
    said, peak_mib = processes.run(sys.executable, "-c", code, path).stdout.splitlines()
    assert said == f"{path} is damaged or truncated ({reason}). Get it anew"
    assert int(peak_mib) < 128
