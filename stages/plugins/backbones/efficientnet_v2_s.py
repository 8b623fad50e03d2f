"""EfficientNetV2-S: found by a search for accuracy at training speed; B0 is this network scaled down.

Tan and Le 2021, "EfficientNetV2: Smaller Models and Faster Training" (arXiv:2104.00298). The network, with its scaling
of the pixels, and the weights are those of keras.applications.
"""

from stages.library.networks import keras_weights
from stages.library.networks.contract import Backbone

BACKBONE = Backbone(
    name="efficientnet_v2_s",
    paper="arXiv:2104.00298",
    weights={
        "keras": keras_weights.published(
            "efficientnet_v2/efficientnetv2-s.h5", "Apache-2.0", md5="e1d88a8495beba45748fedd0cecbe016"
        )
    },
    input_size_px=384,
    feature_width=1280,
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
NETWORK = keras_weights.Application(BACKBONE, "EfficientNetV2S")
build, load_weights = NETWORK.build, NETWORK.load_weights
