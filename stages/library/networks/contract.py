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
    """A published weight file.

    Attributes:
      filename: its name in the download cache.
      licence: SPDX identifier or a short name.
      urls: mirrors, tried in order; empty where a package carries the file.
      sha256, md5: hex; at least one is published, else both are None and the hash is recorded at first download.
      package: "package/path/in/it" of an installed Python package that carries the file, or None.
    """

    filename: str
    licence: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    md5: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone without building it.

    Attributes:
      weights: variant ("keras", "slim", ...) -> its published file; the first one is the default.
      input_size_px: side of the square input, by default; min_input_px: the smallest that it takes.
      feature_width: number of pooled features; num_logits: number of ImageNet classes it tells apart.
      num_parameters: without the moving statistics of batch normalization.
      blocks: ordered; block name -> name of its last layer. Fine-tuning starts at a block: all that comes after the
        block before it is trained.
      top1: published ImageNet top-1 accuracy, in [0, 1].
    """

    name: str
    paper: str
    weights: dict[str, Weights]
    input_size_px: int
    feature_width: int
    num_parameters: int
    blocks: dict[str, str]
    top1: float
    min_input_px: int = 32
    num_logits: int = 1000


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
