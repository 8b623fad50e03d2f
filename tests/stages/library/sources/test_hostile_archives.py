"""Archives made to harm: bombs in every place, headers that lie, and a zip that can't be named."""

import gzip
import io
import sys
import tarfile
import zipfile

import pytest

from stages.library.common.console import UserError
from stages.library.sources.archives import Member, tar_gz_members, tar_members
from tests import processes
from tests.layouts import fetch_and_read, tar_bytes

IMAGE = ("a/1.jpg", b"one")
END = bytes(2 * tarfile.BLOCKSIZE)


def padded(content):
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def of_size(field):
    """A header whose 12 bytes of size are these, with a checksum that fits."""
    whole = bytearray(header("liar", 0))
    whole[124:136] = field
    whole[148:156] = b" " * 8
    whole[148:156] = b"%06o\0 " % sum(whole)
    return bytes(whole)


def attributes(**values):
    """A pax header; a dot in a name is written as two underscores."""
    body = b""
    for name, value in values.items():
        rest = b" %s=%s\n" % (name.replace("__", ".").encode(), value)
        body += b"%d%s" % (len(rest) + len(str(len(rest) + 2)), rest)
    return header("pax", len(body), tarfile.XHDTYPE) + padded(body)


PLAIN = header(IMAGE[0], 3) + padded(IMAGE[1])
SPARSE = {"GNU__sparse__name": b"s", "GNU__sparse__realsize": b"9"}
SPARSE_1 = attributes(GNU__sparse__major=b"1", GNU__sparse__minor=b"0", **SPARSE) + header("s", 512)
LIES = {
    "a member of 2^87 bytes": of_size(b"\x80" + b"\x7f" * 11),
    "3,000 lists of attributes in a row": attributes(a=b"b") * 3000,
    "3,000 long names in a row": (header("x", 5, tarfile.GNUTYPE_LONGNAME) + padded(b"abcd\0")) * 3000,
    "a sparse file whose map is no number": SPARSE_1 + padded(b"x\n0\n"),
    "a sparse file whose map never ends": SPARSE_1 + padded(b"99999999999\n0\n"),
    "a sparse file whose old map is no number": attributes(GNU__sparse__map=b"1,x", GNU__sparse__size=b"9"),
    "a sparse file whose size is no number": attributes(GNU__sparse__size=b"zz", GNU__sparse__offset=b"q"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("compressed", [True, False])
def test_headers_that_lie_are_a_users_error_at_once(name, compressed):
    content = PLAIN + LIES[name] + header("s", 3) + padded(b"abc") + END
    stream = io.BytesIO(gzip.compress(content, 1) if compressed else content)
    with pytest.raises(UserError, match=r"^x.tar is damaged or truncated \(.+\). Fetch it again"):
        list((tar_gz_members if compressed else tar_members)(stream, "x.tar"))


def test_a_negative_size_neither_hangs_nor_hides_the_next_member():
    content = of_size(b"\xff" * 11 + b"\0") + PLAIN + END
    assert list(tar_members(io.BytesIO(content), "x.tar"))[1:] == [Member(*IMAGE)]


EXTENDED = [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, *EXTENDED])
def test_bombs_stay_in_bounded_memory(tmp_path, kind):
    path = tmp_path / "bomb.tar.gz"
    zeros = gzip.compress(bytes(1 << 20)) * 300  # so many MiB in some KiB
    path.write_bytes(gzip.compress(header("bomb", 300 << 20, kind)) + zeros + gzip.compress(PLAIN + END))
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


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../../etc/passwd", "a/../../x", "C:\\x", "\\\\host\\x", "a\0b", "."]
)
def test_no_name_leads_out_for_nothing_is_unpacked(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = list(tar_members(io.BytesIO(tar_bytes([(name, b"x"), IMAGE])), "x.tar"))
    assert found[1:] == [Member(*IMAGE)]
    assert list(tmp_path.iterdir()) == []


INNER = "caltech-101/101_ObjectCategories.tar.gz"
# In the central directory: flags at byte 8 (1: encrypted, 0x800: the name is UTF-8), compression at byte 10.
CHANGES = {
    "encrypted": lambda content, at: content[: at + 8] + b"\1" + content[at + 9 :],
    "name that is no UTF-8": lambda content, at: (
        content[:at] + (content[at : at + 9] + b"\x08" + content[at + 10 :]).replace(b"caltech", b"\xffaltech")
    ),
    "unknown compression": lambda content, at: content[: at + 10] + b"\x63\0" + content[at + 12 :],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_zip_that_can_not_be_opened_is_a_users_error(tmp_path, change):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(INNER, gzip.compress(tar_bytes([IMAGE])))
    content = path.read_bytes()
    path.write_bytes(CHANGES[change](content, content.index(b"PK\1\2")))
    with pytest.raises(UserError, match=rf"must be a zip with {INNER} in it"):
        fetch_and_read("caltech101", path, tmp_path)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_does_not_decompress_is_a_users_error(tmp_path, method, place):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(INNER, gzip.compress(tar_bytes([("a/1.jpg", bytes(range(256)) * 100)]), 0))
    content = path.read_bytes()
    start = 30 + len(INNER) + int(place * content.index(b"PK\1\2"))
    path.write_bytes(content[:start] + bytes(byte ^ 0xFF for byte in content[start : start + 9]) + content[start + 9 :])
    with pytest.raises(UserError, match="is damaged or truncated"):
        fetch_and_read("caltech101", path, tmp_path)
