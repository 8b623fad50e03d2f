"""The check of an export: a process of its own runs the file on images as its user would, and the model does, too."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.models import Model, Project
from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.preparation import normalisation
from stages.library.records import manifest as manifests
from stages.plugins.heads.xgboost.head import BoostedTrees

TOLERANCE = 1e-3  # of a probability
TREES_TOLERANCE = 0.05
TREES_FRACTION = 0.05  # of the images, whose probabilities may differ by more than `TOLERANCE`
BATCH = 16

# Height, width and channels in pixels: smaller and larger than any input, wide, tall, and grey.
GENERATED = ((24, 32, 3), (300, 200, 3), (97, 640, 3), (480, 60, 3), (150, 150, 1))


@dataclass(frozen=True)
class Agreement:
    """How an exported file compares with its model."""

    images: int  # that were compared
    difference: float  # the largest one of any probability
    same_class: int  # images whose most probable class is the same
    differing: int  # images with a probability that differs by more than `TOLERANCE`
    trees: bool  # whether the model is made of boosted trees

    def fault(self) -> str:
        """Returns in what the file is not the model, or "".

        Trees jump: a feature that equals a threshold, as values rounded to float16 often do, takes the other branch
        where the last bit of the network's result differs.
        """
        tolerated = max(1, int(self.images * TREES_FRACTION)) if self.trees else 0
        limit = TREES_TOLERANCE if self.trees else TOLERANCE
        if self.differing <= tolerated and self.difference <= limit:
            return ""
        return (
            f"its probabilities differ by more than {TOLERANCE} on {self.differing} of {self.images} images "
            f"({tolerated} may), by {self.difference:.2g} at most ({limit} may be)"
        )


def find_images(project: Project, count: int) -> list[bytes]:
    """Returns JPEG or PNG files: at most `count` of the test images, evenly from all, then generated ones."""
    try:
        manifest = manifests.read(project.root / "data" / "tfrecord", ["test"])
    except UserError:
        return generate()  # a pretrained network needs no data set
    total = len(manifest.keys)
    rows = np.linspace(0, total - 1, min(count, total)).astype(int)
    return [record.encoded for record in manifest.records(rows)] + generate()


def generate() -> list[bytes]:
    """Returns PNG files of `GENERATED` sizes: smooth stains under noise, which show a resize that is a little wrong."""
    rng = np.random.default_rng(0)
    found = []
    for height, width, channels in GENERATED:
        coarse = rng.integers(0, 200, (-(-height // 12), -(-width // 12), channels))
        stains = np.kron(coarse, np.ones((12, 12, 1), int))[:height, :width]
        pixels = stains + rng.integers(0, 56, (height, width, channels))
        found.append(normalisation.normalise(pixels.astype(np.uint8)).encoded)
    return found


def compare(model: Model, folder: Path, encoded: Sequence[bytes]) -> Agreement:
    """Compares an exported folder with its model on JPEG or PNG files; raises UserError where it can't be run."""
    batches = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
    expected = np.concatenate([model.predict(batch) for batch in console.progress(batches, "compare", "batches")])
    given = replay(folder, encoded)  # (ways, images, classes)
    if given.shape[1:] != expected.shape:
        raise UserError(f"the exported file gave probabilities {given.shape[1:]}, not {expected.shape}")
    differences = np.abs(given - expected).max(axis=(0, 2), initial=0)
    differences[~np.isfinite(given).all(axis=(0, 2))] = np.inf
    same = (given.argmax(axis=2) == expected.argmax(axis=1)).all(axis=0)
    differing = int((differences > TOLERANCE).sum())
    trees = model.trained is not None and isinstance(model.trained.head, BoostedTrees)
    return Agreement(len(encoded), float(differences.max(initial=0)), int(same.sum()), differing, trees)


def replay(folder: Path, encoded: Sequence[bytes]) -> np.ndarray:
    """Returns what the folder's predict.py says of images in a new process: float32 (ways, images, classes)."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for index, content in enumerate(encoded):
            (scratch / f"{index:06d}").write_bytes(content)
        out = scratch / "probabilities.npy"
        command = [sys.executable, "-m", "app.exporting.replay", str(folder.resolve()), str(scratch), str(out)]
        quiet = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        code = Path(__file__).parents[2]
        result = subprocess.run(command, cwd=code, env=quiet, capture_output=True, text=True, check=False)  # noqa: S603
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
            raise UserError(f"the exported file can't be run: {reason}")
        found: np.ndarray = np.load(out)
        return found
