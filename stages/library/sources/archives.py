"""Members of tar archives, one after the other and without unpacking anything to disk."""

import contextlib
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Self

from stages.library.common.console import UserError

MAX_MEMBER_BYTES = 256 << 20
MAX_EXTENDED_BYTES = 1 << 20  # a long name or a list of attributes, which tarfile holds in memory whole
BLOCK_BYTES = 1 << 20
READS_AT_THE_END = 8

# ValueError, RecursionError: what tarfile makes of attributes that are no numbers, and of thousands of them in a row.
DAMAGE = tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RecursionError
# Types of headers that hold attributes or a long name: pax (also Solaris') and GNU.
EXTENDED = b"x", b"g", b"X", b"L", b"K"


@dataclass(frozen=True)
class Member:
    """A file in an archive, or a folder."""

    name: str  # its path there, with forward slashes
    content: bytes | None  # None where `rejected` says why it was not read, as for any folder
    rejected: str = ""
    is_folder: bool = False


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


def _members(file: Any, max_member_bytes: int, ending_bytes: int = 0) -> Iterator[Member]:
    ending: Any = _Ending(file)
    with tarfile.open(fileobj=ending, mode="r|", tarinfo=_Header) as tar:
        for info in tar:
            content, rejected = None, ""
            if info.isdir():
                rejected = "a folder"
            elif not info.isfile():
                rejected = "a link or device in the archive, not a file"
            elif info.size > max_member_bytes:
                rejected = f"larger than {max_member_bytes / (1 << 20):g} MiB"
            else:
                reader = tar.extractfile(info)
                content = reader.read() if reader else b""
            yield Member(info.name, content, rejected, info.isdir())
        if tar.fileobj.tell() < tar.offset + ending_bytes:
            raise tarfile.ReadError("its end is missing")
        # tarfile takes a damaged header for the end. After the true end there are only zeros.
        while tail := tar.fileobj.read(BLOCK_BYTES):
            if tail.strip(b"\0"):
                raise tarfile.ReadError("a header is damaged")


@contextlib.contextmanager
def _damage_named(source: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"{source} is damaged or truncated ({' '.join(str(error).split()) or type(error).__name__}). "
            "Fetch it again: dvc repro -f fetch"
        ) from error
