"""InceptionResNetV2: Inception blocks whose outputs are scaled down and added to their inputs.

Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"
(arXiv:1602.07261). The network is that of keras.applications; the weights are Keras' or TF-slim's.
"""

from stages.library.networks import keras_applications, slim_checkpoint
from stages.library.networks.contract import Backbone

BACKBONE = Backbone(
    name="inception_resnet_v2",
    paper="arXiv:1602.07261",
    weights={
        **keras_applications.published(
            "tensorflow/keras-applications/inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
            "e693bd0210a403b3192acc6073ad2e96",
            "tensorflow/keras-applications/inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "d19885ff4a710c122648d3b5c3b684e4",
            licence="Apache-2.0",
        ),
        "slim": slim_checkpoint.published("inception_resnet_v2_2016_08_30.tar.gz"),
    },
    input_size_px=299,
    min_input_px=75,
    feature_width=1536,
    num_parameters=55_813_192,
    blocks={
        "stem": "max_pooling2d_1",
        "mixed_5b": "mixed_5b",
        **{f"block35_{number}": f"block35_{number}_ac" for number in range(1, 11)},
        "mixed_6a": "mixed_6a",
        **{f"block17_{number}": f"block17_{number}_ac" for number in range(1, 21)},
        "mixed_7a": "mixed_7a",
        **{f"block8_{number}": f"block8_{number}_ac" for number in range(1, 10)},
        "block8_10": "custom_scale_layer_39",
        "conv_7b": "conv_7b_ac",
    },
    top1=0.803,
    geometry="squash",  # of TF-slim, which made these weights
    resize="bilinear_tf1",
)

# The last convolution of a residual block, which Keras names after the block, is none of the branches'.
RESIDUAL_SCOPES = {
    **{f"block35_{number}": f"Repeat/block35_{number}" for number in range(1, 11)},
    **{f"block17_{number}": f"Repeat_1/block17_{number}" for number in range(1, 21)},
    **{f"block8_{number}": f"Repeat_2/block8_{number}" for number in range(1, 10)},
    "block8_10": "Block8",
}
BRANCHES = {
    "mixed_5b": "1x1 | 0a_1x1 0b_5x5 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1",
    "block35": "1x1 | 0a_1x1 0b_3x3 | 0a_1x1 0b_3x3 0c_3x3",
    "mixed_6a": "1a_3x3 | 0a_1x1 0b_3x3 1a_3x3",
    "block17": "1x1 | 0a_1x1 0b_1x7 0c_7x1",
    "mixed_7a": "0a_1x1 1a_3x3 | 0a_1x1 1a_3x3 | 0a_1x1 0b_3x3 1a_3x3",
    "block8": "1x1 | 0a_1x1 0b_1x3 0c_3x1",
}
BLOCKS = {
    RESIDUAL_SCOPES.get(block, block.capitalize()): BRANCHES.get(block) or BRANCHES.get(block.partition("_")[0], "")
    for block in BACKBONE.blocks
}
OTHERS = {f"{block}_conv": f"{scope}/Conv2d_1x1" for block, scope in RESIDUAL_SCOPES.items()}
OTHERS |= {"conv_7b": "Conv2d_7b_1x1", "conv_7b_bn": "Conv2d_7b_1x1", "predictions": "Logits/Logits"}
SCOPES = slim_checkpoint.inception_scopes("InceptionResnetV2", BLOCKS, OTHERS)
NETWORK = keras_applications.Application(BACKBONE, "InceptionResNetV2", scaling="to_one", slim_scopes=SCOPES)
build, load_weights = NETWORK.build, NETWORK.load_weights
