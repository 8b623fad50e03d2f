"""Runtimes: what runs a backbone over batches of pixels, one module each, looked up by the name in `extract.runtime`.

A runtime's module has `compile(...)`, see `RuntimeModule`. Heavy imports stand inside the functions.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Name = Literal["tensorflow", "openvino"]
Precision = Literal["float32", "float16", "int8"]
FORWARD_OUTPUTS = ("bottleneck", "logits")


@dataclass(frozen=True)
class Plan:
    """What a network is compiled for.

    Attributes:
      size_px: side of the square input.
      batch_size: images of each call.
      flip: whether the outputs are means over each image and its mirror image.
      precision: of the arithmetic; outputs are float32.
    """

    size_px: int
    batch_size: int
    flip: bool
    precision: str


@dataclass(frozen=True)
class Compiled:
    """A network ready to run.

    Attributes:
      forward: float32 pixels (batch_size, size_px, size_px, 3) of [0, 255] to bottleneck (batch_size, feature_width)
        and logits (batch_size, num_logits), float32. Threads may call it at once. A row of the result depends on the
        row of pixels and on where it stands, not on the other rows.
      callers: how many threads keep the hardware busy.
      device: TensorFlow's name of the device in whose memory it takes the pixels.
    """

    forward: Callable[["tf.Tensor"], tuple[np.ndarray, np.ndarray]]
    callers: int
    device: str = "CPU:0"


class RuntimeModule(Protocol):
    """What a runtime's module offers."""

    def packages(self, precision: str) -> tuple[str, ...]:
        """Returns the names of the installed packages that the features depend on, sorted."""
        ...

    def prepare(self, precision: str) -> None:
        """Sets up the process before the first network is built; raises UserError where the runtime can't be had."""
        ...

    def compile(self, model: "keras.Model", plan: Plan, calibration: Iterable["tf.Tensor"]) -> Compiled:
        """Compiles a backbone's model; `calibration` yields pixels (1, size_px, size_px, 3), for int8 only."""
        ...


def lookup(name: str) -> RuntimeModule:
    """Returns the module of a runtime."""
    return importlib.import_module(f"stages.library.extraction.runtimes.{name}")


def tap(model: "keras.Model", images: "tf.Tensor", flip: bool) -> tuple["tf.Tensor", ...]:
    """Returns `FORWARD_OUTPUTS` for float32 pixels (n, side, side, 3); with `flip`, means of two views.

    The mean of logits is the logarithm of the geometric mean of the views' probabilities, up to a constant.
    """
    views = [images, images[:, :, ::-1]] if flip else [images]
    outputs = [model(view, training=False) for view in views]
    return tuple(sum(output[name] for output in outputs) / len(outputs) for name in FORWARD_OUTPUTS)
