"""Downloads into a cache shared by all checkouts: verified, resumed where they broke off, from mirrors in turn."""

import contextlib
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from filelock import FileLock

from stages.library.common import artifacts, console
from stages.library.common.console import UserError
from stages.library.common.named_files import named

BLOCK_BYTES = 1 << 20
ATTEMPTS = 3  # at each mirror
BACKOFF_SECONDS = 0.5  # before the second attempt; doubles with each further one
TIMEOUT_SECONDS = 10.0, 60.0  # for the connection, and for each piece of the answer
HEAD_SECONDS = 120.0  # until the body begins
BLOCK_SECONDS = 180.0  # for each block of it
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class TooSlowError(requests.Timeout):
    """An answer did not come in time."""


REASONS = {  # the first that an error is
    TooSlowError: "too slow",
    requests.Timeout: "no answer in time",
    urllib3.exceptions.TimeoutError: "no answer in time",
    urllib3.exceptions.HTTPError: "the connection broke off",
    requests.ConnectionError: "no connection",
}


@dataclass(frozen=True)
class RemoteFile:
    """A published file, its hash in hex; where none is, that of the first download is recorded and checked later."""

    filename: str  # in the cache
    urls: tuple[str, ...]  # mirrors, tried in order
    size_bytes: int | None = None  # nothing longer is taken
    sha256: str | None = None
    md5: str | None = None


class _AttemptError(Exception):
    """Why an attempt failed, and whether another one at the same mirror may succeed."""


def obtain(file: RemoteFile, cache: Path, alternative: str = "") -> Path:
    """Returns the path of a verified copy in the cache, downloading it where there is none.

    What broke off stays as `filename.partial` and is resumed. Several processes may ask for the same file at once: one
    downloads, the others wait. A copy in a cache that can only be read, as many users of one machine share it, will do.

    Raises UserError where no mirror had it or the cache can't be written; the message says where to put the file, and
    the `alternative` to that, as in "or give its path as `dataset.archive`".
    """
    path = cache / file.filename
    failures = []
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{file.filename}.lock"):
            if path.exists():
                mismatch = _mismatch(file, path, path)
                if mismatch is None:
                    return path
                failures.append(f"the cached copy was removed, for {mismatch}")
                path.unlink()
            for url in file.urls:
                failure = _download(file, url, path)
                if failure is None:
                    return path
                failures.append(f"{urlsplit(url).hostname}: {failure}")
    except OSError as error:
        with contextlib.suppress(OSError):  # the copy isn't there, or has no published hash and none can be recorded
            if _mismatch(file, path, path) is None:
                return path
        raise UserError(f"The download cache can't be used: {error}. Set DECANT_CACHE to another folder") from error
    remedy = ", ".join(filter(None, [f"Get it elsewhere from {file.urls[0]} and put it at {path}", alternative]))
    raise UserError(f"{file.filename} can't be downloaded ({'; '.join(failures)}). {remedy}")


def verified_local(path: str | Path, sha256: str) -> Path:
    """Returns the path of an archive that the user gave as `dataset.archive`; UserError: its hex sha256 is another."""
    archive = named(str(path))
    try:
        received = artifacts.sha256_file(archive)
    except OSError as error:
        raise UserError(f"`dataset.archive` must be a readable file ({error.strerror}). Received: {path}") from error
    if received != sha256:
        raise UserError(f"`dataset.archive_sha256` must be the sha256 of {path}, {received}. Received: {sha256}")
    return archive


def link(source: Path, destination: Path) -> None:
    """Makes a file appear under another name too: a hard link, or a copy where that can't be."""
    destination.unlink(missing_ok=True)
    try:
        destination.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, destination)


def _download(file: RemoteFile, url: str, path: Path) -> str | None:
    """Downloads from one mirror, with a final name once it is verified; returns why it failed."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
        try:
            _attempt(file, url, path)
        except _AttemptError as error:
            reason, again = error.args
            if not again:
                break
        else:
            return None
    return str(reason)


def _attempt(file: RemoteFile, url: str, path: Path) -> None:
    partial = path.with_name(f"{path.name}.partial")
    # Without a published hash there is no telling whether two halves belong together.
    start = partial.stat().st_size if partial.exists() and (file.sha256 or file.md5) else 0
    if file.size_bytes is not None and start > file.size_bytes:
        start = 0
    if start == 0 or start != file.size_bytes:
        try:
            start = _transfer(file, url, partial, start)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            reason = next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), type(error).__name__)
            raise _AttemptError(reason, True) from error
        except ValueError as error:  # of urllib.parse, which requests lets through
            raise _AttemptError("it redirects to no address", False) from error
    if file.size_bytes is not None and partial.stat().st_size < file.size_bytes:
        raise _AttemptError("the connection broke off", True)
    if mismatch := _mismatch(file, partial, path):
        partial.unlink()
        raise _AttemptError(mismatch, start > 0)
    partial.replace(path)


def _transfer(file: RemoteFile, url: str, partial: Path, start: int) -> int:
    """Appends the rest of the file to `partial`; returns where it began, 0 if the server sent the whole file."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with get(url, HEAD_SECONDS, TIMEOUT_SECONDS, headers) as response:
        resumed = bool(start) and response.status_code == 206
        if (start and response.status_code == 416) or (
            resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        ):
            partial.unlink()
            raise _AttemptError("it can't resume the download", True)
        if not resumed and response.status_code != 200:
            raise _AttemptError(f"HTTP {response.status_code}", response.status_code in TRY_AGAIN)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _AttemptError("it sent a web page, not the file", False)
        start = start if resumed else 0
        with partial.open("ab" if resumed else "wb") as output:
            total = None if file.size_bytes is None else -(-(file.size_bytes - start) // BLOCK_BYTES)
            for block in console.progress(_blocks(response), file.filename, "MiB", total):
                output.write(block)
                if file.size_bytes is not None and output.tell() > file.size_bytes:
                    partial.unlink()
                    raise _AttemptError(f"it sent more than the {file.size_bytes} bytes of the file", False)
    return start


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Yields a body in MiB, each of which must come within a time: an archive may take hours, not for ever."""
    # Raw, for some servers declare an archive's own compression as the transfer's, and requests would undo it.
    stream = response.raw.stream(BLOCK_BYTES, decode_content=False)
    while True:
        with limited(response, BLOCK_SECONDS):
            block: bytes = next(stream, b"")
        if not block:
            return
        yield block


def _mismatch(file: RemoteFile, content: Path, path: Path) -> str | None:
    """Returns how the content differs from what `path` must hold, or None; records the hash if none is known."""
    algorithm, expected = ("md5", file.md5) if file.md5 and not file.sha256 else ("sha256", file.sha256)
    record = path.with_name(f"{path.name}.sha256")
    with content.open("rb") as opened:
        received = hashlib.file_digest(opened, algorithm).hexdigest()
    if expected is None:
        if not record.exists():
            artifacts.write_bytes(record, f"{received}  {path.name}\n".encode())
            console.say(f"{path.name}: no hash is published; from now on it must be {received} ({record})")
        recorded = record.read_text(encoding="utf-8", errors="replace")[:64]
        return None if received == recorded else f"its sha256 is {received}, not {recorded} as {record} recorded"
    return None if received == expected else f"its {algorithm} is {received}, not {expected}"


def get(
    url: str, seconds: float, read_seconds: float | tuple[float, float], headers: Mapping[str, str] | None = None
) -> requests.Response:
    """Returns an answer whose body has yet to be read, after redirects.

    The end of the last head must come within `seconds` in all, for a limit for each read lets a byte a second last for
    ever; a connection and each read, now and of the body, within `read_seconds`. Raises TooSlowError, another
    requests.RequestException, or ValueError for a redirect to no address.
    """
    answer: Future[requests.Response] = Future()

    def ask() -> None:
        try:
            answer.set_result(requests.get(url, headers=headers, stream=True, timeout=read_seconds))
        except Exception as error:  # noqa: BLE001 - raised below
            answer.set_exception(error)

    # Names, encryption, redirects and heads can each drip, and nothing interrupts them: it is left behind.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise TooSlowError from None


@contextlib.contextmanager
def limited(answer: requests.Response, seconds: float) -> Iterator[None]:
    """Bounds the time for what is read of a body in the block; TooSlowError: the answer is of no use any more."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has just ended by itself
            answer.raw.shutdown()

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # it may just be cutting
        if late.is_set():
            raise TooSlowError  # whatever a cut connection has looked like
