"""A stage in a process that a fault can be injected into, at a random moment or before a chosen change of its files.

Processes are forked from one that has everything imported, TensorFlow too, which has no threads until its first op: a
run costs what the stage does, not seconds of start-up. The stage itself is run as `python -m stages.NAME` runs it.
"""

import contextlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

PRELOADED = (
    *("pandas", "pyarrow.parquet", "scipy.optimize", "sklearn.linear_model", "cleanlab.filter", "matplotlib.figure"),
    *("xgboost", "requests", "skimage.transform", "tensorflow", "keras", "dvclive.keras", "checks.faults.runner"),
    *(
        "stages.library.extraction.extraction",
        "stages.library.evaluation.evaluation",
        "stages.library.training.loop",
        "stages.library.training.trained_network",
    ),
)
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


@dataclass(frozen=True)
class Run:
    """One run of a stage.

    Attributes:
      module: of `stages`; options: its command line.
      environment: variables to set.
      log: a path; standard output and error go to `log.out` and `log.err`.
      archive: fields of the data set's RemoteFile that differ from the published ones.
      watched: changes of files below this folder are counted, from 1.
      at_change: the number of the change before which `action` happens; 0: never.
      action: a signal's number, or what to write into the file `clock`.
      counted: file that the number of changes is written to at the end.
    """

    module: str
    options: list[str]
    environment: dict[str, str]
    log: str
    archive: Mapping[str, Any]
    watched: str
    at_change: int = 0
    action: int | str = int(signal.SIGKILL)
    clock: str = ""
    counted: str = ""


def context() -> Any:
    """Returns the multiprocessing context whose processes are forks of one that has imported everything."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["KERAS_BACKEND"] = "3", "tensorflow"
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(PRELOADED))
    stderr, silence = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # TensorFlow's libraries log while they are loaded
    multiprocessing.forkserver.ensure_running()
    os.dup2(stderr, 2)
    os.close(stderr)
    os.close(silence)
    return made


def command(run: Run) -> list[str]:
    """Returns a command that does the same as `perform` in a process of its own, start-up included."""
    return [sys.executable, "-m", "checks.faults.runner", json.dumps(asdict(run))]


def perform(run: Run) -> None:
    """Runs a stage in this process, which is for nothing else."""
    for descriptor, suffix in ((1, "out"), (2, "err")):
        opened = os.open(f"{run.log}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.update(run.environment)
    tempfile.tempdir = None
    from stages.plugins.datasets import caltech101

    caltech101.ARCHIVE = replace(caltech101.ARCHIVE, **run.archive)
    count = _count_changes(run)
    sys.argv = [f"stages.{run.module}", *run.options]
    try:
        runpy.run_module(f"stages.{run.module}", run_name="__main__", alter_sys=True)
    finally:
        if run.counted:
            Path(run.counted).write_text(str(count()), encoding="utf-8")


def _count_changes(run: Run) -> Any:
    """Counts the changes of files through Python, acts before one of them, and returns a function for their number.

    What libraries write by themselves (parquet, HDF5, XGBoost) is not seen; random moments cover it.
    """
    lock, number = threading.Lock(), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if event != "open" and event not in CHANGES:
            return
        if not _is_change(event, arguments, run.watched):
            return
        with lock:
            number += 1
            now = number == run.at_change
        if now:
            _act(run)

    sys.addaudithook(hook)
    return lambda: number


def _is_change(event: str, arguments: tuple[Any, ...], watched: str) -> bool:
    path, flags = arguments[0], arguments[-1]
    if isinstance(path, int) or not isinstance(path, (str, bytes, os.PathLike)):
        return False
    if event == "open" and not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return False
    name = os.fsdecode(path)
    # Removing a tree gives names within a folder that is open; nothing else of a stage is relative.
    return name.startswith(watched) if Path(name).is_absolute() else event in ("os.remove", "os.rmdir")


def _act(run: Run) -> None:
    if isinstance(run.action, str):
        with contextlib.suppress(OSError):
            Path(run.clock).write_text(run.action, encoding="utf-8")
    else:
        os.kill(os.getpid(), run.action)


if __name__ == "__main__":
    perform(Run(**json.loads(sys.argv[1])))
