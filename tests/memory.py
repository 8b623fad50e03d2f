"""The peak of a process's own memory. What `getrusage` tells of a child starts at the peak of its parent."""

import re
from pathlib import Path


def peak_mib() -> int:
    """Returns the most memory that this process had since its program started, or since `forget_peak`, MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) >> 10


def forget_peak() -> None:
    """Lets the peak start again at what the process has now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
