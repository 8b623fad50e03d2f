"""The small convolutional network trained from scratch: the baseline that a pretrained backbone must beat.

The published one (Kostadinov 2017-04-23, test top-1 0.6734 on CIFAR-10): `channels: [32, 64, 128]`,
`kernels_px: [7, 3, 2]`, `first_stride: 2`, `hidden_units: [1024, 128]`, `dropout: 0.5`; no activation functions
(`activation: linear`) and no batch normalization, so max-pooling alone keeps it from being a linear classifier.

A quicker one is in the manner of airbench (Jordan 2024, arXiv:2404.00498): `whitening: true`, blocks of two 3x3
convolutions without residuals, `batch_norm: true`, `activation: gelu`, global pooling, no hidden layers.
"""

import functools
import itertools
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic

from stages.library.common.params import CONFIG, MOST_LAYERS, Geometry, Width
from stages.library.training import loop as training

if TYPE_CHECKING:
    from collections.abc import Iterable

    import keras

Kernel = Annotated[int, pydantic.Field(ge=1, le=31)]
PATCH_PX, PATCH_VALUES = 2, 2 * 2 * 3  # of the whitening
WHITENING = "whitening"
FEATURE_CELLS = 4  # of a side of the maps that are features, at most
SMALLEST_VARIANCE = 5e-4  # that whitening divides by, relative to the mean one: less is noise


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params(training.Params):
    """Section `scratch` of params.yaml."""

    input_size_px: Annotated[int, pydantic.Field(ge=16, le=1024, description="side of the square input")]
    geometry: Annotated[Geometry, pydantic.Field(description="how an image becomes that square")]
    whitening: Annotated[
        bool, pydantic.Field(description="first a fixed layer that whitens 2x2 patches of the training images")
    ]
    channels: Annotated[
        tuple[Width, ...], pydantic.Field(min_length=1, max_length=MOST_LAYERS, description="of each block")
    ]
    kernels_px: Annotated[tuple[Kernel, ...], pydantic.Field(min_length=1, description="side, of each block")]
    first_stride: Annotated[int, pydantic.Field(ge=1, le=4, description="pixels, of the first convolution")]
    convolutions: Annotated[
        int, pydantic.Field(ge=1, le=10, description="in each block; 2x2 pooling follows the first one")
    ]
    batch_norm: Annotated[bool, pydantic.Field(description="before each activation of a convolution")]
    pooling: Annotated[
        Literal["none", "max", "average"], pydantic.Field(description="over all positions, after the blocks")
    ]
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
    channels, side, total = 3, params.input_size_px, 0
    if params.whitening:
        channels, side, total = 2 * PATCH_VALUES, side - PATCH_PX + 1, 2 * PATCH_VALUES**2
    side = -(-side // params.first_stride)
    for width, kernel_px in zip(params.channels, params.kernels_px, strict=True):
        total += (channels + (params.convolutions - 1) * width) * width * kernel_px**2
        channels, side = width, -(-side // 2)
    widths = (channels if params.pooling != "none" else side * side * channels, *params.hidden_units, num_classes)
    return total + sum(before * after for before, after in itertools.pairwise(widths))


def build(num_classes: int, params: Params) -> "keras.Model":
    """Returns the untrained network, float32 pixels in [0, 255] to logits; the published one has 512 features.

    What whitens is still random: see `whiten`. Pooling stands before the activation, which then has a quarter of the
    work; where an activation never falls, as ReLU, the order makes no difference.
    """
    import keras
    from keras import layers

    seeds = (number % 2**32 for number in itertools.count(params.seed * 1000))  # as large as Keras takes

    def start(name: str) -> dict[str, Any]:
        kernel, bias = (keras.initializers.TruncatedNormal(stddev=0.05, seed=next(seeds)) for _ in range(2))
        return {"kernel_initializer": kernel, "bias_initializer": bias, "name": name}

    # GELU by its approximation with tanh (Hendrycks and Gimpel 2016): ONNX and LiteRT lack the other's error function.
    gelu = functools.partial(keras.activations.gelu, approximate=True)
    activation = gelu if params.activation == "gelu" else params.activation

    inputs = keras.Input((params.input_size_px, params.input_size_px, 3), name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(inputs)
    if params.whitening:
        x = layers.Conv2D(2 * PATCH_VALUES, PATCH_PX, name=WHITENING, trainable=False)(x)
        x = layers.Activation(activation, name="activation_0")(x)
    index = 0
    for block, (channels, kernel_px) in enumerate(zip(params.channels, params.kernels_px, strict=True), start=1):
        for position in range(params.convolutions):
            index += 1
            stride, options = params.first_stride if index == 1 else 1, start(f"convolution_{index}")
            x = layers.Conv2D(channels, kernel_px, stride, "same", use_bias=not params.batch_norm, **options)(x)
            if position == 0:
                x = layers.MaxPooling2D(2, padding="same", name=f"pool_{block}")(x)
            if params.batch_norm:
                x = layers.BatchNormalization(momentum=0.9, scale=False, name=f"batch_norm_{index}")(x)
            x = layers.Activation(activation, name=f"activation_{index}")(x)
    pooling = {"none": layers.Flatten, "max": layers.GlobalMaxPooling2D, "average": layers.GlobalAveragePooling2D}
    x = pooling[params.pooling](name="flatten")(x)
    for index, units in enumerate(params.hidden_units, start=1):
        x = layers.Dropout(params.dropout, seed=next(seeds), name=f"dropout_{index}")(x)
        x = layers.Dense(units, activation, **start(f"dense_{index}"))(x)
    # float32 also under mixed precision, for a softmax of float16 logits loses accuracy.
    return keras.Model(inputs, layers.Dense(num_classes, dtype="float32", **start("logits"))(x), name="scratch")


def features(model: "keras.Model") -> Any:
    """Returns the tensor (n, width) of a network's features, by which images are compared: its maps, block by block.

    The image less mid-grey is the first block. Hidden layers keep what tells the classes apart, and little of all else:
    photographs come to lie among digits there. Maps are averaged to at most `FEATURE_CELLS` cells a side, and those of
    each block brought to unit length.
    """
    from keras import layers

    blocks = {"image": layers.Rescaling(1.0, -0.5, name="image_less_grey")(model.get_layer("scale").output)}
    names = (layer.name for layer in model.layers if layer.name.startswith("activation_"))
    blocks |= {name: model.get_layer(name).output for name in names if name != "activation_0"}  # of the whitening
    rows = []
    for name, maps in blocks.items():
        side = -(-maps.shape[1] // FEATURE_CELLS)
        cells = layers.AveragePooling2D(side, padding="same", name=f"{name}_cells")(maps) if side > 1 else maps
        row = layers.Flatten(name=f"{name}_row")(cells)
        rows.append(layers.UnitNormalization(name=f"{name}_unit_length")(row))
    return layers.Concatenate(name="features")(rows)


def whiten(model: "keras.Model", images: "Iterable[np.ndarray]") -> None:
    """Sets the fixed first layer of a network by images (side, side, 3) of [0, 255], one at least.

    Its 12 projections of 2x2 patches of them, on the principal axes, have mean 0, variance 1 and no correlation; the
    other 12 are their negatives, for an activation cuts off one half of each.
    """
    count, sums, products = 0, np.zeros(PATCH_VALUES), np.zeros((PATCH_VALUES, PATCH_VALUES))
    for image in images:
        pixels = image.astype(np.float64) / 255
        parts = [pixels[:-1, :-1], pixels[:-1, 1:], pixels[1:, :-1], pixels[1:, 1:]]  # in the order of a kernel
        patches = np.concatenate(parts, axis=-1).reshape(-1, PATCH_VALUES)
        count += len(patches)
        sums += patches.sum(axis=0)
        products += patches.T @ patches
    mean = sums / count
    variances, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
    # One grey level is the least that images of one colour are divided by.
    least = SMALLEST_VARIANCE * max(variances.mean(), 255**-2)
    axes /= np.sqrt(np.maximum(variances, 0) + least)
    kernel, bias = np.concatenate([axes, -axes], axis=1), np.concatenate([-mean @ axes, mean @ axes])
    model.get_layer(WHITENING).set_weights([kernel.reshape(PATCH_PX, PATCH_PX, 3, -1), bias])
