"""Images of classes with findings about them, made by hand, and the page that mends their labels."""

import contextlib

import described
import numpy as np
import sharded

from app.findings import Finding, Images
from app.mending import Ledger
from app.web_mending import Desk
from stages.library.common import artifacts
from stages.library.preparation import corrections
from tests import serving

CLASSES = ["cat", "dog", "<i>emu"]
LABELS = [0, 1, 2] * 20


class Corner:
    """A project's records, corrections without rows, and keys of its images."""

    def __init__(self, root):
        records = root / "data" / "tfrecord"
        pixels = np.random.default_rng(0).integers(0, 256, (len(LABELS), 8, 6, 3), np.uint8)
        found = [sharded.record(pixels[row], label, CLASSES[label], f"{row}.png") for row, label in enumerate(LABELS)]
        self.keys = [record.key for record in found]
        sharded.write(records, {"train": [found[:40]], "validation": [found[40:50]], "test": [found[50:]]})
        artifacts.write_json(records / "dataset.json", described.dataset("noise", CLASSES, per_split=0))
        self.path = root / "data" / "corrections.csv"
        corrections.write(self.path, [])
        self.images = Images(root)
        self.findings = {
            "label_issues": [Finding(key, "the label 1.0%, dog 99.0%", "dog") for key in self.keys[:30]],
            "near_duplicates": [],
            "outliers": [Finding(key, "typicality 0.10 of 1") for key in self.keys[30:33]],
            "mistakes": [Finding(self.keys[0], "taken for dog, 99.0%", "dog")],
        }

    def rows(self):
        return [row[:3] for row in corrections.read(self.path)]

    @contextlib.contextmanager
    def served(self, for_others=False):
        def more(pages):
            return Desk(pages, self.images, self.findings, Ledger(self.path), for_others).routes()

        with serving.serving(more_of=more) as (url, _):
            yield url
