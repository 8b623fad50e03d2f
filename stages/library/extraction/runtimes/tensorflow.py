"""TensorFlow, which every installation has: the network as one graph of constants.

On a CPU each call runs on one core and as many calls as there are cores run at once, on small batches: measured against
one call on all cores with batches of 64, that takes a fifth to a third less CPU time an image, for the activations of
a few images stay in the cache and no core waits for another. So the bits don't depend on the number of cores.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from stages.library.common import tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.extraction.runtime import Compiled, Plan, frozen_graph

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

CALLS_ON_GPU = 2  # each takes memory there; while one's results are fetched the other computes


def packages(precision: str) -> tuple[str, ...]:
    """Keras builds the network, TensorFlow runs it."""
    return "keras", "tensorflow"


def prepare(precision: str) -> None:
    """Starts TensorFlow: one core for each op on a CPU; float16 if asked, on a GPU, else UserError."""
    tensorflow_runtime.start()
    import keras

    gpus = tensorflow_runtime.accelerators()
    if precision == "float16" and not gpus:
        raise UserError(
            "`extract.precision` must be float32 without a GPU: a CPU emulates float16. Received: 'float16'"
        )
    if not gpus:
        tensorflow_runtime.one_core_for_each_op()
    keras.mixed_precision.set_global_policy("mixed_float16" if precision == "float16" else "float32")


def compile(model: "keras.Model", plan: Plan, calibration: Iterable["tf.Tensor"]) -> Compiled:  # noqa: A001
    """Freezes the network's variables into a graph."""
    import tensorflow as tf

    graph = frozen_graph(model, plan, plan.batch_size)

    def forward(images: "tf.Tensor") -> tuple[np.ndarray, ...]:
        return tuple(output.numpy() for output in graph(tf.convert_to_tensor(images)))

    if gpus := tensorflow_runtime.accelerators():
        return Compiled(forward, CALLS_ON_GPU, gpus[0])
    return Compiled(forward, tensorflow_runtime.cores())
