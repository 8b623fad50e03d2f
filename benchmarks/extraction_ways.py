"""One way of turning images into features, timed in a process of its own; `benchmarks.extraction` compares them.

Prints the seconds and the number of images as JSON. What is paid once (imports, building and compiling the network)
isn't counted: ours runs on a few images first, and their time is taken off.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import parser, stage

FORWARD_BATCHES = 8  # kept in memory for the raw forward, used over and over
Timed = tuple[float, int]  # seconds, images


def main() -> None:
    """Runs one way."""
    options = parser("extraction_ways", __doc__)
    options.add_argument("way", choices=WAYS, metavar="WAY")
    options.add_argument("--work", type=Path, required=True, help="made by benchmarks.extraction")
    options.add_argument("--scratch", type=Path, required=True, help="empty folder")
    options.add_argument("--backbone", required=True)
    options.add_argument("--images", type=int, required=True)
    arguments = options.parse_args()
    seconds, images = WAYS[arguments.way](arguments)
    print(json.dumps({"seconds": seconds, "images": images}))


def settings(work: Path, runtime: str, precision: str) -> Any:
    """Returns section `extract` of the benchmark's params.yaml for a runtime."""
    from stages.library.settings import load_params

    return replace(load_params(work / "raw.yaml")["extract"], runtime=runtime, precision=precision)


def ours(runtime: str, precision: str, from_files: bool, arguments: argparse.Namespace) -> Timed:
    """Our extraction from TFRecords or, with `from_files`, from the files that they are made of."""
    from stages import tfrecord
    from stages.library.extraction import extraction
    from stages.library.records import dataset_file

    work, section = arguments.work, settings(arguments.work, runtime, precision)

    def once(raw: str, name: str) -> Timed:
        out, shards = arguments.scratch / name, work / f"{raw}-tfrecord"
        out.mkdir()
        os.environ["DECANT_CACHE"] = str(out / "cache")
        start = time.perf_counter()
        if from_files:
            shards = out / "tfrecord"
            paths = {"params": work / f"{raw}.yaml", "raw": work / raw, "out": shards, "examples": out / "examples.png"}
            sys.argv = stage("tfrecord", **paths)[2:]
            with contextlib.redirect_stdout(sys.stderr):
                tfrecord.main()
        dataset = dataset_file.read(shards / "dataset.json")
        done = extraction.extract(arguments.backbone, section, shards, dataset, out)
        return time.perf_counter() - start, done.computed

    once("few", "imports")
    few_seconds, few = once("few", "few")
    seconds, images = once("raw", "all")
    return seconds - few_seconds, images - few


def forward(runtime: str, precision: str, arguments: argparse.Namespace) -> Timed:
    """The network alone, on random batches in memory, as many calls at once as extraction makes."""
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


def with_keras(backbone: str, section: Any, folder: Path, batch_size: int = 32) -> Callable[[Path], Timed]:
    """Returns Keras' own way, image_dataset_from_directory and predict, with its features saved to a file."""
    import keras

    from stages.library.networks.weights import build_with_weights

    network, _, _ = build_with_weights(backbone, section.input_size_px, section.weights)
    model = keras.Model(network.inputs, network.outputs[0])
    model.compile(jit_compile=False)
    side = section.input_size_px, section.input_size_px
    model.predict(np.zeros((batch_size, *side, 3), np.float32), verbose=0)

    def run(out: Path) -> Timed:
        start = time.perf_counter()
        dataset = keras.utils.image_dataset_from_directory(
            str(folder), labels=None, image_size=side, batch_size=batch_size, shuffle=False, verbose=False
        )
        features = model.predict(dataset, verbose=0)
        np.save(out, features)
        return time.perf_counter() - start, len(features)

    return run


def keras_way(arguments: argparse.Namespace) -> Timed:
    """Keras' own way, in batches of 32 as is its default."""
    section = settings(arguments.work, "tensorflow", "float32")
    return with_keras(arguments.backbone, section, arguments.work / "images")(arguments.scratch / "features.npy")


WAYS: dict[str, Callable[[argparse.Namespace], Timed]] = {
    "tensorflow": partial(ours, "tensorflow", "float32", False),
    "openvino": partial(ours, "openvino", "float32", False),
    "openvino-int8": partial(ours, "openvino", "int8", False),
    "files-tensorflow": partial(ours, "tensorflow", "float32", True),
    "files-openvino": partial(ours, "openvino", "float32", True),
    "raw-tensorflow": partial(forward, "tensorflow", "float32"),
    "raw-openvino": partial(forward, "openvino", "float32"),
    "raw-openvino-int8": partial(forward, "openvino", "int8"),
    "keras": keras_way,
}


if __name__ == "__main__":
    main()
