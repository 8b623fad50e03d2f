"""What a person sees of a stage: errors in one line, progress bars, and a closing line."""

import argparse
import contextlib
import errno
import os
import select
import signal
import sys
import textwrap
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
HELP_COLUMNS, HELP_LINES = 78, 8

LARGER = "set DECANT_CACHE to a folder on a larger disk"
# What the machine rejects, and what its user can do; any other OSError is a defect and keeps its traceback.
REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Make it writable, or set DECANT_CACHE to a folder that is"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"Free some space, or {LARGER}. What is finished is kept"),
    errno.ENOMEM: "Choose smaller batches, images or layers in params.yaml, or a machine with more memory",
    errno.EROFS: "Set DECANT_CACHE to a folder that can be written to",
}
DISK = errno.ENOSPC, errno.EDQUOT, errno.EROFS

# Control characters, formats such as a turn of the direction, bytes that are no text, line separators: a terminal obeys
# them, or its reader is misled. Two formats only join letters or emoji.
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = {"\u200c", "\u200d"}


class UserError(Exception):
    """Something the user can mend; shown as one line, without a traceback."""


class Parser(argparse.ArgumentParser):
    """A command line whose errors, which repeat other people's file names, steer no terminal; help is as written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter} | options)

    def error(self, message: str) -> NoReturn:
        super().error(in_a_line(message))


class Stopped(BaseException):
    """SIGTERM: what the script has begun is cleaned up on the way out."""


def say(*lines: str, err: bool = False) -> None:
    """Prints lines, as all that this project prints, for nearly all may hold names that others gave (`in_a_line`)."""
    for line in lines:
        print(in_a_line(line), file=sys.stderr if err else sys.stdout, flush=True)


def in_a_line(text: str) -> str:
    """Returns a text as a terminal can show it, with escapes where it would break the line or steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if steers(c) else c for c in text)


def count(number: int, noun: str) -> str:
    """Returns "1 image", "2,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 10) -> str:
    """Returns names in a line, and how many more there are than `most`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def steers(character: str) -> bool:
    """Tells whether a character does something to a terminal or a text instead of being shown."""
    return unicodedata.category(character) in STEERING and character not in JOINERS


def run(main: Callable[[], None]) -> None:
    """Runs a script's main function; what the user can mend becomes one line on stderr and exit status 1.

    SIGTERM and Ctrl+C end it in order, with one line and the exit status of shells: 143 and 130. Where the reader of
    its output has gone, as `head` does, it ends quietly with 141. Tracebacks and warnings are escaped as all else is.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _stop)
    sys.excepthook = _show_traceback
    warnings.formatwarning = lambda text, kind, file, row, *_: (
        in_a_line(f"{file}:{row}: {kind.__name__}: {text}") + "\n"
    )
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end
    try:
        main()
        sys.stdout.flush()  # what Python itself finds out at its end is two lines in place of ours
    except (Stopped, KeyboardInterrupt) as stop:
        number = signal.SIGTERM if isinstance(stop, Stopped) else signal.SIGINT
        with contextlib.suppress(OSError):  # nobody reads it
            say(f"stopped by {number.name}. What is finished is kept; run it again to go on", err=True)
        sys.exit(128 + number)
    except UserError as error:
        sys.exit(in_a_line(f"error: {error}"))
    except BrokenPipeError:
        if not _unread(sys.stdout) and not _unread(sys.stderr):
            raise  # of another pipe: a defect
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (rejected := _rejection(error)) is None:
            raise
        sys.exit(in_a_line(f"error: {rejected}"))
    finally:
        _settle(sys.stdout)
        _settle(sys.stderr)


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    say(*"".join(traceback.format_exception(kind, error, trace)).removesuffix("\n").split("\n"), err=True)


def _unread(stream: TextIO) -> bool:
    """Tells whether a stream is a pipe whose reader has gone."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # errors alone
        return bool(poll.poll(0))
    except (OSError, ValueError):  # it is no file, or closed
        return False


def _settle(stream: TextIO) -> None:
    """Empties a stream; what it takes no more goes nowhere, for Python would try it once again and report that."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
        if not _unread(stream):
            return
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _rejection(error: Exception) -> str | None:
    """Returns what the machine rejected, and the remedy, if that is what an error is about."""
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
    elif isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's own
        number = errno.ENOMEM
    else:  # TensorFlow and h5py have errors of their own, with the operating system's words in texts of several lines
        number = next((number for number in DISK if os.strerror(number) in str(error)), 0)
    if number not in REMEDIES:
        return None
    filename = getattr(error, "filename", None)
    unreadable = _unreadable(filename) if number in (errno.EACCES, errno.EPERM) and filename else None
    remedy = f"Let this user read {unreadable}" if unreadable else REMEDIES[number]
    return f"{os.strerror(number)}{f': {filename}' if filename else ''}. {remedy}"


def _unreadable(filename: str | bytes) -> Path | None:
    """Returns a file that this user can't read, or a folder on the way to it that this user can't enter, if any."""
    # What is written here is a new file in a folder that can be read: where there is one, it was reading that failed.
    path = Path(os.fsdecode(filename)).absolute()
    if os.path.lexists(path):
        needed = os.R_OK | (os.X_OK if path.is_dir() else 0)
    else:
        path, needed = next(folder for folder in path.parents if os.path.lexists(folder)), os.X_OK
    allowed = os.access(path, needed, effective_ids=os.access in os.supports_effective_ids)
    return None if allowed else path


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    raise Stopped


def parser(doc: str | None, module: str, stage: str | None = None) -> Parser:
    """Returns the parser of a stage's command line; its help, of the docstring `doc`, fits a screen of 80 by 24.

    `stage` is the name in dvc.yaml, where that is not the module's with hyphens.
    """
    shown: list[str] = []
    for paragraph in (doc or "").strip().split("\n\n"):
        lines = textwrap.wrap(paragraph, HELP_COLUMNS)
        if "\n  " in paragraph or len(shown) + len(lines) > HELP_LINES:
            shown += [f"The head of stages/{module}.py says what it reads, writes and costs."]
            break
        shown += lines
    return Parser(
        prog=f"python -m stages.{module}",
        usage="%(prog)s [options]",
        description="\n".join(shown),
        epilog=f"example: dvc repro {stage or module.replace('_', '-')}    (dvc.yaml has the paths)",
    )


@contextlib.contextmanager
def notice(what: str) -> Iterator[None]:
    """Shows a line on stderr while something takes seconds that nobody can count; nothing where it is no terminal."""
    # Inside of a spinner, which stands in the place of stderr, there is something to be seen already.
    shown = sys.stderr is sys.__stderr__ and sys.stderr is not None and sys.stderr.isatty()
    if shown:
        print(f"{in_a_line(what)} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def progress(items: Iterable[T], description: str, unit: str, total: int | None = None) -> "tqdm[T]":
    """Yields the items under a progress bar, or updates it by hand; silent where stderr is no terminal, as in CI."""
    shown = in_a_line(description)
    return tqdm(items, desc=shown, unit=f" {unit}", total=total, disable=None, mininterval=0.2, leave=False)


class Stopwatch:
    """Seconds since its making, for the closing line of a stage."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def close(self, stage: str, what: str, count: int = 0, unit: str = "images", *, following: str) -> None:
        """Prints "stage: what; 2.1 s, 850 images/s. Next: dvc repro following"; of nothing done there is no speed."""
        seconds = self.seconds()
        speed = count / max(seconds, 1e-9)
        shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
        rate = f", {shown} {unit}/s" if count else ""
        say(f"{stage}: {what}; {seconds:.1f} s{rate}. Next: dvc repro {following}")
