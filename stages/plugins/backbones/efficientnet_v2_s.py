"""EfficientNetV2-S: found by a search for accuracy at training speed; B0 is this network scaled down.

Tan and Le 2021, "EfficientNetV2: Smaller Models and Faster Training" (arXiv:2104.00298). The network, with its scaling
of the pixels, and the weights are those of keras.applications.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.library.networks import keras_weights
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras

BACKBONE = Backbone(
    name="efficientnet_v2_s",
    paper="arXiv:2104.00298",
    weights={
        "keras": Weights(
            filename="efficientnetv2-s.h5",
            licence="Apache-2.0",
            urls=("https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/efficientnetv2-s.h5",),
            md5="e1d88a8495beba45748fedd0cecbe016",
        )
    },
    input_size_px=384,
    min_input_px=32,
    feature_width=1280,
    num_logits=1000,
    num_parameters=21_458_488,
    blocks={
        "stem": "stem_activation",
        "stage_1": "block1b_add",
        "stage_2": "block2d_add",
        "stage_3": "block3d_add",
        "stage_4": "block4f_add",
        "stage_5": "block5i_add",
        "stage_6": "block6o_add",
        "head": "avg_pool",
    },
    top1=0.839,
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `backbones`."""
    import keras

    pixels = keras.Input((input_size_px, input_size_px, 3), name="pixels")
    network = keras.applications.EfficientNetV2S(weights=None, input_tensor=pixels, classifier_activation=None)
    network = keras_weights.with_stable_names(network)
    outputs = {"bottleneck": network.get_layer("avg_pool").output, "logits": network.get_layer("predictions").output}
    return keras.Model(network.inputs[0], outputs, name=BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fills the model from the published .h5 file with top; see `keras_weights.load_h5`."""
    keras_weights.load_h5(model, path, BACKBONE.name)
