"""What a model weighs: the bytes of all that predicts, its pretrained network included."""

from collections.abc import Iterable
from pathlib import Path

from stages.library.common.model_names import members
from stages.library.features import cache
from stages.library.networks import contract as backbones
from stages.library.records import leakage

# What training leaves beside a model, and no prediction reads.
BOOKKEEPING = {"curve.csv", "cross_validation.json", "last.weights.h5", "variables.csv"}
BOOKKEEPING |= {leakage.OF_HEAD, leakage.OF_NETWORK}


def in_bytes(models: Iterable[tuple[Path, str | None, str | None]]) -> int:
    """Returns the bytes of models that predict together: folder, backbone and, of a head, which features it reads.

    They are those of all files and, where there are heads, of each of their backbones in float32, once. Heads on pooled
    features alone need no ImageNet classifier, the network's top, and an export has none.
    """
    size, columns = 0, dict[str, set[str]]()
    for folder, backbone, features in models:
        size += sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name not in BOOKKEEPING)
        if backbone and features:
            for name in members(backbone):
                columns.setdefault(name, set()).update(cache.COLUMNS[features])
    for name, read in columns.items():
        about = backbones.lookup(name).BACKBONE
        size += 4 * (about.num_parameters - (0 if "logits" in read else about.num_top_parameters))
    return size
