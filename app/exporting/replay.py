"""Runs an exported folder's own predict.py over images; `check` starts it as a process of its own.

usage: python -m app.exporting.replay FOLDER IMAGES OUT
"""

import runpy
import sys
import types
from pathlib import Path

import numpy as np


def main() -> None:
    """Writes float32 (ways, images, classes) for the files of IMAGES in the order of their names."""
    folder, images, out = map(Path, sys.argv[1:])
    sys.path[0] = str(folder)  # in place of this project, which the folder must not need
    usage = types.SimpleNamespace(**runpy.run_path(str(folder / "predict.py")))
    ways = [usage.probabilities]
    if (folder / "saved_model").exists():
        import tensorflow as tf

        encoded = tf.saved_model.load(str(folder / "saved_model")).signatures["encoded"]

        def of_encoded(path: Path) -> np.ndarray:
            content = tf.constant([usage.normalise(path.read_bytes()).encoded])
            result: np.ndarray = encoded(encoded=content)["probabilities"].numpy()[0]
            return result

        ways.append(of_encoded)
    paths = sorted(images.iterdir())
    found = np.array([[way(path) for path in paths] for way in ways], np.float32)
    if found.shape[-1] != len(usage.LABELS):
        raise ValueError(f"{len(usage.LABELS)} labels for {found.shape[-1]} probabilities")
    np.save(out, found)


if __name__ == "__main__":
    main()
