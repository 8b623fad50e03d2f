"""Names what is in pictures, by the 1,000 classes of ImageNet that a network was trained on.

example: python -m app.predict cat.jpg coffee.png --top 3
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.library import (
    backbones,
    console,
    extraction,
    imagenet,
    params,
    pictures,
    preprocessing,
    runtimes,
    tensorflow_runtime,
)
from stages.library.backbones import Backbone
from stages.library.pictures import PictureError
from stages.library.preprocessing import Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf

Ranking = list[dict[str, str | float]]


@dataclass(frozen=True)
class Labeller:
    """A network and what its outputs mean.

    Attributes:
      classes: names in the order of the outputs.
      preprocessing: how a picture becomes the network's input.
      probabilities: float32 pixels (n, side, side, 3) of [0, 255] to float32 (n, classes).
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    probabilities: Callable[["tf.Tensor"], np.ndarray]

    def top(self, encoded: bytes, count: int) -> Ranking:
        """Returns the most probable classes of a JPEG or PNG: {"class", "probability"}, falling."""
        image = preprocessing.fit(preprocessing.decode(encoded), self.preprocessing)
        probabilities = self.probabilities(image[None])[0]
        order = np.argsort(-probabilities, kind="stable")[:count]
        return [{"class": self.classes[label], "probability": round(float(probabilities[label]), 6)} for label in order]


def main() -> None:
    """Runs the program; exit status 1 where a picture could not be read, 2 where the command line is wrong."""
    arguments = parse_arguments()
    # Before TensorFlow, whose start takes seconds, so that a typing error shows at once.
    extract: extraction.Params = params.load(arguments.params)["extract"]
    readable = list(read(arguments.images))
    if readable:
        labeller = pretrained(arguments.backbone, extract, arguments.size)
        results = ((path, labeller.top(encoded, arguments.top)) for path, encoded in readable)
        (print_json if arguments.json else print_text)(results)
    elif arguments.json:
        print_json(())
    if len(readable) < len(arguments.images):
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    names = params.plugin_names(params.PLUGINS["backbones"])
    parser = argparse.ArgumentParser(
        prog="python -m app.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files of any format")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes a picture (default: 5)")
    parser.add_argument(
        "--backbone",
        default="efficientnet_lite0",
        choices=names,
        metavar="NAME",
        help=f"network (default: efficientnet_lite0): {', '.join(names)}",
    )
    parser.add_argument("--size", type=int, metavar="PX", help="side of the square input (default: the network's own)")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="whose `extract` has weights and crop")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if not 1 <= arguments.top <= imagenet.NUM_CLASSES:
        parser.error(f"--top must be in 1 to {imagenet.NUM_CLASSES}. Received: {arguments.top}")
    backbone: Backbone = backbones.lookup(arguments.backbone).BACKBONE
    arguments.size = backbone.input_size_px if arguments.size is None else arguments.size
    if arguments.size < backbone.min_input_px:
        parser.error(f"--size must be at least {backbone.min_input_px} for {backbone.name}. Received: {arguments.size}")
    return arguments


def read(paths: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Yields the pictures as JPEG or PNG bytes; a file that can't be used becomes a line on stderr."""
    for path in paths:
        try:
            yield path, pictures.normalise(path.read_bytes()).encoded
        except (OSError, PictureError) as error:
            reason = getattr(error, "strerror", None) or error
            print(f"error: {path}: {reason}", file=sys.stderr)


def pretrained(name: str, extract: extraction.Params, size_px: int) -> Labeller:
    """Returns a backbone with its own classifier, fed as in bottleneck-extract.

    Raises:
      UserError: the weight file can't be had, or does not fit.
    """
    tensorflow_runtime.start()
    from stages.library import bottlenecks, weights

    model, _, _ = weights.build_with_weights(name, size_px, extract.weights)

    def probabilities(images: "tf.Tensor") -> np.ndarray:
        _, logits = runtimes.tap(model, images, extract.flip)
        return bottlenecks.softmax(logits.numpy())

    return Labeller(imagenet.class_names(), Preprocessing(size_px, extract.central_crop, extract.resize), probabilities)


def print_text(results: Iterable[tuple[Path, Ranking]]) -> None:
    """Prints a picture's name and its classes below it."""
    for path, classes in results:
        print(path)
        for item in classes:
            print(f"  {item['probability']:.4f}  {item['class']}", flush=True)


def print_json(results: Iterable[tuple[Path, Ranking]]) -> None:
    """Prints a list of {"file", "classes": [{"class", "probability"}]}."""
    print(json.dumps([{"file": str(path), "classes": classes} for path, classes in results], indent=2))


if __name__ == "__main__":
    console.run(main)
