"""Images named on a command line: files, folders, glob patterns and URLs, as JPEG or PNG bytes that decode."""

import glob
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

from stages.library.common import downloads
from stages.library.preparation.normalisation import ImageError, Normalised

MAX_BYTES = 256 << 20
TIMEOUT_SECONDS, TOTAL_SECONDS = 30.0, 120.0  # for each read of a URL, and for all of it
BLOCK_BYTES = 1 << 20


class InputError(Exception):
    """A word of the command line names nothing that can be read; `str(error)` is the reason in one line."""


@dataclass(frozen=True)
class Input:
    """An image, or why it can't be used."""

    name: str  # as it stood on the command line, or the path in the folder that stood there
    encoded: bytes = b""  # JPEG or PNG; empty before it is read and where there is an error
    error: str = ""  # the reason in one line


def find(words: Iterable[str]) -> list[Input]:
    """Returns the images that the words name, in order and not yet read; a word that names none has its reason."""
    found: list[Input] = []
    for word in words:
        try:
            found += map(Input, names(word))
        except (InputError, OSError, ValueError) as error:
            found.append(Input(word, error=_reason(error)))
    return found


def read(image: Input, normalise: Callable[[bytes], Normalised]) -> Input:
    """Returns an image with its bytes, or with the reason why it can't be used.

    `normalise` is `normalisation.normalise`, or what does it in another process.
    """
    if image.error:
        return image
    try:
        content = _download(image.name) if _is_url(image.name) else _read_file(Path(image.name))
    except (InputError, OSError, ValueError) as error:
        return Input(image.name, error=_reason(error))
    try:
        return Input(image.name, normalise(content).encoded)
    except ImageError as error:
        return Input(image.name, error=str(error))


def names(word: str) -> list[str]:
    """Returns the files and URLs that a word names: itself, the files below a folder, or a pattern's matches.

    Hidden files and links to folders, which may lead in circles, are passed over. Raises InputError where there are
    none, and OSError or ValueError for what can be no name.
    """
    if _is_url(word) and urlsplit(word).scheme != "file":
        return [word]
    path = Path(unquote(urlsplit(word).path) if _is_url(word) else word)
    if path.is_dir():
        matches = _below(path)
        if not matches:
            raise InputError("a folder without images")
        return matches
    if path.exists() or not glob.has_magic(word):
        return [str(path)]
    matches = sorted(map(str, Path(path.anchor).glob(str(path.relative_to(path.anchor)))))
    if not matches:
        raise InputError("no file matches the pattern")
    return [name for match in matches for name in (_below(Path(match)) or [match])]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _below(folder: Path) -> list[str]:
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += (str(Path(parent, name)) for name in files if not name.startswith("."))
    return sorted(found)


def _read_file(path: Path) -> bytes:
    if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe or a device could last for ever
        raise InputError("not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES >> 20} MiB")
    return path.read_bytes()


def _download(url: str) -> bytes:
    """Returns what a URL holds; the file is not kept."""
    end = time.monotonic() + TOTAL_SECONDS
    try:
        with (
            downloads.get(url, TOTAL_SECONDS, TIMEOUT_SECONDS) as response,
            downloads.limited(response, end - time.monotonic()),
        ):
            response.raise_for_status()
            content = bytearray()
            for block in response.iter_content(BLOCK_BYTES):
                content += block
                if len(content) > MAX_BYTES:
                    raise InputError(f"more than {MAX_BYTES >> 20} MiB")
            return bytes(content)
    except downloads.TooSlowError as error:
        raise InputError(f"can't be downloaded within {TOTAL_SECONDS:g} seconds") from error
    except requests.HTTPError as error:
        raise InputError(f"the server answered {error.response.status_code}") from error
    except (requests.RequestException, ValueError) as error:
        raise InputError(f"can't be downloaded: {type(error).__name__}") from error


def _is_url(word: str) -> bool:
    return word.partition("://")[0] in ("http", "https", "file")
