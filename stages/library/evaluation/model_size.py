"""What a model weighs: the bytes of all that predicts, its pretrained network included."""

from pathlib import Path

from stages.library.features import cache
from stages.library.networks import contract as backbones
from stages.library.records import leakage

# What training leaves beside a model, and no prediction reads.
BOOKKEEPING = {"curve.csv", "cross_validation.json", "last.weights.h5", "variables.csv"}
BOOKKEEPING |= {leakage.OF_HEAD, leakage.OF_NETWORK}


def in_bytes(folder: Path, backbone: str | None, features: str | None) -> int:
    """Returns the bytes of a model's files and, for a head, which reads `features`, of its backbone in float32.

    A head on pooled features alone needs no ImageNet classifier, the network's last layer, and an export has none.
    """
    own = sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name not in BOOKKEEPING)
    if backbone is None or features is None:
        return own
    about = backbones.lookup(backbone).BACKBONE
    classifier = 0 if "logits" in cache.COLUMNS[features] else (about.feature_width + 1) * about.num_logits
    return own + 4 * (about.num_parameters - classifier)
