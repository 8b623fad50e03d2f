"""What a person sees of a stage: errors in one line, progress bars, and a closing line."""

import argparse
import contextlib
import errno
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")
HELP_COLUMNS, HELP_LINES = 78, 8

# What the machine refuses, and what its user can do; any other OSError is a defect and keeps its traceback.
REMEDIES = {
    errno.EACCES: "Make it writable, or set DECANT_CACHE to a folder that is",
    errno.EPERM: "Make it writable, or set DECANT_CACHE to a folder that is",
    errno.EROFS: "Set DECANT_CACHE to a folder that can be written to",
    errno.ENOSPC: "Free some space, or set DECANT_CACHE to a folder on a larger disk. What is finished is kept",
    errno.EDQUOT: "Free some space, or set DECANT_CACHE to a folder on a larger disk. What is finished is kept",
}
DISK = errno.ENOSPC, errno.EDQUOT, errno.EROFS


class UserError(Exception):
    """Something the user can mend; shown as one line, without a traceback."""


class Stopped(BaseException):
    """SIGTERM: what the script has begun is cleaned up on the way out."""


def run(main: Callable[[], None]) -> None:
    """Runs a script's main function; what the user can mend becomes one line on stderr and exit status 1.

    SIGTERM and Ctrl+C end it in order, with one line and the exit status of shells: 143 and 130.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _stop)
    try:
        main()
    except (Stopped, KeyboardInterrupt) as stop:
        number = signal.SIGTERM if isinstance(stop, Stopped) else signal.SIGINT
        print(f"stopped by {number.name}. What is finished is kept; run it again to go on", file=sys.stderr)
        sys.exit(128 + number)
    except UserError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        refused = _refusal(error)
        if refused is None:
            raise
        filename = getattr(error, "filename", None)
        place = f": {filename}" if filename else ""
        remedy = _to_read(refused, filename) or REMEDIES[refused]
        sys.exit(f"error: {os.strerror(refused)}{place}. {remedy}")  # HDF5's own text has several lines


def _refusal(error: Exception) -> int | None:
    """Returns the number of what the machine refused, if that is what an error is about."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in REMEDIES else None
    # TensorFlow and h5py have errors of their own, with the operating system's words in their texts.
    return next((number for number in DISK if os.strerror(number) in str(error)), None)


def _to_read(refused: int, filename: object) -> str | None:
    """Returns what to do where it was reading that was refused, else None.

    What is written here is a new file in a folder that can be read. So where there is a file that this user can't read,
    or a folder on the way to it that this user can't enter, reading failed.
    """
    if refused not in (errno.EACCES, errno.EPERM) or not isinstance(filename, str | bytes):
        return None
    path = Path(os.fsdecode(filename)).absolute()
    is_effective = os.access in os.supports_effective_ids
    if not os.path.lexists(path):
        path = next(folder for folder in path.parents if os.path.lexists(folder))
        needed = os.X_OK
    else:
        needed = os.R_OK | (os.X_OK if path.is_dir() else 0)
    if os.access(path, needed, effective_ids=is_effective):
        return None
    return f"Let this user read {path}"


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    raise Stopped


def parser(doc: str | None, module: str) -> argparse.ArgumentParser:
    """Returns the parser of a stage's command line, whose help fits a screen of 80 columns and 24 lines.

    Args:
      doc: docstring of the stage. Its paragraphs are wrapped and shown as long as they are no lists and few.
      module: name of the stage's module; with hyphens, that of the stage in dvc.yaml.
    """
    shown: list[str] = []
    for paragraph in (doc or "").strip().split("\n\n"):
        lines = textwrap.wrap(paragraph, HELP_COLUMNS)
        if "\n  " in paragraph or len(shown) + len(lines) > HELP_LINES:
            shown += [f"The head of stages/{module}.py says what it reads, writes and costs."]
            break
        shown += lines
    return argparse.ArgumentParser(
        prog=f"python -m stages.{module}",
        usage="%(prog)s [options]",
        description="\n".join(shown),
        epilog=f"example: dvc repro {module.replace('_', '-')}    (dvc.yaml has the paths)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextlib.contextmanager
def notice(what: str) -> Iterator[None]:
    """Shows a line on stderr while something takes seconds that nobody can count; nothing where it is no terminal.

    Inside of a spinner, which stands in the place of stderr, there is something to be seen already.
    """
    shown = sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.isatty()
    if shown:
        print(f"{what} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def progress(items: Iterable[T], description: str, unit: str, total: int | None = None) -> Iterable[T]:
    """Yields the items under a progress bar; silent where stderr is not a terminal, as in CI logs."""
    return tqdm(items, desc=description, unit=f" {unit}", total=total, disable=None, mininterval=0.2, leave=False)


def progress_bar(description: str, unit: str, total: int) -> "tqdm[NoReturn]":
    """Returns a progress bar to be updated by hand, as `progress` shows one."""
    return tqdm(desc=description, unit=f" {unit}", total=total, disable=None, mininterval=0.2, leave=False)


class Stopwatch:
    """Seconds since its making, for the closing line of a stage."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def close(self, stage: str, what: str, count: int, unit: str = "images", *, following: str) -> None:
        """Prints "stage: what; 2.1 s, 850 images/s. Next: dvc repro following"."""
        seconds = self.seconds()
        speed = count / max(seconds, 1e-9)
        print(f"{stage}: {what}; {seconds:.1f} s, {speed:,.0f} {unit}/s. Next: dvc repro {following}", flush=True)
