"""ConvNeXt-T: a convolutional network rebuilt in the image of vision transformers, with LayerNorm and no BatchNorm.

Liu et al. 2022, "A ConvNet for the 2020s" (arXiv:2201.03545). The network, with its normalization of the pixels, and
the weights are those of keras.applications.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stages.library.networks import keras_weights
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras

DEPTHS = (3, 3, 9, 3)


def _blocks() -> Iterator[tuple[str, str]]:
    """Yields each block's name, numbered from 1, and its last layer; the sum with the block's input is no layer."""
    yield "stem", "convnext_tiny_stem"
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            yield f"stage_{stage + 1}_block_{block + 1}", f"convnext_tiny_stage_{stage}_block_{block}_identity"


BACKBONE = Backbone(
    name="convnext_tiny",
    paper="arXiv:2201.03545",
    weights={
        "keras": Weights(
            filename="convnext_tiny.h5",
            licence="MIT",
            urls=("https://storage.googleapis.com/tensorflow/keras-applications/convnext/convnext_tiny.h5",),
            sha256="8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        )
    },
    input_size_px=224,
    min_input_px=32,
    feature_width=768,
    num_logits=1000,
    num_parameters=28_589_128,
    blocks=dict(_blocks()) | {"stage_4_block_3": "convnext_tiny_head_layernorm"},  # with the pooled features' LayerNorm
    top1=0.813,
)


def build(input_size_px: int) -> "keras.Model":
    """Returns the network with random weights; see `backbones`. The pooled features are those after LayerNorm."""
    import keras

    pixels = keras.Input((input_size_px, input_size_px, 3), name="pixels")
    network = keras.applications.ConvNeXtTiny(weights=None, input_tensor=pixels, classifier_activation=None)
    network = keras_weights.with_stable_names(network)
    outputs = {
        "bottleneck": network.get_layer("convnext_tiny_head_layernorm").output,
        "logits": network.get_layer("convnext_tiny_head_dense").output,
    }
    return keras.Model(network.inputs[0], outputs, name=BACKBONE.name)


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fills the model from the published .h5 file with top; see `keras_weights.load_h5`."""
    keras_weights.load_h5(model, path, BACKBONE.name)
