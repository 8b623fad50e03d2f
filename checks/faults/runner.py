"""A stage in a process that a fault can be injected into, at a random moment or before a chosen change of its files.

Processes are forked from one that has everything imported, TensorFlow too, which has no threads until its first op.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Sequence
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
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def context() -> Any:
    """Returns the multiprocessing context whose processes are forks of one that has imported everything."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["KERAS_BACKEND"] = "3", "tensorflow"
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    stderr = os.dup(2)
    _redirect(os.devnull, 2)  # TensorFlow's libraries log while they are loaded
    first = made.Process(target=int)  # it ends when all is imported
    first.start()
    first.join()
    os.dup2(stderr, 2)
    os.close(stderr)
    return made


def _redirect(path: str, descriptor: int) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(opened, descriptor)
    os.close(opened)


def perform(
    folder: str, disk: str, words: Sequence[str], archive: dict[str, Any], at_change: int = 0, act: int | str = ""
) -> None:
    """Runs a stage in this process, which is for nothing else, in `disk`; cache and temporary files are beside it.

    Its outputs go to `DISK.out` and `DISK.err` in the folder, the number of changes of the files to `DISK.changes`.
    Before the one with the number `at_change` it gets the signal `act`, or that is written to `DISK.clock`. `archive`
    has the fields of the data set's RemoteFile that differ from the published ones.
    """
    log = f"{folder}/{disk}"
    _redirect(f"{log}.out", 1)
    _redirect(f"{log}.err", 2)
    os.environ |= {"DECANT_CACHE": f"{folder}/cache", "TMPDIR": str(Path(folder, "tmp"))}
    tempfile.tempdir = None
    os.chdir(log)
    from stages.plugins.datasets import caltech101

    caltech101.ARCHIVE = replace(caltech101.ARCHIVE, **archive)
    numbers = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES and (event != "open" or not (arguments[2] or 0) & WRITING):
            return
        if not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = Path(os.fsdecode(arguments[0]))
        if (path.is_absolute() and not path.is_relative_to(folder)) or next(numbers) != at_change:
            return
        if isinstance(act, int):
            os.kill(os.getpid(), act)
        else:
            with contextlib.suppress(OSError):
                Path(f"{log}.clock").write_text(act, encoding="utf-8")

    # What libraries write by themselves (parquet, HDF5, XGBoost) is not seen; random moments cover it.
    sys.addaudithook(hook)
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        Path(f"{log}.changes").write_text(str(next(numbers) - 1), encoding="utf-8")


if __name__ == "__main__":
    perform(**json.loads(sys.argv[1]))
