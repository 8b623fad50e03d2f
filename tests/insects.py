"""Small images of three classes as records, JPEG and PNG, colour and grey, and how they are extracted."""

import dataclasses

import described
import numpy as np
import sharded
from conftest import ROOT
from PIL import Image

from checks.image_builders import encode
from stages.library.common import artifacts
from stages.library.extraction.runtime import Plan
from stages.library.settings import load_params

CLASSES = ("ant", "bee", "cat")
DATASET = described.dataset("insects", CLASSES)
SIZE_PX = 32
DEFAULTS = load_params(ROOT / "params.yaml")["extract"]


def record(rng):
    """Returns a random record of a random class."""
    label = int(rng.integers(3))
    shape = (int(rng.integers(20, 50)), int(rng.integers(20, 50))) + ((3,) if label else ())
    small = Image.fromarray(rng.integers(0, 256, (4, 4, *shape[2:]), dtype=np.uint8))
    kind = "jpeg" if label == 1 else "png"
    encoded = encode(small.resize((shape[1], shape[0])), kind)
    return sharded.record(encoded, label, CLASSES[label], f"{CLASSES[label]}.{kind}")


def shards(folder, counts, seed):
    """Writes shards of so many random records, {split: counts}, and what `tfrecord` says of the data set."""
    rng = np.random.default_rng(seed)
    sharded.write(folder, {split: [[record(rng) for _ in range(n)] for n in some] for split, some in counts.items()})
    artifacts.write_json(folder / "dataset.json", DATASET)
    return folder


def plan(batch_size):
    return Plan(SIZE_PX, batch_size, flip=False, precision="float32")


def options(batch_size, **changes):
    """Section `extract` with what most tests have in common."""
    common = {"input_size_px": SIZE_PX, "batch_size": batch_size, "calibration_images": 4}
    return dataclasses.replace(DEFAULTS, **common | changes)
