"""EfficientNetV2-B0: plain convolutions in place of depthwise ones in the first stages; the smallest of the family.

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
    name="efficientnet_v2_b0",
    paper="arXiv:2104.00298",
    weights={
        "keras": Weights(
            filename="efficientnetv2-b0.h5",
            licence="Apache-2.0",
            urls=("https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/efficientnetv2-b0.h5",),
            md5="21ecbf6da12460d5c40bb2f29ceb2188",
        )
    },
    input_size_px=224,
    min_input_px=32,
    feature_width=1280,
    num_logits=1000,
    num_parameters=7_139_704,
    blocks={
        "stem": "stem_activation",
        "stage_1": "block1a_project_activation",
        "stage_2": "block2b_add",
        "stage_3": "block3b_add",
        "stage_4": "block4c_add",
        "stage_5": "block5e_add",
        "stage_6": "block6h_add",
        "head": "avg_pool",
    },
    top1=0.787,
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `backbones`."""
    import keras

    pixels = keras.Input((input_size_px, input_size_px, 3), name="pixels")
    network = keras.applications.EfficientNetV2B0(weights=None, input_tensor=pixels, classifier_activation=None)
    network = keras_weights.with_stable_names(network)
    outputs = {"bottleneck": network.get_layer("avg_pool").output, "logits": network.get_layer("predictions").output}
    return keras.Model(network.inputs[0], outputs, name=BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fills the model from the published .h5 file with top; see `keras_weights.load_h5`."""
    keras_weights.load_h5(model, path, BACKBONE.name)
