"""ConvNeXt-T: a convolutional network rebuilt in the image of vision transformers, with LayerNorm and no BatchNorm.

Liu et al. 2022, "A ConvNet for the 2020s" (arXiv:2201.03545). The network, with its normalization of the pixels, and
the weights are those of keras.applications.
"""

from stages.library.networks import keras_weights
from stages.library.networks.contract import Backbone

# Blocks are numbered from 1; the sum with a block's input is no layer.
BLOCKS = {"stem": "convnext_tiny_stem"} | {
    f"stage_{stage + 1}_block_{block + 1}": f"convnext_tiny_stage_{stage}_block_{block}_identity"
    for stage, depth in enumerate((3, 3, 9, 3))
    for block in range(depth)
}
BACKBONE = Backbone(
    name="convnext_tiny",
    paper="arXiv:2201.03545",
    weights={
        "keras": keras_weights.published(
            "convnext/convnext_tiny.h5",
            "MIT",
            sha256="8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        )
    },
    input_size_px=224,
    feature_width=768,
    num_parameters=28_589_128,
    blocks=BLOCKS | {"stage_4_block_3": "convnext_tiny_head_layernorm"},  # with the pooled features' LayerNorm
    top1=0.813,
)
NETWORK = keras_weights.Application(
    BACKBONE, "ConvNeXtTiny", bottleneck="convnext_tiny_head_layernorm", logits="convnext_tiny_head_dense"
)
build, load_weights = NETWORK.build, NETWORK.load_weights
