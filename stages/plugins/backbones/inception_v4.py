"""Inception-v4: a deeper and more regular Inception network, without residual connections.

Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"
(arXiv:1602.07261). Weights are those of TF-slim, or timm's copy of them.
"""

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
    stride: int = 1
    padding: str = "same"

    @property
    def kernel_px(self) -> tuple[int, int]:
        height, width = self.name.rpartition("_")[2].split("x")
        return int(height), int(width)


class Pool(NamedTuple):
    """3x3; an average at the edge is one of the pixels within, and the maximum halves the side."""

    kind: str


class Fork(NamedTuple):
    """Convolutions of the same input, side by side."""

    convolutions: tuple[Conv, ...]


Branch = tuple[Conv | Pool | Fork, ...]

AVERAGE = Pool("average")
MAXIMUM = Pool("maximum")

STEM = (
    Conv("conv2d_1a_3x3", 32, 2, "valid"),
    Conv("conv2d_2a_3x3", 32, 1, "valid"),
    Conv("conv2d_2b_3x3", 64),
)
INCEPTION_A: tuple[Branch, ...] = (
    (Conv("0a_1x1", 96),),
    (Conv("0a_1x1", 64), Conv("0b_3x3", 96)),
    (Conv("0a_1x1", 64), Conv("0b_3x3", 96), Conv("0c_3x3", 96)),
    (AVERAGE, Conv("0b_1x1", 96)),
)
REDUCTION_A: tuple[Branch, ...] = (
    (Conv("1a_3x3", 384, 2, "valid"),),
    (Conv("0a_1x1", 192), Conv("0b_3x3", 224), Conv("1a_3x3", 256, 2, "valid")),
    (MAXIMUM,),
)
INCEPTION_B: tuple[Branch, ...] = (
    (Conv("0a_1x1", 384),),
    (Conv("0a_1x1", 192), Conv("0b_1x7", 224), Conv("0c_7x1", 256)),
    (Conv("0a_1x1", 192), Conv("0b_7x1", 192), Conv("0c_1x7", 224), Conv("0d_7x1", 224), Conv("0e_1x7", 256)),
    (AVERAGE, Conv("0b_1x1", 128)),
)
REDUCTION_B: tuple[Branch, ...] = (
    (Conv("0a_1x1", 192), Conv("1a_3x3", 192, 2, "valid")),
    (Conv("0a_1x1", 256), Conv("0b_1x7", 256), Conv("0c_7x1", 320), Conv("1a_3x3", 320, 2, "valid")),
    (MAXIMUM,),
)
INCEPTION_C: tuple[Branch, ...] = (
    (Conv("0a_1x1", 256),),
    (Conv("0a_1x1", 384), Fork((Conv("0b_1x3", 256), Conv("0c_3x1", 256)))),
    (
        Conv("0a_1x1", 384),
        Conv("0b_3x1", 448),
        Conv("0c_1x3", 512),
        Fork((Conv("0d_1x3", 256), Conv("0e_3x1", 256))),
    ),
    (AVERAGE, Conv("0b_1x1", 256)),
)
BLOCKS: dict[str, tuple[Branch, ...]] = {
    "mixed_3a": ((MAXIMUM,), (Conv("0a_3x3", 96, 2, "valid"),)),
    "mixed_4a": (
        (Conv("0a_1x1", 64), Conv("1a_3x3", 96, 1, "valid")),
        (Conv("0a_1x1", 64), Conv("0b_1x7", 64), Conv("0c_7x1", 64), Conv("1a_3x3", 96, 1, "valid")),
    ),
    "mixed_5a": ((Conv("1a_3x3", 192, 2, "valid"),), (MAXIMUM,)),
    **{f"mixed_5{letter}": INCEPTION_A for letter in "bcde"},
    "mixed_6a": REDUCTION_A,
    **{f"mixed_6{letter}": INCEPTION_B for letter in "bcdefgh"},
    "mixed_7a": REDUCTION_B,
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
    num_logits=1000,
    num_parameters=42_648_232,
    blocks={"stem": "conv2d_2b_3x3_relu", **{block: block for block in BLOCKS}},
    top1=0.802,
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `backbones`.

    The published dropout of 0.2 before the logits is left out: it does nothing outside of training, and training
    brings its own head.
    """
    from keras import Input, Model, layers

    def convolved(x: Any, conv: Conv, name: str) -> Any:
        convolution = layers.Conv2D(
            conv.channels, conv.kernel_px, conv.stride, conv.padding, use_bias=False, name=f"{name}_conv"
        )
        normalization = layers.BatchNormalization(scale=False, epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")
        return layers.ReLU(name=f"{name}_relu")(normalization(convolution(x)))

    def branched(x: Any, branch: Branch, name: str) -> Any:
        for step in branch:
            if isinstance(step, Conv):
                x = convolved(x, step, f"{name}_conv2d_{step.name}")
            elif isinstance(step, Fork):
                forks = [convolved(x, conv, f"{name}_conv2d_{conv.name}") for conv in step.convolutions]
                x = layers.Concatenate(name=f"{name}_fork")(forks)
            elif step is AVERAGE:
                x = layers.AveragePooling2D(3, 1, "same", name=f"{name}_average")(x)
            else:
                x = layers.MaxPooling2D(3, 2, "valid", name=f"{name}_maximum")(x)
        return x

    pixels = Input((input_size_px, input_size_px, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scaling")(pixels)
    for conv in STEM:
        x = convolved(x, conv, conv.name)
    for block, branches in BLOCKS.items():
        outputs = [branched(x, branch, f"{block}_branch_{number}") for number, branch in enumerate(branches)]
        x = layers.Concatenate(name=block)(outputs)
    bottleneck = layers.GlobalAveragePooling2D(name="bottleneck")(x)
    logits = layers.Dense(BACKBONE.num_logits, name="logits")(bottleneck)
    return Model(pixels, {"bottleneck": bottleneck, "logits": logits}, name=BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fills the model from timm's .safetensors file, or else from a TF-slim checkpoint; every variable exactly once.

    Raises:
      UserError: the file can't be read, or has other names or shapes than the network.
    """
    if path.suffix == ".safetensors":
        _load_timm(model, path)
    else:
        slim_checkpoint.load(model, path, _slim_scopes())


def _published() -> Iterator[tuple[str, str, str]]:
    """Yields, for every convolution, its layers' common prefix, slim's scope and timm's module."""
    for number, conv in enumerate(STEM):
        yield conv.name, conv.name.capitalize(), f"features.{number}"
    for feature, (block, branches) in enumerate(BLOCKS.items(), start=len(STEM)):
        for number, branch in enumerate(branches):
            for conv, step in _timm_steps(branch):
                layer = f"{block}_branch_{number}_conv2d_{conv.name}"
                scope = f"{block.capitalize()}/Branch_{number}/Conv2d_{conv.name}"
                module = "conv" if block in ("mixed_3a", "mixed_5a") else f"branch{number}{step}"
                yield layer, scope, f"features.{feature}.{module}"


def _timm_steps(branch: Branch) -> Iterator[tuple[Conv, str]]:
    """Yields the convolutions of a branch and what timm appends to its name: "" or ".1", with a fork "_1" or "_1a"."""
    forks = any(isinstance(step, Fork) for step in branch)
    for index, step in enumerate(branch):
        if isinstance(step, Conv):
            yield step, f"{'_' if forks else '.'}{index}" if len(branch) > 1 else ""
        elif isinstance(step, Fork):
            for conv, letter in zip(step.convolutions, "ab", strict=True):
                yield conv, f"_{index}{letter}"


def _slim_scopes() -> dict[str, str]:
    """Returns layer -> scope in the checkpoint."""
    scopes = {f"{layer}_{kind}": scope for layer, scope, _ in _published() for kind in ("conv", "bn")}
    return {layer: f"InceptionV4/{scope}" for layer, scope in (scopes | {"logits": "Logits/Logits"}).items()}


def _load_timm(model: "keras.Model", path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} must be a .safetensors file of {BACKBONE.name}: {error}") from error
    modules = {f"{layer}_{kind}": f"{module}.{kind}" for layer, _, module in _published() for kind in ("conv", "bn")}
    modules["logits"] = "last_linear"
    named_weights.fill_from_torch(model, _without_scale(state), path, modules)


def _without_scale(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Moves the scale of batch normalizations into the convolutions: g (x - m) / s = (g x - g m) / s."""
    for scale in [name for name in state if name.endswith(".bn.weight")]:
        module, gamma = scale.removesuffix(".bn.weight"), state.pop(scale)
        for name, shape in ((f"{module}.conv.weight", (-1, 1, 1, 1)), (f"{module}.bn.running_mean", (-1,))):
            if name in state:
                state[name] = state[name] * gamma.reshape(shape)
    return state
