"""Xception: depthwise separable convolutions in place of Inception's branches, with residual connections.

Chollet 2016, "Xception: Deep Learning with Depthwise Separable Convolutions" (arXiv:1610.02357). The network and the
weights are those of keras.applications.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.library.networks import keras_weights
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras

BACKBONE = Backbone(
    name="xception",
    paper="arXiv:1610.02357",
    weights={
        "keras": Weights(
            filename="xception_weights_tf_dim_ordering_tf_kernels.h5",
            licence="MIT",
            urls=(
                "https://storage.googleapis.com/tensorflow/keras-applications/xception/"
                "xception_weights_tf_dim_ordering_tf_kernels.h5",
            ),
            md5="0a58e3b7378bc2990ea3b43d5981f1f6",
        )
    },
    input_size_px=299,
    min_input_px=71,
    feature_width=2048,
    num_logits=1000,
    num_parameters=22_855_952,
    blocks={
        "stem": "block1_conv2_act",
        "block_2": "add",
        **{f"block_{number}": f"add_{number - 2}" for number in range(3, 14)},
        "block_14": "block14_sepconv2_act",
    },
    top1=0.790,
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `backbones`."""
    import keras

    return keras_weights.build(keras.applications.Xception, input_size_px, BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fills the model from the published .h5 file with top; see `keras_weights.load_h5`."""
    keras_weights.load_h5(model, path, BACKBONE.name)
