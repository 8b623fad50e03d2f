"""InceptionV3: factorised convolutions, batch normalization throughout.

Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567). The network is that
of keras.applications; the weights are Keras' or TF-slim's.
"""

from stages.library.networks import keras_applications, slim_checkpoint
from stages.library.networks.contract import Backbone

BACKBONE = Backbone(
    name="inception_v3",
    paper="arXiv:1512.00567",
    weights={
        **keras_applications.published(
            "tensorflow/keras-applications/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
            "9a0d58056eeedaa3f26cb7ebd46da564",
            "tensorflow/keras-applications/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "bcbd6486424b2319ff4ef7d526e38f63",
            licence="Apache-2.0",
        ),
        "slim": slim_checkpoint.published("inception_v3_2016_08_28.tar.gz"),
    },
    input_size_px=299,
    min_input_px=75,
    feature_width=2048,
    num_parameters=23_817_352,
    blocks={"stem": "max_pooling2d_1", **{f"mixed_{number}": f"mixed{number}" for number in range(11)}},
    top1=0.779,
    geometry="squash",  # of TF-slim, which made these weights
    resize="bilinear_tf1",
)

# Odd names are so in the checkpoint: Mixed_5c counts otherwise than 5b, and 1a_1x1 in Mixed_6a is 3x3.
INCEPTION_A = "0a_1x1 | 0a_1x1 0b_5x5 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1"
INCEPTION_B = "0a_1x1 | 0a_1x1 0b_1x7 0c_7x1 | 0a_1x1 0b_7x1 0c_1x7 0d_7x1 0e_1x7 | 0b_1x1"
BLOCKS = {
    "Mixed_5b": INCEPTION_A,
    "Mixed_5c": "0a_1x1 | 0b_1x1 Conv_1_0c_5x5 | 0a_1x1 0b_3x3 0c_3x3 | 0b_1x1",
    "Mixed_5d": INCEPTION_A,
    "Mixed_6a": "1a_1x1 | 0a_1x1 0b_3x3 1a_1x1",
    **{f"Mixed_6{letter}": INCEPTION_B for letter in "bcde"},
    "Mixed_7a": "0a_1x1 1a_3x3 | 0a_1x1 0b_1x7 0c_7x1 1a_3x3",
    "Mixed_7b": "0a_1x1 | 0a_1x1 0b_1x3 0b_3x1 | 0a_1x1 0b_3x3 0c_1x3 0d_3x1 | 0b_1x1",
    "Mixed_7c": "0a_1x1 | 0a_1x1 0b_1x3 0c_3x1 | 0a_1x1 0b_3x3 0c_1x3 0d_3x1 | 0b_1x1",
}
SCOPES = slim_checkpoint.inception_scopes("InceptionV3", BLOCKS, {"predictions": "Logits/Conv2d_1c_1x1"})
NETWORK = keras_applications.Application(BACKBONE, "InceptionV3", scaling="to_one", slim_scopes=SCOPES)
build, load_weights = NETWORK.build, NETWORK.load_weights
