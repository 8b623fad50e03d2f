"""Where the feature store lies: a folder, or what fsspec reaches by a URL, so that several machines can share it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stages.library.common import artifacts
from stages.library.common.cache_folders import cache_folder, named_folder
from stages.library.common.console import UserError

VARIABLE = "DECANT_STORE"


def root() -> Path:
    """Returns $DECANT_STORE, a path or a URL such as s3://bucket/features, or the folder `features` of the cache."""
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return cache_folder() / "features"
    if "://" not in chosen:
        return named_folder(VARIABLE, chosen)
    from upath import UPath

    try:
        location = UPath(chosen)
        location.fs  # noqa: B018 - makes the file system, which says what is missing
    except (ValueError, ImportError) as error:
        raise UserError(
            f"`{VARIABLE}` must be a path or a URL that fsspec can read ({error}). Received: {chosen!r}. For S3, GCS, "
            "Azure or SSH run: pip install 'dvc[s3]', 'dvc[gs]', 'dvc[azure]' or 'dvc[ssh]'"
        ) from error
    # UPath has Path's methods and, from release 0.3 on, another base class.
    return location  # type: ignore[return-value]


def is_local(path: Path) -> bool:
    """Tells whether a path is one of this machine's file system."""
    return isinstance(path, Path)


def write(path: Path, content: bytes) -> None:
    """Writes a file whole, as object stores do; what others leave of a broken one does not hash to its name."""
    if is_local(path):
        artifacts.write_bytes(path, content)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[None]:
    """Turns what a remote store's library raises, whatever its kind, into a UserError; a folder's errors pass."""
    try:
        yield
    except Exception as error:
        if is_local(path) or isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"`{VARIABLE}` can't be used ({reason}). Check the URL, its credentials and the network, or unset it. "
            f"Received: {path}"
        ) from error


def touch(path: Path) -> None:
    """Sets the time of a small file's last change to now, where that is allowed."""
    with contextlib.suppress(OSError):  # a store that others own can be read all the same
        if is_local(path):
            os.utime(path)
        else:
            path.write_bytes(path.read_bytes())


def remove(folder: Path) -> None:
    """Removes a folder and what is in it."""
    for path in sorted(folder.glob("*"), key=str):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # an object store has no folders
        folder.rmdir()
