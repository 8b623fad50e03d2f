"""Xception: depthwise separable convolutions in place of Inception's branches, with residual connections.

Chollet 2016, "Xception: Deep Learning with Depthwise Separable Convolutions" (arXiv:1610.02357). The network and the
weights are those of keras.applications.
"""

from stages.library.networks import keras_weights
from stages.library.networks.contract import Backbone

BACKBONE = Backbone(
    name="xception",
    paper="arXiv:1610.02357",
    weights={
        "keras": keras_weights.published(
            "xception/xception_weights_tf_dim_ordering_tf_kernels.h5", "MIT", md5="0a58e3b7378bc2990ea3b43d5981f1f6"
        )
    },
    input_size_px=299,
    min_input_px=71,
    feature_width=2048,
    num_parameters=22_855_952,
    blocks={
        "stem": "block1_conv2_act",
        "block_2": "add",
        **{f"block_{number}": f"add_{number - 2}" for number in range(3, 14)},
        "block_14": "block14_sepconv2_act",
    },
    top1=0.790,
)
NETWORK = keras_weights.Application(BACKBONE, "Xception", is_scaled=True)
build, load_weights = NETWORK.build, NETWORK.load_weights
