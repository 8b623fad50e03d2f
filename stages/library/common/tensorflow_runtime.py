"""The one place that starts TensorFlow: without its chatter, with one backend, repeatable, gentle with a GPU."""

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stages.library.common import console

if TYPE_CHECKING:
    import tensorflow

# Keras imports them where they are installed, for wrappers, plots and data frames that nothing here passes to it: more
# than a third of the CPU time of its start.
UNUSED_BY_KERAS = "IPython", "matplotlib", "pandas", "scipy", "sklearn"


def start() -> None:
    """Imports TensorFlow and Keras and makes every op deterministic; costs seconds at the first call, then nothing."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["KERAS_BACKEND"] = "tensorflow"
        with console.notice("starting TensorFlow"), _stderr_unless_error(), _hidden(UNUSED_BY_KERAS):
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    tf.config.experimental.enable_op_determinism()
    with contextlib.suppress(RuntimeError):  # after the first op it changes nothing
        # Its memory as it is needed: else whatever starts TensorFlow takes all, also what computes on the CPU.
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def one_core_for_each_op() -> None:
    """Keeps the ops of one call on one core; must come before the first op, later it changes nothing."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # TensorFlow has its threads
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())


def accelerators() -> list[str]:
    """Returns the names of the GPUs that training uses, all that CUDA_VISIBLE_DEVICES leaves."""
    import tensorflow as tf

    return [f"GPU:{number}" for number in range(len(tf.config.list_physical_devices("GPU")))]


def strategy() -> "tensorflow.distribute.Strategy":
    """Returns how training is shared out: each of several GPUs takes a part of every batch."""
    import tensorflow as tf

    # Over several machines Keras 3 can't (keras-team/keras issue 20585).
    devices = accelerators()
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def cores() -> int:
    """Returns the number of CPU cores that this process may use; OMP_NUM_THREADS, which Ray sets, limits it."""
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return max(int(os.environ["OMP_NUM_THREADS"]), 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Makes packages that are not imported yet look as if they weren't installed, where no other thread can see it."""
    hidden = {name: None for name in names if name not in sys.modules and threading.active_count() == 1}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name)


@contextlib.contextmanager
def _stderr_unless_error() -> Iterator[None]:
    """Shows what libraries log while they are loaded, before any log level counts, only where the block fails."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
