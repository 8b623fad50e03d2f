"""InceptionV3: factorised convolutions, batch normalization throughout.

Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567). The network and
the weights are those of keras.applications.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.library.backbones import Backbone, Weights
from stages.library.console import UserError

if TYPE_CHECKING:
    import keras

BACKBONE = Backbone(
    name="inception_v3",
    paper="arXiv:1512.00567",
    weights=Weights(
        filename="inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        licence="MIT",
        urls=(
            "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
            "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        ),
        md5="9a0d58056eeedaa3f26cb7ebd46da564",
    ),
    input_size_px=299,
    min_input_px=75,
    feature_width=2048,
    num_logits=1000,
    num_parameters=23_817_352,
    blocks={
        "stem": "max_pooling2d_1",
        **{f"mixed_{number}": f"mixed{number}" for number in range(11)},
    },
    top1=0.779,
)

AUTOMATIC_NAME = re.compile(
    r"(conv2d|batch_normalization|activation|max_pooling2d|average_pooling2d|concatenate)(?:_(\d+))?"
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `backbones`."""
    import keras

    pixels = keras.Input((input_size_px, input_size_px, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1, name="scaling")(pixels)
    network = keras.applications.InceptionV3(weights=None, input_tensor=scaled, classifier_activation=None)
    network = _with_stable_names(network)
    outputs = {"bottleneck": network.get_layer("avg_pool").output, "logits": network.get_layer("predictions").output}
    return keras.Model(network.inputs[0], outputs, name=BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fills the model from the published HDF5 file with top, every variable exactly once.

    The file lists its layers in the network's topological order, and Keras goes by that order, not by names, which
    depend on what else was built in the process that wrote it. Keras checks the numbers of layers and of variables and
    the shapes.

    Raises:
      UserError: the file can't be read, or has other layers or shapes than the network.
    """
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} must be an .h5 weight file of {BACKBONE.name} with its top: {reason}") from error


def _with_stable_names(network: "keras.Model") -> "keras.Model":
    """Returns a copy whose layers are named as in a fresh process: conv2d, conv2d_1, ..."""
    import keras

    automatic = [match for layer in network.layers if (match := AUTOMATIC_NAME.fullmatch(layer.name))]
    first: dict[str, int] = {}
    for match in automatic:
        kind, number = match[1], int(match[2] or 0)
        first[kind] = min(first.get(kind, number), number)

    def renamed(layer: Any) -> Any:
        config = layer.get_config()
        if match := AUTOMATIC_NAME.fullmatch(layer.name):
            number = int(match[2] or 0) - first[match[1]]
            config["name"] = f"{match[1]}_{number}" if number else match[1]
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=renamed)
