"""What a model weighs: the bytes of all that predicts, its pretrained network included."""

from pathlib import Path

from typing_extensions import TypedDict

from stages.library.common.guarded_files import read_json
from stages.library.features import cache
from stages.library.heads.contract import Features
from stages.library.networks import contract as backbones
from stages.library.records import leakage

# What training leaves beside a model, and no prediction reads.
BOOKKEEPING = {"curve.csv", "cross_validation.json", "last.weights.h5", "variables.csv"}
BOOKKEEPING |= {leakage.OF_HEAD, leakage.OF_NETWORK}
FLOAT32_BYTES = 4


class _Head(TypedDict):
    """What is read of head.json."""

    features: Features


def in_bytes(folder: Path, backbone: str | None) -> int:
    """Returns the bytes of a model's files, and of the parameters of the network that it stands on, in float32.

    A head on pooled features alone needs no ImageNet classifier, the network's last layer, and an export has none.

    Args:
      folder: of a trained head or network.
      backbone: name of the network whose features a head reads; None where the folder holds all of the model.
    """
    own = sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name not in BOOKKEEPING)
    if backbone is None:
        return own
    about = backbones.lookup(backbone).BACKBONE
    head: _Head = read_json(folder / "head.json", _Head, "Run: dvc repro -f train-heads")
    columns = cache.COLUMNS[head["features"]]
    classifier = 0 if "logits" in columns else (about.feature_width + 1) * about.num_logits
    return own + FLOAT32_BYTES * (about.num_parameters - classifier)
