"""EfficientNetV2-B0: plain convolutions in place of depthwise ones in the first stages; the smallest of the family.

Tan and Le 2021, "EfficientNetV2: Smaller Models and Faster Training" (arXiv:2104.00298). The network, with its scaling
of the pixels, and the weights are those of keras.applications.
"""

from stages.library.networks import keras_weights
from stages.library.networks.contract import Backbone

BACKBONE = Backbone(
    name="efficientnet_v2_b0",
    paper="arXiv:2104.00298",
    weights={
        "keras": keras_weights.published(
            "efficientnet_v2/efficientnetv2-b0.h5", "Apache-2.0", md5="21ecbf6da12460d5c40bb2f29ceb2188"
        )
    },
    input_size_px=224,
    feature_width=1280,
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
NETWORK = keras_weights.Application(BACKBONE, "EfficientNetV2B0")
build, load_weights = NETWORK.build, NETWORK.load_weights
