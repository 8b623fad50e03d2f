"""One way of turning images into features, timed in a process of its own; `benchmarks.extraction` compares them.

Prints the seconds and the number of images as JSON. What is paid once (imports, building and compiling the network,
the first batches) isn't counted: ours runs on a few images first, and is then timed but for its start.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.shared import parser

FORWARD_BATCHES = 8  # kept in memory for the raw forward, used over and over


def main() -> None:
    """Runs one way."""
    options = parser("extraction_ways", __doc__)
    options.add_argument("way", choices=WAYS, metavar="WAY")
    options.add_argument("--work", type=Path, required=True, help="made by benchmarks.extraction")
    options.add_argument("--scratch", type=Path, required=True, help="empty folder")
    options.add_argument("--backbone", required=True)
    options.add_argument("--images", type=int, required=True)
    arguments = options.parse_args()
    os.environ["DECANT_CACHE"] = str(arguments.scratch / "cache")
    seconds, images = WAYS[arguments.way](arguments)
    print(json.dumps({"seconds": seconds, "images": images}))


def settings(work: Path, runtime: str, precision: str) -> Any:
    """Returns section `extract` of the benchmark's params.yaml for a runtime."""
    from stages.library.settings import load_params

    return replace(load_params(work / "raw.yaml")["extract"], runtime=runtime, precision=precision)


def extraction_of(runtime: str, precision: str = "float32", from_files: bool = False) -> Callable[..., Any]:
    """Our extraction from TFRecords or, with `from_files`, from the files that they are made of."""

    def run(arguments: argparse.Namespace) -> tuple[float, int]:
        from stages import tfrecord
        from stages.library.extraction import extraction
        from stages.library.records import dataset_file

        section = settings(arguments.work, runtime, precision)

        def extract(shards: Path, name: str) -> tuple[float, int]:
            out = arguments.scratch / name
            out.mkdir()
            start = time.perf_counter()
            dataset = dataset_file.read(shards / "dataset.json")
            done = extraction.extract(arguments.backbone, section, shards, dataset, out)
            return time.perf_counter() - start, done.computed

        def make_records(raw: str, name: str) -> tuple[Path, float]:
            shards = arguments.scratch / name
            options = {"--params": arguments.work / f"{raw}.yaml", "--raw": arguments.work / raw, "--out": shards}
            options["--examples"] = arguments.scratch / "examples.png"
            sys.argv = ["stages.tfrecord", *(str(word) for option in options.items() for word in option)]
            start = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):
                tfrecord.main()
            return shards, time.perf_counter() - start

        extract(arguments.work / "few", "few")  # pays the imports
        os.environ["DECANT_CACHE"] = str(arguments.scratch / "other")
        shards, seconds = arguments.work / "tfrecord", 0.0
        if from_files:
            make_records("few-raw", "few-tfrecord")
            shards, seconds = make_records("raw", "tfrecord")
        with start_timed() as start_of_network:
            all_seconds, images = extract(shards, "out")
        return seconds + all_seconds - start_of_network.seconds, images - start_of_network.images

    return run


@dataclass
class Start:
    """What the start of an extraction took, and the images that were done when the first of them came out."""

    seconds: float = 0.0
    images: int = 0


@contextlib.contextmanager
def start_timed() -> Iterator[Start]:
    """Times how long it takes to build and compile the network and to get its first features."""
    from stages.library.common import tensorflow_runtime
    from stages.library.extraction.worker import Worker

    start = Start()
    begins, computes = Worker.__init__, Worker.features

    def begin(self: Any, job: Any) -> None:
        began = time.perf_counter()
        begins(self, job)
        start.seconds += time.perf_counter() - began

    def compute(self: Any, batches: np.ndarray) -> Iterator[Any]:
        began = time.perf_counter()
        rows = computes(self, batches)
        first = next(rows)
        start.seconds += time.perf_counter() - began
        start.images += len(first.keys) * tensorflow_runtime.cores()  # as far have the others come
        yield first
        yield from rows

    with mock.patch.object(Worker, "__init__", begin), mock.patch.object(Worker, "features", compute):
        yield start


def forward_of(runtime: str, precision: str = "float32") -> Callable[..., Any]:
    """The network alone, on random batches in memory, as many calls at once as extraction makes."""

    def run(arguments: argparse.Namespace) -> tuple[float, int]:
        from stages.library.extraction import extraction
        from stages.library.extraction import runtime as runtimes
        from stages.library.extraction.runtime import Plan
        from stages.library.networks.weights import build_with_weights

        section = settings(arguments.work, runtime, precision)
        module = runtimes.lookup(runtime)
        module.prepare(precision)
        size_px = section.input_size_px
        model, _, _ = build_with_weights(arguments.backbone, size_px, section.weights)
        batch_size = extraction.batch_size(section, size_px)
        batches = random_batches(batch_size, size_px)
        plan = Plan(size_px, batch_size, section.flip, precision)
        compiled = module.compile(model, plan, (batch[:1] for batch in batches))
        forward_seconds(compiled, batches, 2 * compiled.callers)
        count = -(-arguments.images // batch_size)
        return forward_seconds(compiled, batches, count), count * batch_size

    return run


def random_batches(batch_size: int, size_px: int) -> list[np.ndarray]:
    """Returns random images in float32."""
    rng, shape = np.random.default_rng(0), (batch_size, size_px, size_px, 3)
    return [rng.uniform(0, 255, shape).astype(np.float32) for _ in range(FORWARD_BATCHES)]


def forward_seconds(compiled: Any, batches: Sequence[Any], count: int) -> float:
    """Runs a compiled network on so many of the batches in turn, as many at once as extraction does."""
    from stages.library.common.threads import ahead

    start = time.perf_counter()
    turns = (batches[number % len(batches)] for number in range(count))
    for _ in ahead(compiled.forward, turns, compiled.callers):
        pass
    return time.perf_counter() - start


def predict_with_keras(
    backbone: str, weights: Any, size_px: int, folder: Path, batch_size: int = 32
) -> Callable[[], tuple[float, int, np.ndarray]]:
    """Returns Keras' own way, image_dataset_from_directory and predict: seconds, number of images and features."""
    import keras

    from stages.library.networks.weights import build_with_weights

    network, _, _ = build_with_weights(backbone, size_px, weights)
    model = keras.Model(network.inputs, network.outputs[0])
    model.compile(jit_compile=False)
    side = size_px, size_px
    model.predict(np.zeros((batch_size, *side, 3), np.float32), verbose=0)

    def run() -> tuple[float, int, np.ndarray]:
        start = time.perf_counter()
        dataset = keras.utils.image_dataset_from_directory(
            str(folder), labels=None, image_size=side, batch_size=batch_size, shuffle=False, verbose=False
        )
        features = model.predict(dataset, verbose=0)
        return time.perf_counter() - start, len(features), features

    return run


def keras_predict(arguments: argparse.Namespace) -> tuple[float, int]:
    """Keras' own way, in batches of 32 as is its default, with its features saved."""
    section = settings(arguments.work, "tensorflow", "float32")
    predict = predict_with_keras(arguments.backbone, section.weights, section.input_size_px, arguments.work / "images")
    seconds, images, features = predict()
    start = time.perf_counter()
    np.save(arguments.scratch / "features.npy", features)
    return seconds + time.perf_counter() - start, images


WAYS: dict[str, Callable[[argparse.Namespace], tuple[float, int]]] = {
    "tensorflow": extraction_of("tensorflow"),
    "openvino": extraction_of("openvino"),
    "openvino-int8": extraction_of("openvino", "int8"),
    "files-tensorflow": extraction_of("tensorflow", from_files=True),
    "files-openvino": extraction_of("openvino", from_files=True),
    "raw-tensorflow": forward_of("tensorflow"),
    "raw-openvino": forward_of("openvino"),
    "raw-openvino-int8": forward_of("openvino", "int8"),
    "keras": keras_predict,
}


if __name__ == "__main__":
    main()
