"""Members of tar archives, one after the other and without unpacking anything to disk."""

import contextlib
import gzip
import io
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
    """A file in an archive.

    Attributes:
      name: its path there, with forward slashes.
      content: its bytes, or None where `rejected` says why they were not read.
      is_folder: it is no file but a folder, which has no content.
    """

    name: str
    content: bytes | None
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


class _Ending(io.BufferedIOBase):
    """A stream that lets nobody read on and on after its end, as tarfile does to skip what a damaged size promises."""

    def __init__(self, file: IO[bytes]):
        super().__init__()
        self._file = file
        self._reads_left = READS_AT_THE_END

    def read(self, size: int | None = -1, /) -> bytes:
        block = self._file.read(-1 if size is None else size)
        if not block:
            self._reads_left -= 1
            if self._reads_left < 0:
                raise EOFError("it ends too early")
        return block


def tar_gz_members(file: IO[bytes], source: str, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Member]:
    """Yields every member of a tar.gz but its folders, in order; memory is that of one member.

    Names are what the archive says: they are safe to compare and to print, never to open.

    Args:
      file: open for reading; need not be seekable, so that an archive within an archive is read in place.
      source: what to call it in errors.
      max_member_bytes: larger members are yielded without their content.

    Raises:
      UserError: the archive is damaged or truncated; raised at the latest after the last member.
    """
    # gzip's own reader, for tarfile's checks neither the checksum nor that the stream is complete.
    with _damage_named(source), gzip.GzipFile(fileobj=file) as plain, _opened(plain) as tar:
        for info in tar:
            if not info.isdir():
                yield _member(tar, info, max_member_bytes)
        _check_end(tar)


def tar_members(file: IO[bytes], source: str, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Member]:
    """Yields every member of a plain tar, its folders too; otherwise as `tar_gz_members`."""
    with _damage_named(source), _opened(file) as tar:
        for info in tar:
            yield _member(tar, info, max_member_bytes)
        # No checksum tells that a plain tar is complete: the block of zeros that ends it must be there.
        if tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("its end is missing")
        _check_end(tar)


def _opened(file: Any) -> tarfile.TarFile:
    ending: Any = _Ending(file)
    return tarfile.open(fileobj=ending, mode="r|", tarinfo=_Header)


@contextlib.contextmanager
def _damage_named(source: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"{source} is damaged or truncated ({' '.join(str(error).split()) or type(error).__name__}). "
            "Fetch it again: dvc repro -f fetch"
        ) from error


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, max_member_bytes: int) -> Member:
    if info.isdir():
        return Member(info.name, None, "a folder", is_folder=True)
    if not info.isfile():
        return Member(info.name, None, "a link or device in the archive, not a file")
    if info.size > max_member_bytes:
        return Member(info.name, None, f"larger than {max_member_bytes / (1 << 20):g} MiB")
    reader = tar.extractfile(info)
    return Member(info.name, reader.read() if reader else b"")


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile takes a damaged header for the end. After the true end there are only zeros.
    while tail := tar.fileobj.read(BLOCK_BYTES):
        if tail.strip(b"\0"):
            raise tarfile.ReadError("a header is damaged")
