"""Inception-v4: a deeper and more regular Inception network, without residual connections.

Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"
(arXiv:1602.07261). Weights are those of TF-slim, or timm's copy of them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.library.common.console import UserError
from stages.library.networks import named_weights, slim_checkpoint
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras


class Conv(NamedTuple):
    """A convolution with batch normalization and ReLU; `name` is slim's and ends with the kernel, height x width."""

    name: str
    channels: int
    stride: int
    padding: str


# name:channels of each convolution, and /stride where it has no padding. "|" separates branches, "+" convolutions of
# the same input. An average is one of 3x3 pixels, at the edge of those within; a maximum of 3x3 halves the side.
STEM = "conv2d_1a_3x3:32/2 conv2d_2a_3x3:32/1 conv2d_2b_3x3:64"
INCEPTION_A = "0a_1x1:96 | 0a_1x1:64 0b_3x3:96 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | average 0b_1x1:96"
INCEPTION_B = (
    "0a_1x1:384 | 0a_1x1:192 0b_1x7:224 0c_7x1:256 | "
    "0a_1x1:192 0b_7x1:192 0c_1x7:224 0d_7x1:224 0e_1x7:256 | average 0b_1x1:128"
)
INCEPTION_C = (
    "0a_1x1:256 | 0a_1x1:384 0b_1x3:256+0c_3x1:256 | "
    "0a_1x1:384 0b_3x1:448 0c_1x3:512 0d_1x3:256+0e_3x1:256 | average 0b_1x1:256"
)
BLOCKS = {
    "mixed_3a": "maximum | 0a_3x3:96/2",
    "mixed_4a": "0a_1x1:64 1a_3x3:96/1 | 0a_1x1:64 0b_1x7:64 0c_7x1:64 1a_3x3:96/1",
    "mixed_5a": "1a_3x3:192/2 | maximum",
    **{f"mixed_5{letter}": INCEPTION_A for letter in "bcde"},
    "mixed_6a": "1a_3x3:384/2 | 0a_1x1:192 0b_3x3:224 1a_3x3:256/2 | maximum",
    **{f"mixed_6{letter}": INCEPTION_B for letter in "bcdefgh"},
    "mixed_7a": "0a_1x1:192 1a_3x3:192/2 | 0a_1x1:256 0b_1x7:256 0c_7x1:320 1a_3x3:320/2 | maximum",
    **{f"mixed_7{letter}": INCEPTION_C for letter in "bcd"},
}
BATCH_NORM_EPSILON = 1e-3

BACKBONE = Backbone(
    name="inception_v4",
    paper="arXiv:1602.07261",
    weights={
        "slim": slim_checkpoint.published("inception_v4_2016_09_09.tar.gz"),
        "timm": Weights(
            filename="inception_v4.tf_in1k.safetensors",
            licence="Apache-2.0",
            urls=("https://huggingface.co/timm/inception_v4.tf_in1k/resolve/main/model.safetensors",),
            sha256="a756a086851c8d5a8de135ec15c76b90ea56cb5aef450e3299107e659e725bb1",
        ),
    },
    input_size_px=299,
    min_input_px=75,
    feature_width=1536,
    num_parameters=42_648_232,
    blocks={"stem": "conv2d_2b_3x3_relu", **{block: block for block in BLOCKS}},
    top1=0.802,
    geometry="squash",  # of TF-slim, which made these weights
    resize="bilinear_tf1",
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `contract`."""
    from keras import Input, Model, layers

    def convolved(x: Any, conv: Conv, name: str) -> Any:
        kernel_px = [int(side) for side in conv.name.rpartition("_")[2].split("x")]
        convolution = layers.Conv2D(
            conv.channels, kernel_px, conv.stride, conv.padding, use_bias=False, name=f"{name}_conv"
        )
        normalization = layers.BatchNormalization(scale=False, epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")
        return layers.ReLU(name=f"{name}_relu")(normalization(convolution(x)))

    def branched(x: Any, branch: str, name: str) -> Any:
        for step in branch.split():
            if step == "average":
                x = layers.AveragePooling2D(3, 1, "same", name=f"{name}_average")(x)
            elif step == "maximum":
                x = layers.MaxPooling2D(3, 2, "valid", name=f"{name}_maximum")(x)
            else:
                outputs = [convolved(x, conv, f"{name}_conv2d_{conv.name}") for conv in _convolutions(step)]
                x = layers.Concatenate(name=f"{name}_fork")(outputs) if len(outputs) > 1 else outputs[0]
        return x

    pixels = Input((input_size_px, input_size_px, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scaling")(pixels)
    for conv in _convolutions(STEM):
        x = convolved(x, conv, conv.name)
    for block, branches in BLOCKS.items():
        outputs = [branched(x, branch, f"{block}_branch_{number}") for number, branch in enumerate(branches.split("|"))]
        x = layers.Concatenate(name=block)(outputs)
    bottleneck = layers.GlobalAveragePooling2D(name="bottleneck")(x)
    logits = layers.Dense(BACKBONE.num_logits, name="logits")(bottleneck)
    return Model(pixels, {"bottleneck": bottleneck, "logits": logits}, name=BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> "keras.Model":
    """Fills the model from timm's .safetensors file, or else from a TF-slim checkpoint; see `contract`."""
    published = [
        (f"{layer}_{kind}", scope, f"{module}.{kind}")
        for layer, scope, module in _published()
        for kind in ("conv", "bn")
    ]
    if path.suffix != ".safetensors":
        scopes = {layer: f"InceptionV4/{scope}" for layer, scope, _ in published}
        slim_checkpoint.load(model, path, scopes | {"logits": "InceptionV4/Logits/Logits"})
        return model
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} must be a .safetensors file of {BACKBONE.name}: {error}") from error
    modules = {layer: module for layer, _, module in published} | {"logits": "last_linear"}
    named_weights.fill_from_torch(model, _without_scale(state), path, modules)
    return model


def _convolutions(steps: str) -> list[Conv]:
    """Returns the convolutions in a part of the table above."""
    found = re.findall(r"(\w+):(\d+)(?:/(\d))?", steps)
    return [
        Conv(name, int(channels), int(stride or 1), "valid" if stride else "same") for name, channels, stride in found
    ]


def _published() -> Iterator[tuple[str, str, str]]:
    """Yields, for every convolution, its layers' common prefix, slim's scope and timm's module."""
    stem = _convolutions(STEM)
    for number, conv in enumerate(stem):
        yield conv.name, conv.name.capitalize(), f"features.{number}"
    for feature, (block, branches) in enumerate(BLOCKS.items(), start=len(stem)):
        for number, branch in enumerate(branches.split("|")):
            for name, step in _timm_steps(branch.split()):
                scope = f"{block.capitalize()}/Branch_{number}/Conv2d_{name}"
                module = "conv" if block in ("mixed_3a", "mixed_5a") else f"branch{number}{step}"
                yield f"{block}_branch_{number}_conv2d_{name}", scope, f"features.{feature}.{module}"


def _timm_steps(steps: list[str]) -> Iterator[tuple[str, str]]:
    """Yields a branch's convolutions and what timm appends to its name: "" or ".1", with a fork "_1" or "_1a"."""
    separator = "_" if "+" in steps[-1] else "."
    for index, step in enumerate(steps):
        for conv, letter in zip(_convolutions(step), "ab" if "+" in step else [""], strict=False):
            yield conv.name, f"{separator}{index}{letter}" if len(steps) > 1 else ""


def _without_scale(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Moves the scale of batch normalizations into the convolutions: g (x - m) / s = (g x - g m) / s."""
    for scale in [name for name in state if name.endswith(".bn.weight")]:
        module, gamma = scale.removesuffix(".bn.weight"), state.pop(scale)
        for name, shape in ((f"{module}.conv.weight", (-1, 1, 1, 1)), (f"{module}.bn.running_mean", (-1,))):
            if name in state:
                state[name] = state[name] * gamma.reshape(shape)
    return state
