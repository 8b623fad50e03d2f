"""Whether HDF5 can read a file, found out in a process of its own.

HDF5's library is C that trusts the file: damaged ones end the process that reads them or send it round for ever
(checks.fuzz found both). So another process reads everything first, under a limit of time.
"""

import resource
import signal
import subprocess
import sys
from pathlib import Path

MOST_CPU_SECONDS = 10  # reading takes less than a second for each GB
MOST_BYTES = 1 << 31  # of an array, far above the largest of any network here
MOST_MEMORY = 2 * MOST_BYTES  # of the process


def check(path: Path) -> None:
    """Reads a file to the end; ValueError where HDF5 can't, says why, ends its process or needs too long."""
    command = [sys.executable, "-P", __file__, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode == -signal.SIGXCPU:
        raise ValueError(f"it is damaged, HDF5 came to no end in {MOST_CPU_SECONDS} s of CPU time")
    if done.returncode < 0:
        raise ValueError(f"it is damaged, HDF5 ended with signal {-done.returncode}")
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["it is damaged"])[-1])


def _read(path: Path) -> None:
    """Reads all attributes and arrays of a file, and nothing beside it."""
    import h5py

    def read(name: str, item: "h5py.Group | h5py.Dataset") -> None:
        dict(item.attrs)
        if isinstance(item, h5py.Group):
            if not all(isinstance(item.get(key, getlink=True), h5py.HardLink) for key in item):
                raise ValueError(f"{name} has a link, perhaps out of the file")
        elif item.is_virtual or item.external:
            raise ValueError(f"{name} stands in another file")
        elif item.nbytes > MOST_BYTES:
            raise ValueError(f"an array has {item.nbytes} bytes")
        else:
            item[()]

    with h5py.File(path, "r") as file:
        read("/", file)
        file.visititems(read)


if __name__ == "__main__":
    limits = (resource.RLIMIT_CPU, MOST_CPU_SECONDS), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MOST_MEMORY)
    for kind, value in limits:
        most = resource.getrlimit(kind)[1]  # a shell or a batch system may have set a lower one
        resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))
    _read(Path(sys.argv[1]))
