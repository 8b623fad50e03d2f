"""Names what is in images, as in: python predict.py IMAGE...   Needs: pip install pillow, and what the README says."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# No others, as files may come from anywhere: some of Pillow's readers start programs, and icons are decoded unasked.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
MAX_PIXELS = 100_000_000

FOLDER = Path(__file__).parent
LABELS = (FOLDER / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]


def load() -> Callable[[np.ndarray], np.ndarray]:
    """Returns what runs the file beside this one: uint8 pixels (n, height, width, 3) to float32 (n, classes)."""
    if (FOLDER / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(["probabilities"], {"pixels": pixels})[0]
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(FOLDER / "model.tflite")).get_signature_runner()
    return lambda pixels: runner(pixels=pixels)["probabilities"]


RUN = load()


def probabilities(path: str | Path) -> np.ndarray:
    """Returns the probabilities of all classes for an image, float32 (classes,)."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{path}: more than {MAX_PIXELS:,} pixels: {image.width} x {image.height}")
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))  # uint8 (height, width, 3), upright
    result: np.ndarray = RUN(pixels[np.newaxis])[0]
    return result


def printable(text: str) -> str:
    """Returns a text with escapes where it would steer a terminal: names of files and classes are other people's."""
    return text if text.isprintable() else ascii(text)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        found = probabilities(path)
        lines = (f"{found[label]:.4f}  {printable(LABELS[label])}" for label in np.argsort(-found)[:5])
        print(printable(path), *lines, sep="\n  ")
