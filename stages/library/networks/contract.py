"""Backbones: pretrained networks, looked up by the names in `backbones`.

A backbone is a module of its own, `stages/plugins/backbones/NAME.py`, or a row of a table in `families` there, a frozen
dataclass of plain values in `MEMBERS`. Either has `BACKBONE` (a `Backbone`) and two functions:

  build(input_size_px): returns a keras.Model with random weights. Input: float32 pixels in [0, 255], RGB, shape
    (batch, input_size_px, input_size_px, 3); the network's own scaling is its first layer. Outputs, a dict:
    "bottleneck" (batch, feature_width), the pooled features, and "logits" (batch, num_logits), before any softmax.
    Dropout before the logits is left out: it does nothing outside of training, and training brings its own head.
  load_weights(model, path): fills the model from a weight file in any of its published formats, told apart by their
    content or name; every variable exactly once. Returns it, without its logits where the file has no top for them.
    UserError where the file can't be read, or has other names or shapes.
"""

import importlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from stages.library.common import artifacts, source_code
from stages.library.common.console import UserError
from stages.library.common.params import Geometry, ResizeMethod
from stages.library.common.plugins import PLUGINS, members
from stages.library.networks import block_features

if TYPE_CHECKING:
    import keras


IMAGENET_MEAN = 123.675, 116.28, 103.53


@dataclass(frozen=True)
class Weights:
    """A published weight file. Where neither hash is published, it is recorded at the first download."""

    filename: str  # in the download cache
    licence: str  # SPDX identifier or a short name
    urls: tuple[str, ...] = ()  # mirrors, tried in order; empty where a package carries the file
    sha256: str | None = None
    md5: str | None = None
    package: str | None = None  # "package/path/in/it" of an installed Python package that carries the file
    has_top: bool = True  # whether it holds what makes logits of the pooled features


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone without building it.

    `blocks` are in order: name -> name of the last layer. Fine-tuning starts at a block, and trains all that comes
    after the block before it. With `geometry`, `central_crop`, `resize` and the input size images were prepared where
    it was published: see records/preprocessing.py.
    """

    name: str
    paper: str
    weights: dict[str, Weights]  # by variant ("keras", "slim", ...); the first one is the default
    input_size_px: int  # side of the square input, by default
    feature_width: int  # number of pooled features
    num_parameters: int  # without the moving statistics of batch normalization
    blocks: dict[str, str]
    top1: float | None  # published ImageNet top-1 accuracy, in [0, 1]
    min_input_px: int = 32  # the smallest that it takes
    num_logits: int = 1000  # ImageNet classes that it tells apart; 0 where its weight file has no top
    top_parameters: int | None = None  # of what makes logits of the pooled features; None: one linear layer
    geometry: Geometry = "crop"
    central_crop: float = 0.875
    resize: ResizeMethod = "bilinear"
    mean_rgb: tuple[float, float, float] = (127.5, 127.5, 127.5)  # of [0, 255], what its own scaling takes to 0
    packages: tuple[str, ...] = ()  # optional ones whose versions decide the features, too

    @property
    def num_top_parameters(self) -> int:
        """Number of the parameters that features alone don't need."""
        if self.top_parameters is None or not self.num_logits:
            return (self.feature_width + 1) * self.num_logits
        return self.top_parameters

    def without_top(self) -> "Backbone":
        """Returns what is known of the network that ends with the pooled features."""
        return replace(self, num_logits=0, num_parameters=self.num_parameters - self.num_top_parameters)


class BackboneModule(Protocol):
    """What a backbone's module offers."""

    BACKBONE: Backbone

    def build(self, input_size_px: int) -> "keras.Model": ...

    def load_weights(self, model: "keras.Model", path: Path) -> "keras.Model": ...


def lookup(name: str, feature_blocks: int = 1) -> BackboneModule:
    """Returns a backbone, given its name and `extract.feature_blocks`.

    UserError where there is none, or it has fewer blocks.
    """
    row: Any = members(PLUGINS["backbones"]).get(name)
    try:
        found = row or importlib.import_module(_module(name))
    except ModuleNotFoundError as error:
        raise UserError(f"there is no backbone {name!r}; {PLUGINS['backbones']} has all") from error
    if feature_blocks == 1:
        return cast("BackboneModule", found)
    own = getattr(found, "with_feature_blocks", None)
    return cast("BackboneModule", own(feature_blocks) if own else block_features.widened(found, feature_blocks))


def last_block_width(name: str, feature_blocks: int) -> int | None:
    """Returns how many of a backbone's last features are of its last block alone; None: all, or class tokens."""
    found = lookup(name)
    return None if feature_blocks == 1 or hasattr(found, "with_feature_blocks") else found.BACKBONE.feature_width


def definition(name: str) -> str:
    """Returns the hex sha256 of what defines a backbone: its row's values, or the syntax of its module."""
    row: Any = members(PLUGINS["backbones"]).get(name)
    if row is None:
        return source_code.sha256([source_code.file_of(_module(name))])
    return artifacts.sha256_bytes(artifacts.canonical_json(asdict(row)).encode())


def code(name: str) -> str:
    """Returns the module whose code builds and fills a backbone: its own, or that of its row's class."""
    row: Any = members(PLUGINS["backbones"]).get(name)
    return _module(name) if row is None else type(row).__module__


def _module(name: str) -> str:
    return f"stages.plugins.backbones.{name}"
