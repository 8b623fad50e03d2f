"""The EfficientNet-Lite family: EfficientNets without squeeze-and-excite and swish, which small devices are slow at.

Tan and Le 2019 (arXiv:1905.11946); the Lite variants: Liu 2020, "Higher accuracy on vision models with
EfficientNet-Lite". Every convolution pads as TensorFlow's SAME does, at any input size.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.library.networks import named_weights, torch_weights
from stages.library.networks.contract import Backbone

if TYPE_CHECKING:
    import keras


class Stage(NamedTuple):
    """Inverted residual blocks (Sandler et al. 2018, arXiv:1801.04381) of one width; only the first one strides."""

    repeats: int
    kernel_px: int
    stride: int
    expansion: int
    channels: int


# Of Lite0. The others multiply channels and repeats, but not those of stem and head, nor the first and last repeats.
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
BATCH_NORM_EPSILON = 1e-3


class EfficientNetLite:
    """One of the family; gives a backbone's module all that it offers (see `contract`)."""

    def __init__(self, width: float, depth: float, **about: Any):
        """Width multiplies the stages' channels, depth their repeats; the rest is for `Backbone`."""
        blocks, ends = {}, {}
        for number, stage in enumerate(STAGES, start=1):
            repeats = stage.repeats if stage in (STAGES[0], STAGES[-1]) else math.ceil(stage.repeats * depth)
            stage = stage._replace(repeats=repeats, channels=_rounded(stage.channels * width))
            for repeat in range(1, repeats + 1):
                blocks[f"stage_{number}_block_{repeat}"] = stage, stage.stride if repeat == 1 else 1
            ends[f"stage_{number}"] = f"stage_{number}_block_{repeats}_{'add' if repeats > 1 else 'project_bn'}"
        # Name -> stage and stride, in the order of the published file, which numbers all blocks through from 0.
        self._blocks = blocks
        points = {"stem": "stem_relu6", **ends, "head": "bottleneck"}
        self.backbone = Backbone(paper="arXiv:1905.11946", feature_width=HEAD_CHANNELS, blocks=points, **about)

    def build(self, input_size_px: int) -> "keras.Model":
        """Returns the network with random weights; see `contract`."""
        from keras import Input, Model, layers

        def normalized(x: Any, name: str) -> Any:
            return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")(x)

        def activated(x: Any, name: str) -> Any:
            return layers.ReLU(max_value=6, name=f"{name}_relu6")(normalized(x, name))

        def convolved(x: Any, channels: int, name: str, kernel_px: int = 1, stride: int = 1) -> Any:
            return layers.Conv2D(channels, kernel_px, stride, "same", use_bias=False, name=f"{name}_conv")(x)

        def inverted_residual(x: Any, stage: Stage, stride: int, name: str) -> Any:
            y, width = x, x.shape[-1]
            if stage.expansion > 1:
                y = activated(convolved(y, width * stage.expansion, f"{name}_expand"), f"{name}_expand")
            depthwise = f"{name}_depthwise"
            y = layers.DepthwiseConv2D(stage.kernel_px, stride, "same", use_bias=False, name=f"{depthwise}_conv")(y)
            y = convolved(activated(y, depthwise), stage.channels, f"{name}_project")
            y = normalized(y, f"{name}_project")
            return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and width == stage.channels else y

        pixels = Input((input_size_px, input_size_px, 3), name="pixels")
        x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scaling")(pixels)
        x = activated(convolved(x, STEM_CHANNELS, "stem", 3, 2), "stem")
        for name, (stage, stride) in self._blocks.items():
            x = inverted_residual(x, stage, stride, name)
        x = activated(convolved(x, HEAD_CHANNELS, "head"), "head")
        bottleneck = layers.GlobalAveragePooling2D(name="bottleneck")(x)
        logits = layers.Dense(self.backbone.num_logits, name="logits")(bottleneck)
        return Model(pixels, {"bottleneck": bottleneck, "logits": logits}, name=self.backbone.name)

    def load_weights(self, model: "keras.Model", path: Path) -> None:
        """Fills the model from the published PyTorch file; see `contract`."""
        modules = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}
        for index, block in enumerate(self._blocks):
            for order, part in enumerate(("expand", "depthwise", "project")):
                modules[f"{block}_{part}_conv"] = f"_blocks.{index}._{part}_conv"
                modules[f"{block}_{part}_bn"] = f"_blocks.{index}._bn{order}"
        named_weights.fill_from_torch(model, torch_weights.read(path), path, modules | {"logits": "_fc"})


def _rounded(channels: float) -> int:
    """Returns the nearest multiple of 8, or the next one where that would be more than a tenth less."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
