"""Small images of three classes as records, JPEG and PNG, colour and grey, and how they are extracted."""

import dataclasses
import hashlib
import io

import described
import numpy as np
from PIL import Image

from stages.library.extraction.extraction import Params
from stages.library.extraction.runtime import Plan
from stages.library.records.tfrecord import Record

CLASSES = ("ant", "bee", "cat")
DATASET = described.dataset("insects", CLASSES)
SIZE_PX = 32


def record(rng):
    """Returns a random record of a random class."""
    label = int(rng.integers(3))
    shape = (int(rng.integers(20, 50)), int(rng.integers(20, 50))) + ((3,) if label else ())
    small = Image.fromarray(rng.integers(0, 256, (4, 4, *shape[2:]), dtype=np.uint8))
    file, kind = io.BytesIO(), "jpeg" if label == 1 else "png"
    small.resize((shape[1], shape[0])).save(file, kind)
    encoded = file.getvalue()
    key = hashlib.sha256(encoded).hexdigest()
    return Record(key, encoded, kind, shape[0], shape[1], label, CLASSES[label], f"{key}.{kind}")


def plan(batch_size):
    return Plan(SIZE_PX, batch_size, flip=False, precision="float32")


def options(batch_size, **changes):
    """Section `extract` with the defaults that most tests have in common."""
    default = Params(
        input_size_px=SIZE_PX,
        central_crop=1.0,
        resize="bilinear",
        flip=False,
        batch_size=batch_size,
        weights={},
        runtime="tensorflow",
        precision="float32",
        calibration_images=4,
        seed=0,
        engine="local",
        ray_actors=None,
        ray_cpus=1,
        ray_gpus=0.0,
    )
    return dataclasses.replace(default, **changes)
