"""Runtimes: what runs a backbone over batches of pixels, one module each, looked up by the name in `extract.runtime`.

Heavy imports stand inside the functions. A runtime's module has three:

  packages(precision): returns the names of the installed packages that the features depend on, sorted.
  prepare(precision): sets up the process before the first network is built; UserError where the runtime can't be had.
  compile(model, plan, calibration): returns a backbone's model as a `Compiled`, for a `Plan`; `calibration` yields
    pixels (1, size_px, size_px, 3), for int8 only.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.library.common.console import UserError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Name = Literal["tensorflow", "openvino"]
Precision = Literal["float32", "float16", "int8"]
FORWARD_OUTPUTS = ("bottleneck", "logits")


@dataclass(frozen=True)
class Plan:
    """What a network is compiled for: side of the square input, images of each call, and precision of the arithmetic.

    With `flip` the outputs are means over each image and its mirror image; they are float32 always.
    """

    size_px: int
    batch_size: int
    flip: bool
    precision: str


@dataclass(frozen=True)
class Compiled:
    """A network ready to run.

    `forward` takes float32 pixels (batch_size, size_px, size_px, 3) of [0, 255] to bottleneck (batch_size,
    feature_width) and, where the network has them, logits (batch_size, num_logits), float32. Threads may call it at
    once. A row of the result depends on the row of pixels and on where it stands, not on the other rows.
    """

    forward: Callable[["tf.Tensor"], tuple[np.ndarray, ...]]
    callers: int  # how many threads keep the hardware busy
    device: str = "CPU:0"  # TensorFlow's name of the one in whose memory it takes the pixels


def lookup(name: str) -> ModuleType:
    """Returns the module of a runtime."""
    return importlib.import_module(f"stages.library.extraction.runtimes.{name}")


def missing(name: str, error: ImportError) -> UserError:
    """Returns what to say where a runtime lacks a package."""
    return UserError(
        f"`extract.runtime: {name}` needs what is missing ({error.name}). Run: pip install -r requirements-{name}.txt"
    )


def tap(model: "keras.Model", images: "tf.Tensor", flip: bool) -> dict[str, "tf.Tensor"]:
    """Returns those of `FORWARD_OUTPUTS` that a network has for float32 pixels (n, side, side, 3); means if `flip`.

    The mean of logits is the logarithm of the geometric mean of the views' probabilities, up to a constant.
    """
    views = [images, images[:, :, ::-1]] if flip else [images]
    outputs = [model(view, training=False) for view in views]
    return {
        name: sum(output[name] for output in outputs) / len(outputs) for name in FORWARD_OUTPUTS if name in outputs[0]
    }


def frozen_graph(model: "keras.Model", plan: Plan, batch_size: int | None) -> Any:
    """Returns a function of float32 pixels (batch_size, side, side, 3) that gives `FORWARD_OUTPUTS`, float32, frozen.

    Without a batch size it takes any.
    """
    import tensorflow as tf

    def forward_outputs(images: "tf.Tensor") -> tuple["tf.Tensor", ...]:
        return tuple(tf.cast(output, tf.float32) for output in tap(model, images, plan.flip).values())

    signature = [tf.TensorSpec((batch_size, plan.size_px, plan.size_px, 3), tf.float32)]
    return freeze(tf.function(forward_outputs, input_signature=signature, autograph=False))


def freeze(traced: Any) -> Any:
    """Returns a tf.function with its variables as constants: measured 1.1 to 1.3 times as fast on a CPU."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(traced.get_concrete_function())
