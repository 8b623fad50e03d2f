"""Small pictures of three classes as records: JPEG and PNG, colour and grey, of several sizes."""

import hashlib
import io

import numpy as np
from PIL import Image

from stages.library.records import Record

CLASSES = ("ant", "bee", "cat")
DATASET = {"name": "insects", "classes": CLASSES}


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
