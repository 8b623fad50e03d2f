"""Members of zip and tar archives, one after the other and without unpacking anything to disk."""

import bz2
import contextlib
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from stages.library.common.console import UserError

MAX_MEMBER_BYTES = 256 << 20
MAX_EXTENDED_BYTES = 1 << 20  # a long name or a list of attributes, which tarfile holds in memory whole
BLOCK_BYTES = 1 << 20
READS_AT_THE_END = 8
# bzip2 makes zeros 20,000 times smaller, xz 7,000 times; the most that gzip can do is allowed, as it takes seconds.
MAX_RATIO, UNPACKED_ANYWAY = 1_032, 1 << 30
PACKED_BLOCK_BYTES = 64 << 10  # copied for each part that ends in it
DICTIONARY_BYTES = 256 << 20  # of xz, in memory; that of `xz -9` has 64 MiB
LINK = "a link or device in the archive, not a file"

# ValueError, RecursionError: what tarfile makes of attributes that are no numbers, and of thousands of them in a row.
DAMAGE = tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RecursionError
ZIP_DAMAGE = *DAMAGE, struct.error, NotImplementedError, RuntimeError
# Types of headers that hold attributes or a long name: pax (also Solaris') and GNU.
EXTENDED = b"x", b"g", b"X", b"L", b"K"


@dataclass(frozen=True)
class Member:
    """A file in an archive, or a folder."""

    name: str  # its path there, with forward slashes
    content: bytes | None  # None where `rejected` says why it was not read, as for any folder
    rejected: str = ""
    is_folder: bool = False
    is_lost: bool = False  # rejected although it should have been an image


class _Header(tarfile.TarInfo):
    """A header, rejected where it announces more attributes than any archive has."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENDED and header.size > MAX_EXTENDED_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


class _Ending:
    """A stream that lets nobody read on and on after its end, as tarfile does to skip what a damaged size promises."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._reads_left = READS_AT_THE_END

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        if not block:
            self._reads_left -= 1
            if self._reads_left < 0:
                raise EOFError("it ends too early")
        return block


class _Unpacked:
    """A stream of what bzip2 or xz has packed, in one part or several; what packs too well is no archive of images."""

    def __init__(self, file: IO[bytes], start: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]):
        self._file, self._start = file, start
        self._part = start()
        self._packed_bytes = self._unpacked_bytes = 0

    def read(self, size: int) -> bytes:
        content = b""
        while not content:
            packed = b""
            if self._part.eof:  # then zeros may follow, or another part
                packed = self._part.unused_data.lstrip(b"\0")
                while not packed and (block := self._block()):
                    packed = block.lstrip(b"\0")
                if not packed:
                    return b""
                self._part = self._start()
            elif self._part.needs_input and not (packed := self._block()):
                raise EOFError("it ends too early")
            try:
                content = self._part.decompress(packed, size)
            except lzma.LZMAError as error:
                if "limit" not in str(error):
                    raise
                reason = f"its dictionary takes more than {DICTIONARY_BYTES >> 20} MiB; pack it again, as by xz -9"
                raise EOFError(reason) from error
        self._unpacked_bytes += len(content)
        if self._unpacked_bytes > UNPACKED_ANYWAY + MAX_RATIO * self._packed_bytes:
            raise EOFError(f"it unpacks to more than {MAX_RATIO:,} times its size")
        return content

    def _block(self) -> bytes:
        block = self._file.read(PACKED_BLOCK_BYTES)
        self._packed_bytes += len(block)
        return block


# By their first bytes, for a name may be .tar.gz, .tgz or any other.
PACKED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": lambda file: _Unpacked(file, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda file: _Unpacked(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, DICTIONARY_BYTES)),
}


def tar_gz_members(file: IO[bytes], source: str, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Member]:
    """Yields every member of a tar.gz but its folders, in order; memory is that of one member.

    Names are what the archive says: never open them. The file need not be seekable, so that an archive within an
    archive is read in place. UserError, which names `source`: it is damaged; at the latest after the last member.
    """
    # gzip's own reader, for tarfile's checks neither the checksum nor that the stream is complete.
    with _damage_named(source), gzip.GzipFile(fileobj=file) as plain:
        yield from (member for member in _members(plain, max_member_bytes) if not member.is_folder)


def tar_members(file: IO[bytes], source: str, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Member]:
    """Yields every member of a plain tar, its folders too; otherwise as `tar_gz_members`."""
    with _damage_named(source):
        # No checksum tells that a plain tar is complete: the block of zeros that ends it must be there.
        yield from _members(file, max_member_bytes, ending_bytes=tarfile.BLOCKSIZE)


def members(path: Path, wanted: Callable[[str], bool], max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Member]:
    """Yields every member of a zip or a tar, its folders too; `content` is empty for names not `wanted`.

    The tar may be packed by gzip, bzip2 or xz, whatever its name.
    UserError: it is none of them, or it is damaged as a whole. A damaged or encrypted member of a zip is just rejected.
    """
    with _damage_named(str(path), "Get it anew"), path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
        file.seek(0)
        unpacked = next((unpacked for mark, unpacked in PACKED.items() if start.startswith(mark)), None)
        if unpacked:
            yield from _members(unpacked(file), max_member_bytes, wanted=wanted)
        elif start[257:262] == b"ustar":
            yield from _members(file, max_member_bytes, tarfile.BLOCKSIZE, wanted)
        elif zipfile.is_zipfile(file):
            with _opened_zip(file) as archive:
                yield from (_zip_member(archive, info, wanted, max_member_bytes) for info in archive.infolist())
        else:
            raise UserError(
                f"`dataset.folder` must be a folder, or a zip, tar, tar.gz, tar.bz2 or tar.xz of one. Received: {path}"
            )


def _opened_zip(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except ZIP_DAMAGE as error:
        raise zipfile.BadZipFile(str(error)) from error


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, wanted: Callable[[str], bool], max_member_bytes: int
) -> Member:
    name = (
        info.filename if "/" in info.filename else info.filename.replace("\\", "/")
    )  # as old programs of Windows write
    if name.endswith("/"):
        return Member(name, None, "a folder", is_folder=True)
    kind, rejected = stat.S_IFMT(info.external_attr >> 16), ""
    if kind not in (0, stat.S_IFREG):
        return Member(name, None, LINK)
    if info.flag_bits & 1:
        rejected = "encrypted in the archive"
    elif info.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # others may unpack to more than they say
        rejected = "compressed in the archive by another method than Deflate"
    elif info.file_size > max_member_bytes:
        rejected = f"larger than {max_member_bytes >> 20} MiB"
    elif not wanted(name):
        return Member(name, b"")
    else:
        try:
            return Member(name, archive.read(info))
        except ZIP_DAMAGE as error:
            rejected = f"damaged in the archive: {' '.join(str(error).split()) or type(error).__name__}"
    return Member(name, None, rejected, is_lost=True)


def _members(
    file: Any, max_member_bytes: int, ending_bytes: int = 0, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Member]:
    ending: Any = _Ending(file)
    with tarfile.open(fileobj=ending, mode="r|", tarinfo=_Header) as tar:
        for info in tar:
            content, rejected = None, ""
            if info.isdir():
                rejected = "a folder"
            elif not info.isfile():
                rejected = LINK
            elif info.size > max_member_bytes:
                rejected = f"larger than {max_member_bytes / (1 << 20):g} MiB"
            elif wanted(info.name):
                reader = tar.extractfile(info)
                content = reader.read() if reader else b""
            else:
                content = b""
            yield Member(info.name, content, rejected, info.isdir(), is_lost=info.size > max_member_bytes)
        if tar.fileobj.tell() < tar.offset + ending_bytes:
            raise tarfile.ReadError("its end is missing")
        # tarfile takes a damaged header for the end. After the true end there are only zeros.
        while tail := tar.fileobj.read(BLOCK_BYTES):
            if tail.strip(b"\0"):
                raise tarfile.ReadError("a header is damaged")


@contextlib.contextmanager
def _damage_named(source: str, remedy: str = "Fetch it again: dvc repro -f fetch") -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{source} is damaged or truncated ({reason}). {remedy}") from error
