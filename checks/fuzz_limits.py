"""What reading one variant may cost, and that it starts no other program."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STARTING = [
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
]
PEAK = "5"  # to /proc/self/clear_refs: the peak of memory is what is in use now


class LimitError(Exception):
    """Reading took too much, or started another program; `str(error)` says what."""


@dataclass
class Allowance:
    """What may be taken beside the limits, which is known only when a variant has been accepted."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0


def peak_bytes() -> int:
    """Returns the peak of this process's resident memory since it was last reset."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@contextlib.contextmanager
def limited(memory_bytes: int, cpu_seconds: float, about: str = "") -> Iterator[Allowance]:
    """Measures a block.

    Args:
      memory_bytes: that may come to be in use, beside what is.
      cpu_seconds: of all threads.
      about: kind of what is read, for the reason.

    Raises:
      LimitError: it took more, or something within ran out of memory, whatever came of that.
    """
    Path("/proc/self/clear_refs").write_text(PEAK, encoding="ascii")
    before, started, allowance = peak_bytes(), time.process_time(), Allowance()
    error: BaseException | None = None
    try:
        yield allowance
    except Exception as caught:
        error = caught
        raise
    finally:
        seconds, taken = time.process_time() - started, peak_bytes() - before
        what = f"{'accepted' if error is None else 'rejected'} {about}".strip()
        if taken > memory_bytes + allowance.memory_bytes or _out_of_memory(error):
            raise LimitError(f"memory: more than {memory_bytes >> 20} MiB for {what}") from error
        if seconds > cpu_seconds + allowance.cpu_seconds:
            raise LimitError(f"hang: more than {cpu_seconds:g} s of CPU time for {what}") from error


def _out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


class Programs:
    """Keeps this process from starting other programs, from its making on, and counts the attempts.

    What the interpreter does not see, such as a fork in a library of C, isn't seen here.
    """

    def __init__(self) -> None:
        self._tried: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTING:
            self._tried.append(event)
            raise PermissionError(f"{event}: a reader starts no other program")

    def check(self) -> None:
        """Raises LimitError where another program was to be started since the last check."""
        if self._tried:
            tried = self._tried.pop()
            self._tried.clear()
            raise LimitError(f"program: {tried}")
