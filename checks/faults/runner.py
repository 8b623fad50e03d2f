"""A stage in a process that a fault can be injected into, at a random moment or before a chosen change of its files.

Processes are forked from one that has everything imported, TensorFlow too, which has no threads until its first op.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

PRELOADED = [
    *("pandas", "pyarrow.parquet", "scipy.optimize", "sklearn.linear_model", "cleanlab.filter", "matplotlib.figure"),
    *("xgboost", "requests", "skimage.transform", "tensorflow", "keras", "dvclive.keras", "checks.faults.runner"),
    *("stages.library.extraction.extraction", "stages.library.evaluation.evaluation"),
    *("stages.library.training.loop", "stages.library.training.trained_network"),
]
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


def context() -> Any:
    """Returns the multiprocessing context whose processes are forks of one that has imported everything."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["KERAS_BACKEND"] = "3", "tensorflow"
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    stderr = os.dup(2)
    _redirect(os.devnull, 2)  # TensorFlow's libraries log while they are loaded
    multiprocessing.forkserver.ensure_running()
    os.dup2(stderr, 2)
    os.close(stderr)
    return made


def _redirect(path: str, descriptor: int) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(opened, descriptor)
    os.close(opened)


def perform(
    module: str,
    options: list[str],
    folder: str,
    name: str,
    archive: dict[str, Any],
    at_change: int = 0,
    act: int | str = int(signal.SIGKILL),
) -> None:
    """Runs a stage in this process, which is for nothing else; its cache and temporary files are in a folder.

    Its outputs go to `NAME.out` and `NAME.err` there, the number of changes of the folder's files to `NAME.changes`.
    Before the one with the number `at_change` it gets the signal `act`, or that is written to `NAME.clock`. `archive`
    has the fields of the data set's RemoteFile that differ from the published ones.
    """
    log = f"{folder}/{name}"
    _redirect(f"{log}.out", 1)
    _redirect(f"{log}.err", 2)
    os.environ |= {"DECANT_CACHE": f"{folder}/cache", "TMPDIR": str(Path(folder, "tmp"))}
    tempfile.tempdir = None
    from stages.plugins.datasets import caltech101

    caltech101.ARCHIVE = replace(caltech101.ARCHIVE, **archive)
    lock, number = threading.Lock(), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if (event != "open" and event not in CHANGES) or not _is_change(event, arguments, f"{folder}/"):
            return
        with lock:
            number += 1
            now = number == at_change
        if now and isinstance(act, int):
            os.kill(os.getpid(), act)
        elif now:
            with contextlib.suppress(OSError):
                Path(f"{log}.clock").write_text(str(act), encoding="utf-8")

    # What libraries write by themselves (parquet, HDF5, XGBoost) is not seen; random moments cover it.
    sys.addaudithook(hook)
    sys.argv = [f"stages.{module}", *options]
    try:
        runpy.run_module(f"stages.{module}", run_name="__main__", alter_sys=True)
    finally:
        Path(f"{log}.changes").write_text(str(number), encoding="utf-8")


def _is_change(event: str, arguments: tuple[Any, ...], watched: str) -> bool:
    path, flags = arguments[0], arguments[-1]
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False
    if event == "open" and not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return False
    name = os.fsdecode(path)
    # Removing a tree gives names within a folder that is open; nothing else of a stage is relative.
    return name.startswith(watched) if Path(name).is_absolute() else event in ("os.remove", "os.rmdir")


if __name__ == "__main__":
    perform(**json.loads(sys.argv[1]))
