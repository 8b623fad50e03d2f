"""The small convolutional network trained from scratch: the baseline that a pretrained backbone must beat.

Layers as in Kostadinov's CIFAR-10 network (2017-04-23): convolutions 7x7/2 to 32, 3x3 to 64 and 2x2 to 128 channels,
each followed by 2x2 max-pooling; dense 1024 and 128 between dropouts. The original has no activation functions:
`scratch.activation: linear` gives that.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from stages.library import training
from stages.library.params import CONFIG

if TYPE_CHECKING:
    import keras

INITIAL_STDDEV = 0.05


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params(training.Params):
    """Section `scratch` of params.yaml."""

    input_size_px: Annotated[int, pydantic.Field(ge=16, le=1024, description="side of the square input")]
    activation: Annotated[Literal["linear", "relu", "gelu", "silu"], pydantic.Field(description="after each layer")]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1, description="fraction dropped before the dense layers")]


def build(num_classes: int, params: Params) -> "keras.Model":
    """Returns the untrained network: float32 pixels in [0, 255], (batch, size, size, 3), to logits (batch, classes).

    Weights and biases start from a normal distribution truncated at two standard deviations of 0.05, as in the
    original. 32 px and 10 classes give 2 x 2 x 128 = 512 features before the dense layers.
    """
    import keras
    from keras import layers

    seeds = iter(range(params.seed * 1000, params.seed * 1000 + 1000))

    def start() -> keras.initializers.Initializer:
        return keras.initializers.TruncatedNormal(stddev=INITIAL_STDDEV, seed=next(seeds))

    def convolution(channels: int, kernel: int, strides: int, name: str) -> keras.layers.Layer:
        return layers.Conv2D(
            channels,
            kernel,
            strides,
            padding="same",
            activation=params.activation,
            kernel_initializer=start(),
            bias_initializer=start(),
            name=name,
        )

    def dense(units: int, activation: str, name: str, dtype: str | None = None) -> keras.layers.Layer:
        return layers.Dense(
            units, activation, kernel_initializer=start(), bias_initializer=start(), name=name, dtype=dtype
        )

    inputs = keras.Input((params.input_size_px, params.input_size_px, 3), name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(inputs)
    for index, (channels, kernel, strides) in enumerate(((32, 7, 2), (64, 3, 1), (128, 2, 1)), start=1):
        x = convolution(channels, kernel, strides, f"convolution_{index}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool_{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(params.dropout, seed=next(seeds), name="dropout_1")(x)
    x = dense(1024, params.activation, "dense_1")(x)
    x = layers.Dropout(params.dropout, seed=next(seeds), name="dropout_2")(x)
    x = dense(128, params.activation, "dense_2")(x)
    return keras.Model(inputs, dense(num_classes, "linear", "logits", dtype="float32")(x), name="scratch")
