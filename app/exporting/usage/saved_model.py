"""Names what is in JPEG or PNG images, as in: python predict.py IMAGE...   Needs: pip install tensorflow."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent
LABELS = (FOLDER / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]
SIGNATURES = tf.saved_model.load(str(FOLDER / "saved_model")).signatures


def probabilities(path: str | Path) -> np.ndarray:
    """Returns the probabilities of all classes for a JPEG or PNG file, float32 (classes,)."""
    encoded = tf.io.read_file(str(path))
    result: np.ndarray = SIGNATURES["encoded"](encoded=encoded[tf.newaxis])["probabilities"].numpy()[0]
    return result


def of_pixels(path: str | Path) -> np.ndarray:
    """Returns the same by pixels, uint8 (n, height, width, 3), where they are at hand; the model resizes."""
    pixels = tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3, dct_method="INTEGER_ACCURATE")
    result: np.ndarray = SIGNATURES["serving_default"](pixels=pixels[tf.newaxis])["probabilities"].numpy()[0]
    return result


WAYS = (probabilities, of_pixels)


def printable(text: str) -> str:
    """Returns a text with escapes where it would steer a terminal: names of files and classes are other people's."""
    return text if text.isprintable() else ascii(text)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        found = probabilities(path)
        lines = (f"{found[label]:.4f}  {printable(LABELS[label])}" for label in np.argsort(-found)[:5])
        print(printable(path), *lines, sep="\n  ")
