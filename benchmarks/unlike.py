"""Unlike: how well each model of a checkout tells images of other data sets from its own test images.

FOLDER is a checkout in which `dvc repro` has run; in each of --against, `dvc repro tfrecord` is enough. Noise, of
images that are 8, 32 and 128 px wide, is always added. Columns, for each of them: the AUROC of the distance to the k-th
nearest training image, the fraction of other images that pass where 95% of the test images do (FPR95), and the fraction
that is called unlike the training images; of test images, that fraction alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from app.models import Model, Project
from benchmarks.shared import parser
from stages.library.common.console import progress
from stages.library.common.model_names import COMBINED
from stages.library.preparation import normalisation
from stages.library.records import manifest as manifests

BATCH = 32
SIDES_PX = 8, 32, 128


def main() -> None:
    """Prints the table."""
    options = parser("unlike", __doc__)
    options.add_argument("folder", type=Path, metavar="FOLDER", help="a checkout that was trained")
    options.add_argument("--against", type=Path, nargs="*", default=[], metavar="FOLDER", help="checkouts with images")
    options.add_argument("--images", type=int, default=300, metavar="N", help="of each set, at most (default: 300)")
    arguments = options.parse_args()
    sets = {"test images": images_of(arguments.folder, arguments.images)}
    for folder in arguments.against:
        sets[folder.resolve().name] = images_of(folder, arguments.images)
    sets["noise"] = noise(arguments.images)
    project = Project.open(arguments.folder)
    names = [result.name for result in project.results() if not result.name.startswith(COMBINED)]
    print(pd.DataFrame([row for name in names for row in rows(project.load(name), sets)]).to_string(index=False))


def rows(model: Model, sets: dict[str, list[bytes]]) -> list[dict[str, str]]:
    """Returns a model's rows of the table, the first of its own test images."""
    if model.reference is None:
        raise SystemExit(f"{model.name} was evaluated by an earlier version. Run: dvc repro")
    distances = {name: distances_of(model.compiled(), images) for name, images in sets.items()}
    own, *_ = distances.values()
    passing, known = np.quantile(own, 0.95), model.reference.distances
    found = []
    for name, other in distances.items():
        share = (len(known) - np.searchsorted(known, other, side="left")) / len(known)
        cells = {"model": model.name, "images": name, "unlike": f"{(share < model.threshold).mean():.3f}"}
        if other is not own:
            labels = np.repeat([0, 1], [len(own), len(other)])
            cells["AUROC"] = f"{roc_auc_score(labels, np.concatenate([own, other])):.4f}"
            cells["FPR95"] = f"{(other <= passing).mean():.3f}"
        found.append({"AUROC": "", "FPR95": ""} | cells)
    return found


def distances_of(model: Model, images: Sequence[bytes]) -> np.ndarray:
    """Returns float32 (n,), by which `unlike` tells images apart."""
    if model.reference is None:
        raise ValueError(model.name)
    found = []
    for start in progress(range(0, len(images), BATCH), model.name, "batches"):
        inputs = model.batches(images[start : start + BATCH])
        outputs = [part.outputs(pixels) for part, pixels in zip(model.parts, inputs, strict=True)]
        found.append(model.reference.distances_of([np.asarray(output["bottleneck"]) for output in outputs]))
    return np.concatenate(found)


def images_of(folder: Path, count: int) -> list[bytes]:
    """Returns test images of a checkout, evenly from all."""
    manifest = manifests.read(folder / "data" / "tfrecord", ["test"])
    chosen = np.linspace(0, len(manifest.keys) - 1, min(count, len(manifest.keys))).round().astype(int)
    return [record.encoded for record in manifest.records(chosen)]


def noise(count: int) -> list[bytes]:
    """Returns images of independent pixels, grey and coloured in turn."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        side, channels = SIDES_PX[number % len(SIDES_PX)], 1 if number % 2 else 3
        pixels = rng.integers(0, 256, (side, side, channels), np.uint8)
        found.append(normalisation.normalise(np.repeat(pixels, 3 // channels, axis=2)).encoded)
    return found


if __name__ == "__main__":
    main()
