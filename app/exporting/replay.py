"""Runs an exported folder's own predict.py over images; `check` starts it as a process of its own.

usage: python -m app.exporting.replay FOLDER IMAGES OUT
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from app import exporting


def main() -> None:
    """Writes float32 (ways, images, classes) for the files of IMAGES in the order of their names."""
    folder, images, out = map(Path, sys.argv[1:])
    spec = importlib.util.spec_from_file_location("predict", folder / exporting.PREDICT)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(folder / exporting.PREDICT)
    usage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(usage)
    ways = getattr(usage, "WAYS", (usage.probabilities,))
    paths = sorted(images.iterdir())
    found = np.array([[way(path) for path in paths] for way in ways], np.float32)
    if found.shape[-1] != len(usage.LABELS):
        raise ValueError(f"{len(usage.LABELS)} labels for {found.shape[-1]} probabilities")
    np.save(out, found)


if __name__ == "__main__":
    main()
