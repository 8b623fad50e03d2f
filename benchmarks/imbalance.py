"""Imbalance: balanced accuracy of each model, without and with `class_weights: balanced`.

Of the classes of Caltech-101 (without its background), the largest first, 300 to 3 images train, falling by the same
factor from class to class (or as many as there are), and 10 each test, drawn at random. Penalties and epochs are chosen
by balanced accuracy. Each cell is in percent: the mean over the draws, the lowest and the highest; the gain is taken
draw by draw.
Run: python -m benchmarks.imbalance caltech-101.zip [--draws 3] [--models ridge finetuned]
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.shared import ROOT, parser, records, run, stage, write_params
from stages.library.settings import load_params
from stages.library.sources.contract import SourceImage
from stages.plugins.datasets import caltech101

HEADS = ("ridge", "logistic", "softmax", "dnn", "xgboost")
WEIGHTS = ("none", "balanced")
BACKBONE = "efficientnet_lite0"
LARGEST, SMALLEST, TESTED = 300, 3, 10


def main() -> None:
    """Prints the table."""
    models = [*HEADS, "finetuned", "scratch"]
    options = parser("imbalance", __doc__)
    options.add_argument("archive", type=Path, help="the zip as it is published")
    options.add_argument("--draws", type=int, default=3, metavar="N", help="of imbalanced training images")
    options.add_argument("--models", nargs="+", default=models, choices=models, metavar="MODEL", help=", ".join(models))
    arguments = options.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        classes = by_class(arguments.archive, Path(name))
        for draw in range(arguments.draws):
            work = Path(name, str(draw))
            write(classes, work / "images", draw)
            prepare(work)
            for model in arguments.models:
                accuracies = {weights: measured(work, model, weights) for weights in WEIGHTS}
                found.append({"model": model, "draw": draw, **accuracies})
                print(found[-1], file=sys.stderr, flush=True)
    print(table(pd.DataFrame(found)).to_string())


def by_class(archive: Path, folder: Path) -> dict[str, dict[str, bytes]]:
    """Returns the images of each class by name, the largest class first."""
    (folder / caltech101.ARCHIVE.filename).symlink_to(archive.resolve())
    classes: dict[str, dict[str, bytes]] = {}
    for image in caltech101.read(load_params(ROOT / "params.yaml")["dataset"], folder):
        if isinstance(image, SourceImage) and image.text != "BACKGROUND_Google":
            classes.setdefault(image.text, {})[image.name] = image.content
    return {name: classes[name] for name in sorted(classes, key=lambda name: (-len(classes[name]), name))}


def write(classes: dict[str, dict[str, bytes]], folder: Path, draw: int) -> None:
    """Writes the images of a draw as train/CLASS and test/CLASS."""
    rng = np.random.default_rng(draw)
    counts = np.geomspace(LARGEST, SMALLEST, len(classes)).round().astype(int)
    for images, count in zip(classes.values(), counts, strict=True):
        names = rng.permutation(sorted(images))
        for split, drawn in (("test", names[:TESTED]), ("train", names[TESTED : TESTED + count])):
            for name in drawn:
                path = folder / split / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(images[name])


def prepare(work: Path) -> None:
    """Writes params.yaml with each weights, the TFRecords and the features."""
    changes = {
        "dataset": {"name": "folder", "folder": str(work / "images")},
        "extract": {"input_size_px": 96},
        "evaluate": {"selection_metric": "balanced_accuracy"},
    }
    for weights in WEIGHTS:
        params = write_params(work / f"{weights}.yaml", changes | {"class_weights": weights})
    records(params, work / "raw", work / "records")
    given = {"params": params, "records": work / "records", "out": work / "features"}
    run(stage("bottleneck_extract", backbone=BACKBONE, **given))


def measured(work: Path, model: str, weights: str) -> float:
    """Trains a model; returns its balanced accuracy on the test images, in percent."""
    params, shards, features = work / f"{weights}.yaml", work / "records", work / "features"
    trained, metrics = work / weights / model, work / f"{weights}.json"
    training = {"params": params, "out": trained}
    scoring = {"params": params, "records": shards, "metrics": metrics, "figures": work / "figures"}
    if model in HEADS:
        run(stage("train_heads", head=model, bottlenecks=features, **training))
        run(stage("evaluate", head=trained, bottlenecks=features, **scoring))
    else:
        training |= {"records": shards, "tensorboard": work / "tensorboard"}
        of_backbone = {"backbone": BACKBONE, "bottlenecks": features}
        command = stage("finetune", **of_backbone, **training)
        run(command if model == "finetuned" else stage("train_scratch", **training))
        run(stage("evaluate_network", network=trained, **scoring))
    return 100 * json.loads(metrics.read_text(encoding="utf-8"))["balanced_accuracy"]


def table(found: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each model, in the order in which they were trained."""
    each = found.assign(gain=found["balanced"] - found["none"]).groupby("model", sort=False)[[*WEIGHTS, "gain"]]
    return each.agg(lambda cells: f"{cells.mean():.2f} ({cells.min():.2f} to {cells.max():.2f})")


if __name__ == "__main__":
    main()
