"""Networks of keras.applications and their published .h5 files."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.library.common.console import UserError
from stages.library.networks import hdf5, slim_checkpoint
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras

PUBLISHED = "https://storage.googleapis.com/tensorflow/keras-applications"
NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")


def published(path: str, licence: str, sha256: str | None = None, md5: str | None = None) -> Weights:
    """Returns a weight file of keras.applications, given its path below the published folder."""
    return Weights(path.rpartition("/")[2], licence, (f"{PUBLISHED}/{path}",), sha256, md5)


@dataclass(frozen=True)
class Application:
    """A network of keras.applications; gives a backbone's module all that it offers (see `contract`).

    Attributes:
      constructor: its name in keras.applications.
      is_scaled: whether pixels are scaled to [-1, 1] before it; else it has a scaling of its own.
      bottleneck, logits: names of the layers that give them.
      slim_scopes: as `slim_checkpoint.load` takes them, where it also loads TF-slim's checkpoint.
    """

    backbone: Backbone
    constructor: str
    is_scaled: bool = False
    bottleneck: str = "avg_pool"
    logits: str = "predictions"
    slim_scopes: Mapping[str, str] = field(default_factory=dict)

    def build(self, input_size_px: int) -> "keras.Model":
        """Returns the network with random weights; see `contract`."""
        import keras

        x = pixels = keras.Input((input_size_px, input_size_px, 3), name="pixels")
        if self.is_scaled:
            x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="scaling")(pixels)
        application = getattr(keras.applications, self.constructor)
        network = with_stable_names(application(weights=None, input_tensor=x, classifier_activation=None))
        outputs = {name: network.get_layer(getattr(self, name)).output for name in ("bottleneck", "logits")}
        return keras.Model(network.inputs[0], outputs, name=self.backbone.name)

    def load_weights(self, model: "keras.Model", path: Path) -> None:
        """Fills the model from Keras' .h5 file with top, or from a TF-slim checkpoint; see `contract`."""
        if self.slim_scopes and path.suffix != ".h5":
            slim_checkpoint.load(model, path, self.slim_scopes)
        else:
            load_h5(model, path, self.backbone.name)


def load_h5(model: "keras.Model", path: Path, name: str) -> None:
    """Fills a model of a backbone's name from a published .h5 file with top, every variable exactly once.

    The file lists its layers in the network's topological order, and Keras goes by that order, not by names, which
    depend on what else was built in the process that wrote it. Keras checks the numbers of layers, without those that
    have no variables, and of variables and the shapes.

    Raises:
      UserError: the file can't be read, or has other layers or shapes than the network.
    """
    try:
        hdf5.check(path)
        load(model, path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} must be an .h5 weight file of {name} with its top: {reason}") from error


def load(model: "keras.Model", path: Path) -> None:
    """Fills a model from a file that `hdf5.check` has read; raises OSError or ValueError where it does not fit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns where some layers keep random weights
            model.load_weights(path)
    except (UserWarning, KeyError, IndexError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def with_stable_names(network: "keras.Model") -> "keras.Model":
    """Returns a copy whose automatically named layers are named as in a fresh process: conv2d, conv2d_1, ..."""
    import keras

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

    return keras.models.clone_model(network, clone_function=renamed)
