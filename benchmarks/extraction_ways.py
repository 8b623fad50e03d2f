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
DECODED_AT_ONCE = 16
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


def settings(work: Path, runtime: str, precision: str | None = None) -> Any:
    """Returns section `extract` of the benchmark's params.yaml for a runtime."""
    from stages.library.settings import load_params

    section = load_params(work / "raw.yaml")["extract"]
    return replace(section, runtime=runtime, precision=precision or section.precision)


def ours(runtime: str, precision: str | None, from_files: bool, arguments: argparse.Namespace) -> Timed:
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


def forward(runtime: str, precision: str | None, arguments: argparse.Namespace) -> Timed:
    """The network alone, on random batches in its device's memory, as many calls at once as extraction makes."""
    import tensorflow as tf

    from stages.library.extraction import extraction
    from stages.library.extraction import runtime as runtimes
    from stages.library.extraction.runtime import Plan
    from stages.library.networks.weights import build_with_weights

    section = settings(arguments.work, runtime, precision)
    module = runtimes.lookup(runtime)
    module.prepare(section.precision)
    size_px = section.input_size_px
    model, _, _ = build_with_weights(arguments.backbone, size_px, section.weights)
    batch_size = extraction.batch_size(section, size_px)
    rng, shape = np.random.default_rng(0), (batch_size, size_px, size_px, 3)
    batches: list[Any] = [rng.uniform(0, 255, shape).astype(np.float32) for _ in range(FORWARD_BATCHES)]
    plan = Plan(size_px, batch_size, section.flip, section.precision)
    compiled = module.compile(model, plan, (batch[:1] for batch in batches))
    if runtime == "tensorflow":
        with tf.device(compiled.device):
            batches = [tf.constant(batch) for batch in batches]
    forward_seconds(compiled, batches, 2 * compiled.callers)
    count = -(-arguments.images // batch_size)
    return forward_seconds(compiled, batches, count), count * batch_size


def forward_seconds(compiled: Any, batches: Sequence[Any], count: int) -> float:
    """Runs a compiled network on so many of the batches in turn, as many at once as extraction does."""
    from stages.library.common.threads import ahead

    start = time.perf_counter()
    turns = (batches[number % len(batches)] for number in range(count))
    for _ in ahead(compiled.forward, turns, compiled.callers):
        pass
    return time.perf_counter() - start


def decoding(arguments: argparse.Namespace) -> Timed:
    """The images of the records decoded on all cores, which is work for the CPU in any case."""
    import tensorflow as tf

    from stages.library.common import tensorflow_runtime
    from stages.library.records import manifest as manifests
    from stages.library.records import preprocessing

    tensorflow_runtime.start()
    manifest = manifests.read(arguments.work / "raw-tfrecord")
    records = tf.data.TFRecordDataset([str(path) for path in manifest.paths]).batch(DECODED_AT_ONCE)
    first_values = records.map(
        lambda some: tf.map_fn(lambda one: preprocessing.decode(one)[0, 0, 0], preprocessing.encoded(some), tf.uint8),
        tensorflow_runtime.cores(),
    )
    start = time.perf_counter()
    images = sum(len(values) for values in first_values)
    return time.perf_counter() - start, images


def keras(arguments: argparse.Namespace) -> Timed:
    """Keras' own way, image_dataset_from_directory and predict, with its features saved; batches of 32 by default."""
    import keras

    from stages.library.networks.weights import build_with_weights

    section = settings(arguments.work, "tensorflow")
    batch_size, side = section.batch_size or 32, (section.input_size_px, section.input_size_px)
    network, _, _ = build_with_weights(arguments.backbone, section.input_size_px, section.weights)
    model = keras.Model(network.inputs, network.outputs[0])
    model.compile(jit_compile=False)
    model.predict(np.zeros((batch_size, *side, 3), np.float32), verbose=0)
    start = time.perf_counter()
    dataset = keras.utils.image_dataset_from_directory(
        str(arguments.work / "images"),
        labels=None,
        image_size=side,
        batch_size=batch_size,
        shuffle=False,
        verbose=False,
    )
    features = model.predict(dataset, verbose=0)
    np.save(arguments.scratch / "features.npy", features)
    return time.perf_counter() - start, len(features)


WAYS: dict[str, Callable[[argparse.Namespace], Timed]] = {
    "tensorflow": partial(ours, "tensorflow", None, False),
    "openvino": partial(ours, "openvino", None, False),
    "openvino-int8": partial(ours, "openvino", "int8", False),
    "files-tensorflow": partial(ours, "tensorflow", None, True),
    "files-openvino": partial(ours, "openvino", None, True),
    "raw-tensorflow": partial(forward, "tensorflow", None),
    "raw-openvino": partial(forward, "openvino", None),
    "raw-openvino-int8": partial(forward, "openvino", "int8"),
    "decoding": decoding,
    "keras": keras,
}


if __name__ == "__main__":
    main()
