"""Names what is in images, as in: python predict.py IMAGE...   README.md says what it needs."""

import functools
import json
import os
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from stages.library.preparation.normalisation import ImageError, normalise

FOLDER = Path(__file__).parent
ABOUT = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))
UNLIKE_BELOW = ABOUT["unlike_below"] or 0.0
LABELS = (FOLDER / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]


@functools.cache
def load() -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns what runs the file beside this one: uint8 pixels (n, height, width, 3) to its outputs by name."""
    if (FOLDER / "model.onnx").exists():
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it reports its use to its makers, unasked
        import onnxruntime

        session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))
    if (FOLDER / "model.tflite").exists():
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=str(FOLDER / "model.tflite")).get_signature_runner()
        return lambda pixels: runner(pixels=pixels)
    import tensorflow as tf

    of_pixels = tf.saved_model.load(str(FOLDER / "saved_model")).signatures["serving_default"]
    return lambda pixels: {name: found.numpy() for name, found in of_pixels(pixels=tf.constant(pixels)).items()}


def read(path: str | Path) -> np.ndarray:
    """Returns the pixels of an image, upright, uint8 (height, width, 3); ImageError: it can't be used."""
    with Image.open(BytesIO(normalise(Path(path).read_bytes()).encoded), formats=("JPEG", "PNG")) as image:
        return np.asarray(image.convert("RGB"))


def probabilities(path: str | Path) -> np.ndarray:
    """Returns the probabilities of all classes for an image, float32 (classes,); ImageError: it can't be used."""
    return answer(path)[0]


def answer(path: str | Path) -> tuple[np.ndarray, float | None]:
    """Returns the probabilities, and the share of known images that lie farther out, or None for a model without any.

    Below `UNLIKE_BELOW` the image is unlike the training images.
    """
    found = load()(read(path)[np.newaxis])
    return found["probabilities"][0], float(found["farther_out"][0]) if "farther_out" in found else None


def not_sure(found: np.ndarray) -> list[str] | None:
    """Returns the classes that an image may be where the model is not sure enough of its probabilities, or None."""
    point = ABOUT["operating"]
    if point is None or (point["confidence"] is not None and found.max() >= np.float32(point["confidence"])):
        return None
    return [LABELS[label] for label in np.argsort(-found) if found[label] >= np.float32(point["in_set"])]


def printable(text: str) -> str:
    """Returns a text with escapes where it would steer a terminal: names of files and classes are other people's."""
    return text if text.isprintable() else ascii(text)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python predict.py IMAGE...")
    status = 0
    for path in sys.argv[1:]:
        try:
            found, share = answer(path)
        except (ImageError, OSError) as error:
            status = 1
            print(printable(path), printable(str(getattr(error, "strerror", None) or error)), sep=": ", file=sys.stderr)
            continue
        lines = (f"{found[label]:.4f}  {printable(LABELS[label])}" for label in np.argsort(-found)[:5])
        said = []
        if share is not None and share < UNLIKE_BELOW:
            said = [f"unlike the training images: {share:.1%} of known images lie farther out"]
        if (inside := not_sure(found)) is not None:
            said.append(f"not sure: {', '.join(map(printable, inside)) or 'none of the classes'}")
        print(printable(path), *said, *lines, sep="\n  ")
    sys.exit(status)
