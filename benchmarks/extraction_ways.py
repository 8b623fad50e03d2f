"""One way of turning images into features, timed in a process of its own; `benchmarks.extraction` compares them.

Prints the seconds and the number of images as JSON. What is paid once (imports, building and compiling the network)
isn't counted: ours runs on a few images first, and their time is taken off. Those of PEERS need an environment of their
own (benchmarks/requirements-peers.txt).
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import parser, stage

FORWARD_BATCHES = 8  # kept in memory for the raw forward, used over and over
DECODED_AT_ONCE = 16
PEER_BATCH, PEER_WORKERS = 32, 2
Timed = tuple[float, int]  # seconds, images
Features = Callable[[Iterable[Any]], np.ndarray]  # from batches of images as tensors of PyTorch


def main() -> None:
    """Runs one way."""
    options = parser("extraction_ways", __doc__)
    options.add_argument("way", choices=WAYS, metavar="WAY", help=", ".join(WAYS))
    options.add_argument("--work", type=Path, required=True, help="made by benchmarks.extraction")
    options.add_argument("--scratch", type=Path, required=True, help="empty folder")
    options.add_argument("--backbone", required=True, metavar="NAME", help="pretrained network")
    for option in ("--size", "--images"):
        options.add_argument(option, type=int, required=True, metavar="N", help="as in benchmarks.extraction")
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
    return forward_of(arguments.backbone, settings(arguments.work, runtime, precision))(arguments.images)


def forward_of(backbone: str, section: Any, kept: int = FORWARD_BATCHES) -> Callable[[int], Timed]:
    """Builds the network by a section `extract` and warms it up; returns what runs so many images through it."""
    import tensorflow as tf

    from stages.library.common.threads import ahead
    from stages.library.extraction import extraction
    from stages.library.extraction import runtime as runtimes
    from stages.library.extraction.runtime import Plan
    from stages.library.networks.weights import build_with_weights

    module = runtimes.lookup(section.runtime)
    module.prepare(section.precision)
    size_px = section.input_size_px
    model, _, _ = build_with_weights(backbone, size_px, section.weights)
    batch_size = extraction.batch_size(section, size_px)
    rng, shape = np.random.default_rng(0), (batch_size, size_px, size_px, 3)
    batches: list[Any] = [255 * rng.random(shape, np.float32) for _ in range(kept)]
    plan = Plan(size_px, batch_size, section.flip, section.precision)
    compiled = module.compile(model, plan, (batch[:1] for batch in batches))
    if section.runtime == "tensorflow":
        with tf.device(compiled.device):
            batches = [tf.constant(batch) for batch in batches]

    def run(images: int) -> Timed:
        count = -(-images // batch_size)
        start = time.perf_counter()
        for _ in ahead(compiled.forward, itertools.islice(itertools.cycle(batches), count), compiled.callers):
            pass
        return time.perf_counter() - start, count * batch_size

    run(2 * compiled.callers * batch_size)
    return run


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
    run = keras_of(arguments.backbone, settings(arguments.work, "tensorflow"), jit_compile=False)
    return run(arguments.work / "images", arguments.scratch / "features.npy")


def keras_of(backbone: str, section: Any, jit_compile: bool | str) -> Callable[[Path, Path], Timed]:
    """Builds the network and warms it up; returns what takes a folder of images to a file of features."""
    import keras

    from stages.library.networks.weights import build_with_weights

    batch_size, side = section.batch_size or 32, (section.input_size_px, section.input_size_px)
    network, _, _ = build_with_weights(backbone, section.input_size_px, section.weights)
    model = keras.Model(network.inputs, network.outputs[0])
    model.compile(jit_compile=jit_compile)
    model.predict(np.zeros((batch_size, *side, 3), np.float32), verbose=0)

    def run(folder: Path, out: Path) -> Timed:
        start = time.perf_counter()
        options = {"image_size": side, "batch_size": batch_size, "shuffle": False, "verbose": False}
        dataset = keras.utils.image_dataset_from_directory(str(folder), labels=None, **options)
        features = model.predict(dataset, verbose=0)
        np.save(out, features)
        return time.perf_counter() - start, len(features)

    return run


def peer(prepare: Callable[[Any, argparse.Namespace], Features], arguments: argparse.Namespace) -> Timed:
    """From files to features as a user of PyTorch writes it, with random weights, which cost the same."""
    import timm
    import torch
    from torchvision import datasets, transforms

    size = arguments.size
    model = timm.create_model(f"tf_{arguments.backbone}", pretrained=False, num_classes=0).eval()
    steps = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    with torch.inference_mode():
        features_of = prepare(model, arguments)
        features_of([torch.zeros(PEER_BATCH, 3, size, size)])
        start = time.perf_counter()
        files = datasets.ImageFolder(arguments.work / "images", transforms.Compose(steps))
        loader = torch.utils.data.DataLoader(files, batch_size=PEER_BATCH, num_workers=PEER_WORKERS)
        features = features_of(images for images, _ in loader)
        np.save(arguments.scratch / "features.npy", features)
        return time.perf_counter() - start, len(features)


def with_timm(model: Any, arguments: argparse.Namespace) -> Features:
    """PyTorch itself."""
    return lambda batches: np.concatenate([model(images).numpy() for images in batches])


def exported(model: Any, arguments: argparse.Namespace) -> Path:
    """Exports the network to ONNX with batches of any size."""
    import torch

    path: Path = arguments.scratch / "model.onnx"
    batch = torch.export.Dim("batch", min=1, max=4096)
    example = torch.zeros(2, 3, arguments.size, arguments.size)
    torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    return path


def with_onnxruntime(model: Any, arguments: argparse.Namespace) -> Features:
    """ONNX Runtime on the CPU, its defaults."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it reports its use to its makers
    import onnxruntime

    session = onnxruntime.InferenceSession(exported(model, arguments), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batches: np.concatenate([session.run(None, {name: images.numpy()})[0] for images in batches])


def with_openvino(model: Any, arguments: argparse.Namespace) -> Features:
    """OpenVINO on the CPU, in its throughput mode, with a queue of requests."""
    import openvino

    # float32 as the others; its default is bfloat16 on CPUs that have it.
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(openvino.convert_model(exported(model, arguments)), "CPU", options)

    def features(batches: Iterable[Any]) -> np.ndarray:
        found = {}
        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(lambda request, number: found.update({number: request.get_output_tensor(0).data.copy()}))
        for number, images in enumerate(batches):
            queue.start_async([images.numpy()], number)
        queue.wait_all()
        return np.concatenate([found[number] for number in sorted(found)])

    return features


PEERS = {"timm": with_timm, "onnxruntime": with_onnxruntime, "openvino-peer": with_openvino}
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
    **{name: partial(peer, prepare) for name, prepare in PEERS.items()},
}


if __name__ == "__main__":
    main()
