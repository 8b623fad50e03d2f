"""Networks of keras.applications."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.library.networks import keras_files, slim_checkpoint
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras

PUBLISHED = "https://storage.googleapis.com"
NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, of [0, 1]
CAFFE_MEAN = 123.68, 116.779, 103.939  # of [0, 255], RGB
Scaling = Literal["own", "to_one", "standardized", "caffe"]


def published(top: str, top_hash: str, no_top: str, no_top_hash: str, licence: str) -> dict[str, Weights]:
    """Returns the two weight files of a network, given their paths at the publisher and their hashes."""
    return {
        variant: Weights(path.rpartition("/")[2], licence, (f"{PUBLISHED}/{path}",), **_hash(digest), has_top=has_top)
        for variant, path, digest, has_top in (
            ("keras", top, top_hash, True),
            ("keras_notop", no_top, no_top_hash, False),
        )
    }


def _hash(digest: str) -> dict[str, str]:
    return {"md5" if len(digest) == 32 else "sha256": digest} if digest else {}


@dataclass(frozen=True)
class Application:
    """A network of keras.applications; offers what a backbone does (see `contract`).

    Attributes:
      constructor: its name in keras.applications.
      scaling: of pixels before it: to [-1, 1] ("to_one"), by ImageNet's mean and deviation ("standardized"), to BGR
        less the mean ("caffe"), or none, for it has a scaling of its own ("own").
      pooled: name of the layer that gives the pooled features; else the last global pooling does.
      rescaled_inside: whether what its own normalization gives is divided by the root of ImageNet's deviation, as Keras
        does with published weights alone (EfficientNet).
      hidden_units: of fully connected layers between the last maps, brought to 7 x 7 cells, and the logits (VGG).
      slim_scopes: as `slim_checkpoint.load` takes them, where it also loads TF-slim's checkpoint.
    """

    BACKBONE: Backbone
    constructor: str
    scaling: Scaling = "own"
    pooled: str | None = None
    rescaled_inside: bool = False
    hidden_units: tuple[int, ...] = ()
    slim_scopes: Mapping[str, str] = field(default_factory=dict)

    def build(self, input_size_px: int) -> "keras.Model":
        """Returns the network with random weights; see `contract`."""
        import keras
        from keras import layers

        pixels = keras.Input((input_size_px, input_size_px, 3), name="pixels")
        options: dict[str, Any] = {"weights": None, "input_tensor": _scaled(pixels, self.scaling)}
        options |= {"include_top": False} if self.hidden_units else {"classifier_activation": None}
        network = with_stable_names(getattr(keras.applications, self.constructor)(**options), self.rescaled_inside)
        logits = network.output
        if self.hidden_units:
            bottleneck = layers.GlobalAveragePooling2D(name="avg_pool")(logits)
            logits = layers.Flatten(name="flatten")(layers.AdaptiveAveragePooling2D(7, name="cells")(logits))
            for number, units in enumerate(self.hidden_units, start=1):
                logits = layers.Dense(units, "relu", name=f"fc{number}")(logits)
            logits = layers.Dense(self.BACKBONE.num_logits, name="predictions")(logits)
        elif self.pooled:
            bottleneck = network.get_layer(self.pooled).output
        else:
            pools = [layer for layer in network.layers if isinstance(layer, layers.GlobalAveragePooling2D)]
            bottleneck = pools[-1].output
        if len(bottleneck.shape) > 2:  # pooled to one cell
            bottleneck = layers.Flatten(name="bottleneck")(bottleneck)
        outputs = {"bottleneck": bottleneck, "logits": logits}
        return keras.Model(network.inputs[0], outputs, name=self.BACKBONE.name)

    def load_weights(self, model: "keras.Model", path: Path) -> "keras.Model":
        """Fills the model from a file of Keras, or from a TF-slim checkpoint; see `contract`."""
        if self.slim_scopes and path.suffix not in keras_files.SUFFIXES:
            slim_checkpoint.load(model, path, self.slim_scopes)
            return model
        return keras_files.load(model, path)


def _scaled(pixels: Any, scaling: Scaling) -> Any:
    """Returns pixels, float32 (n, side, side, 3) of [0, 255], RGB, as the network wants them."""
    from keras import layers

    if scaling == "to_one":
        return layers.Rescaling(1 / 127.5, offset=-1, name="scaling")(pixels)
    if scaling == "standardized":
        scale = [1 / (255 * deviation) for deviation in DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)]
        return layers.Rescaling(scale, offset, name="scaling")(pixels)
    if scaling == "caffe":
        return layers.Rescaling(1.0, [-mean for mean in CAFFE_MEAN], name="scaling")(pixels)[..., ::-1]
    return pixels


def with_stable_names(network: "keras.Model", rescaled_inside: bool = False) -> "keras.Model":
    """Returns a copy whose automatically named layers are named as in a fresh process: conv2d, conv2d_1, ...

    With `rescaled_inside` what its first Normalization gives is rescaled: see `Application`.
    """
    import keras
    from keras import layers

    numbers: dict[str, tuple[str, int]] = {}
    for layer in network.layers:
        match = NUMBERED.fullmatch(layer.name)
        if match and match[1].replace("_", "") == type(layer).__name__.lower():  # made by Keras from the class
            numbers[layer.name] = match[1], int(match[2] or 0)

    def renamed(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in numbers:
            kind, number = numbers[layer.name]
            number -= min(other for same, other in numbers.values() if same == kind)
            config["name"] = f"{kind}_{number}" if number else kind
        return type(layer).from_config(config)

    def called(layer: Any, *inputs: Any, **options: Any) -> Any:
        outputs = layer(*inputs, **options)
        if rescaled_inside and isinstance(layer, layers.Normalization):
            outputs = layers.Rescaling([deviation**-0.5 for deviation in DEVIATION], name="rescaling_inside")(outputs)
        return outputs

    return keras.models.clone_model(network, clone_function=renamed, call_function=called)
