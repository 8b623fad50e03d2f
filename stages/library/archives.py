"""Members of tar archives, one after the other and without unpacking anything to disk."""

import contextlib
import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from stages.library.console import UserError

MAX_MEMBER_BYTES = 256 << 20
BLOCK_BYTES = 1 << 20

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
      name: its path there, with forward slashes.
      content: its bytes, or None where `refused` says why they were not read.
      is_folder: it is no file but a folder, which has no content.
    """

    name: str
    content: bytes | None
    refused: str = ""
    is_folder: bool = False


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
    with _damage_named(source), gzip.GzipFile(fileobj=file) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        for info in tar:
            if not info.isdir():
                yield _member(tar, info, max_member_bytes)
        _check_end(tar)


def tar_members(file: IO[bytes], source: str, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Member]:
    """Yields every member of a plain tar, its folders too; otherwise as `tar_gz_members`."""
    with _damage_named(source), tarfile.open(fileobj=file, mode="r|") as tar:
        for info in tar:
            yield _member(tar, info, max_member_bytes)
        # No checksum tells that a plain tar is complete: the block of zeros that ends it must be there.
        if tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("its end is missing")
        _check_end(tar)


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
