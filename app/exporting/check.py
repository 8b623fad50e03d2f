"""The check of an export: a process of its own runs the file on images as its user would, and the model does, too."""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
    """Returns image files: at most `count` of the test images, evenly from all, then generated ones."""
    try:
        manifest = manifests.read(project.root / "data" / "tfrecord", ["test"])
    except UserError:
        return generate()  # a pretrained network needs no data set
    total = len(manifest.keys)
    rows = np.linspace(0, total - 1, min(count, total)).astype(int)
    return [record.encoded for record in manifest.records(rows)] + generate()


def generate() -> list[bytes]:
    """Returns image files: of `GENERATED` sizes, then of the kinds that programs decode each in their own way.

    The images are smooth stains under noise, which show a resize that is a little wrong.
    """
    rng = np.random.default_rng(0)
    arrays = []
    for height, width, channels in GENERATED:
        coarse = rng.integers(0, 200, (-(-height // 12), -(-width // 12), channels))
        stains = np.kron(coarse, np.ones((12, 12, 1), int))[:height, :width]
        arrays.append((stains + rng.integers(0, 56, (height, width, channels))).astype(np.uint8))
    image = Image.fromarray(arrays[1])
    cutout = image.copy()
    cutout.putalpha(Image.linear_gradient("L").resize(image.size))
    return [
        *(normalisation.normalise(pixels).encoded for pixels in arrays),
        *(_file(image, "JPEG", exif=_turned(orientation)) for orientation in range(1, 9)),
        _file(image.convert("CMYK"), "JPEG"),
        _file(cutout, "PNG"),
        _file(image.quantize(8), "PNG", transparency=0),
        _file(image.quantize(8).convert("L").point(lambda value: value & 0xE0), "PNG", transparency=96),
        _file(Image.fromarray(arrays[1][..., 0].astype(np.uint16) << 8), "PNG"),
    ]


def _turned(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[normalisation.EXIF_ORIENTATION] = orientation
    return tags


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def compare(model: Model, folder: Path, files: Sequence[bytes]) -> Agreement:
    """Compares an exported folder with its model on image files; raises UserError where it can't be run."""
    encoded = [normalisation.normalise(content).encoded for content in files]
    batches = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
    expected = np.concatenate([model.predict(batch) for batch in console.progress(batches, "compare", "batches")])
    given = replay(folder, files)  # (ways, images, classes)
    if given.shape[1:] != expected.shape:
        raise UserError(f"the exported file gave probabilities {given.shape[1:]}, not {expected.shape}")
    differences = np.abs(given - expected).max(axis=(0, 2), initial=0)
    differences[~np.isfinite(given).all(axis=(0, 2))] = np.inf
    same = (given.argmax(axis=2) == expected.argmax(axis=1)).all(axis=0)
    differing = int((differences > TOLERANCE).sum())
    trees = any(each.trained and isinstance(each.trained.head, BoostedTrees) for each in model.heads)
    return Agreement(len(files), float(differences.max(initial=0)), int(same.sum()), differing, trees)


def replay(folder: Path, files: Sequence[bytes]) -> np.ndarray:
    """Returns what the folder's predict.py says of images in a new process: float32 (ways, images, classes)."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for index, content in enumerate(files):
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
