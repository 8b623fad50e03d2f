"""The small convolutional network trained from scratch: the baseline that a pretrained backbone must beat.

The published one (Kostadinov 2017-04-23, test top-1 0.6734 on CIFAR-10): `channels: [32, 64, 128]`,
`kernels_px: [7, 3, 2]`, `first_stride: 2`, `hidden_units: [1024, 128]`, `dropout: 0.5`; no activation functions
(`activation: linear`) and no batch normalization, so max-pooling alone keeps it from being a linear classifier.
"""

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from stages.library.common.params import CONFIG, MOST_LAYERS, Width
from stages.library.training import loop as training

if TYPE_CHECKING:
    import keras

Kernel = Annotated[int, pydantic.Field(ge=1, le=31)]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params(training.Params):
    """Section `scratch` of params.yaml."""

    input_size_px: Annotated[int, pydantic.Field(ge=16, le=1024, description="side of the square input")]
    channels: Annotated[
        tuple[Width, ...], pydantic.Field(min_length=1, max_length=MOST_LAYERS, description="of each convolution")
    ]
    kernels_px: Annotated[tuple[Kernel, ...], pydantic.Field(min_length=1, description="side, of each convolution")]
    first_stride: Annotated[int, pydantic.Field(ge=1, le=4, description="pixels, of the first convolution")]
    batch_norm: Annotated[bool, pydantic.Field(description="between each convolution and its activation")]
    hidden_units: Annotated[
        tuple[Width, ...], pydantic.Field(max_length=MOST_LAYERS, description="of the dense layers before the logits")
    ]
    activation: Annotated[Literal["linear", "relu", "gelu", "silu"], pydantic.Field(description="after each layer")]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1, description="fraction dropped before the hidden layers")]

    @pydantic.model_validator(mode="after")
    def _each_has_a_kernel(self) -> "Params":
        if len(self.kernels_px) != len(self.channels):
            raise ValueError("`kernels_px` must have as many items as `channels`")
        return self


def num_weights(num_classes: int, params: Params) -> int:
    """Returns how many numbers the kernels of the network have, without building it."""
    channels, side = 3, -(-params.input_size_px // params.first_stride)
    total = 0
    for width, kernel_px in zip(params.channels, params.kernels_px, strict=True):
        total += channels * width * kernel_px**2
        channels, side = width, -(-side // 2)
    widths = (side * side * channels, *params.hidden_units, num_classes)
    return total + sum(before * after for before, after in itertools.pairwise(widths))


def build(num_classes: int, params: Params) -> "keras.Model":
    """Returns the untrained network, float32 pixels in [0, 255] to logits; the published one has 512 features."""
    import keras
    from keras import layers

    seeds = (number % 2**32 for number in itertools.count(params.seed * 1000))  # as large as Keras takes

    def start(name: str) -> dict[str, Any]:
        kernel, bias = (keras.initializers.TruncatedNormal(stddev=0.05, seed=next(seeds)) for _ in range(2))
        return {"kernel_initializer": kernel, "bias_initializer": bias, "name": name}

    inputs = keras.Input((params.input_size_px, params.input_size_px, 3), name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(inputs)
    for index, (channels, kernel_px) in enumerate(zip(params.channels, params.kernels_px, strict=True), start=1):
        stride, options = params.first_stride if index == 1 else 1, start(f"convolution_{index}")
        x = layers.Conv2D(channels, kernel_px, stride, "same", use_bias=not params.batch_norm, **options)(x)
        if params.batch_norm:
            x = layers.BatchNormalization(momentum=0.9, name=f"batch_norm_{index}")(x)
        x = layers.Activation(params.activation, name=f"activation_{index}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool_{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate(params.hidden_units, start=1):
        x = layers.Dropout(params.dropout, seed=next(seeds), name=f"dropout_{index}")(x)
        x = layers.Dense(units, params.activation, **start(f"dense_{index}"))(x)
    # float32 also under mixed precision, for a softmax of float16 logits loses accuracy.
    return keras.Model(inputs, layers.Dense(num_classes, dtype="float32", **start("logits"))(x), name="scratch")
