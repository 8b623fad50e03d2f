"""Names what is in images, as in: python predict.py IMAGE...   README.md says what it needs."""

import functools
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from stages.library.preparation.normalisation import ImageError, normalise

FOLDER = Path(__file__).parent
LABELS = (FOLDER / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]


@functools.cache
def load() -> Callable[[np.ndarray], np.ndarray]:
    """Returns what runs the file beside this one: uint8 pixels (n, height, width, 3) to float32 (n, classes)."""
    if (FOLDER / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(["probabilities"], {"pixels": pixels})[0]
    if (FOLDER / "model.tflite").exists():
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=str(FOLDER / "model.tflite")).get_signature_runner()
        return lambda pixels: runner(pixels=pixels)["probabilities"]
    import tensorflow as tf

    of_pixels = tf.saved_model.load(str(FOLDER / "saved_model")).signatures["serving_default"]
    return lambda pixels: of_pixels(pixels=tf.constant(pixels))["probabilities"].numpy()


def read(path: str | Path) -> np.ndarray:
    """Returns the pixels of an image, upright, uint8 (height, width, 3); ImageError: it can't be used."""
    with Image.open(BytesIO(normalise(Path(path).read_bytes()).encoded), formats=("JPEG", "PNG")) as image:
        return np.asarray(image.convert("RGB"))


def probabilities(path: str | Path) -> np.ndarray:
    """Returns the probabilities of all classes for an image, float32 (classes,); ImageError: it can't be used."""
    result: np.ndarray = load()(read(path)[np.newaxis])[0]
    return result


def printable(text: str) -> str:
    """Returns a text with escapes where it would steer a terminal: names of files and classes are other people's."""
    return text if text.isprintable() else ascii(text)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        try:
            found = probabilities(path)
        except ImageError as error:
            sys.exit(f"{printable(path)}: {error}")
        lines = (f"{found[label]:.4f}  {printable(LABELS[label])}" for label in np.argsort(-found)[:5])
        print(printable(path), *lines, sep="\n  ")
