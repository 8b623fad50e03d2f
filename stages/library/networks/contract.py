"""Backbones: pretrained networks, one module each, looked up by the names in `backbones`.

A backbone's module has a constant `BACKBONE` (a `Backbone`) and two functions:

  build(input_size_px): returns a keras.Model with random weights. Input: float32 pixels in [0, 255], RGB, shape
    (batch, input_size_px, input_size_px, 3); the network's own scaling is its first layer. Outputs, a dict:
    "bottleneck" (batch, feature_width), the pooled features, and "logits" (batch, num_logits), before any softmax.
    Dropout before the logits is left out: it does nothing outside of training, and training brings its own head.
  load_weights(model, path): fills the model from a weight file in any of its published formats, told apart by their
    content or name; every variable exactly once. UserError where it can't be read, or has other names or shapes.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.library.common.console import UserError
from stages.library.common.plugins import PLUGINS

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Weights:
    """A published weight file. Where neither hash is published, it is recorded at the first download."""

    filename: str  # in the download cache
    licence: str  # SPDX identifier or a short name
    urls: tuple[str, ...] = ()  # mirrors, tried in order; empty where a package carries the file
    sha256: str | None = None
    md5: str | None = None
    package: str | None = None  # "package/path/in/it" of an installed Python package that carries the file


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone without building it.

    `blocks` are in order: name -> name of the last layer. Fine-tuning starts at a block, and trains all that comes
    after the block before it.
    """

    name: str
    paper: str
    weights: dict[str, Weights]  # by variant ("keras", "slim", ...); the first one is the default
    input_size_px: int  # side of the square input, by default
    feature_width: int  # number of pooled features
    num_parameters: int  # without the moving statistics of batch normalization
    blocks: dict[str, str]
    top1: float  # published ImageNet top-1 accuracy, in [0, 1]
    min_input_px: int = 32  # the smallest that it takes
    num_logits: int = 1000  # ImageNet classes that it tells apart


class BackboneModule(Protocol):
    """What a backbone's module offers."""

    BACKBONE: Backbone

    def build(self, input_size_px: int) -> "keras.Model": ...

    def load_weights(self, model: "keras.Model", path: Path) -> None: ...


def lookup(name: str) -> BackboneModule:
    """Returns the module of a backbone; raises UserError where there is none."""
    try:
        return importlib.import_module(f"stages.plugins.backbones.{name}")
    except ModuleNotFoundError as error:
        raise UserError(f"there is no backbone {name!r}; {PLUGINS['backbones']} has all") from error
