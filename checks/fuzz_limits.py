"""What reading one variant may cost."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PEAK = "5"  # to /proc/self/clear_refs: the peak of memory is what is in use now


class LimitError(Exception):
    """Reading took too much; `str(error)` says of what."""


@dataclass
class Allowance:
    """What may be taken beside the limits, which is known only when a variant has been accepted."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0


def _peak_bytes() -> int:
    """Returns the peak of this process's resident memory since it was last reset."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@contextlib.contextmanager
def limited(memory_bytes: int, cpu_seconds: float, about: str) -> Iterator[Allowance]:
    """Measures a block: the memory that comes to be in use in it, and the CPU time of all threads.

    Raises:
      LimitError: it took more, or something within ran out of memory, whatever came of that.
    """
    Path("/proc/self/clear_refs").write_text(PEAK, encoding="ascii")
    before, started, allowance = _peak_bytes(), time.process_time(), Allowance()
    what, full = f"accepted {about}", False
    try:
        yield allowance
    except Exception as error:
        what = f"rejected {about}"
        cause: BaseException | None = error
        while cause is not None:
            full |= isinstance(cause, MemoryError) or "out of memory" in str(cause)
            cause = cause.__cause__ or cause.__context__
        raise
    finally:
        seconds, taken = time.process_time() - started, _peak_bytes() - before
        if full or taken > memory_bytes + allowance.memory_bytes:
            raise LimitError(f"crash: memory: more than {memory_bytes >> 20} MiB for {what}")
        if seconds > cpu_seconds + allowance.cpu_seconds:
            raise LimitError(f"hang: more than {cpu_seconds:g} s of CPU time for {what}")
