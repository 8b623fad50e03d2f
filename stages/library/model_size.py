"""What a model weighs: the bytes of all that predicts, its pretrained network included."""

from pathlib import Path

from stages.library import artifacts, backbones, bottlenecks, training_keys

# What training leaves beside a model, and no prediction reads.
BOOKKEEPING = {"curve.csv", "cross_validation.json", "last.weights.h5", "variables.csv"}
BOOKKEEPING |= {training_keys.OF_HEAD, training_keys.OF_NETWORK}
FLOAT32_BYTES = 4


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
    columns = bottlenecks.COLUMNS[artifacts.read_json(folder / "head.json")["features"]]
    classifier = 0 if "logits" in columns else (about.feature_width + 1) * about.num_logits
    return own + FLOAT32_BYTES * (about.num_parameters - classifier)
