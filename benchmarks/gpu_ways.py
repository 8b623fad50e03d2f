"""Some ways of `benchmarks.gpu` in a process of their own: ours and what bounds it, or Keras' alone.

Builds and compiles the network once, and says so; then runs a way on a set of images whenever it reads a line with both
names, and prints the seconds and the number of images. Keras' process has none of our settings of TensorFlow.
"""

import argparse
import copy
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.extraction_ways import Timed, decoding, forward_of, keras_of
from benchmarks.shared import parser

KEPT = 2  # batches of the raw forward, which are large


def main() -> None:
    """Runs what it is asked for."""
    options = parser("gpu_ways", __doc__)
    options.add_argument("whose", choices=["ours", "keras"], metavar="WHOSE", help="ours or keras")
    options.add_argument("backbone", metavar="NAME", help="pretrained network")
    options.add_argument("precision", metavar="TYPE", help="float32 or float16")
    options.add_argument("batch_sizes", type=int, nargs="+", metavar="N", help="first that of extraction and Keras")
    options.add_argument("--work", type=Path, required=True, metavar="DIR", help="made by benchmarks.gpu")
    arguments = options.parse_args()
    from stages.library.settings import load_params

    section = load_params(arguments.work / f"{arguments.backbone}.yaml")["extract"]
    section = replace(section, precision=arguments.precision, batch_size=arguments.batch_sizes[0])
    made = {"ours": ours, "keras": by_keras}[arguments.whose](arguments, section)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    print(json.dumps({"ways": list(made), "gpus": names}), flush=True)
    for line in sys.stdin:
        way, name = line.rstrip("\n").split("\t")
        seconds, images = made[way](arguments.work / name)
        print(json.dumps({"seconds": seconds, "images": images}), flush=True)


def ours(arguments: argparse.Namespace, section: Any) -> dict[str, Callable[[Path], Timed]]:
    """Our extraction, the raw forward by batch size, and decoding on all cores."""
    from stages.library.records import manifest as manifests

    def alone(forward: Callable[[int], Timed], work: Path) -> Timed:
        return forward(len(manifests.read(work / "raw-tfrecord").keys))

    made = {"extraction": extracting(arguments, section)}
    for size in arguments.batch_sizes:
        forward = forward_of(arguments.backbone, replace(section, batch_size=size), KEPT)
        made[f"raw, batches of {size}"] = partial(alone, forward)
    return made | {"decoding": lambda work: decoding(argparse.Namespace(work=work))}


def extracting(arguments: argparse.Namespace, section: Any) -> Callable[[Path], Timed]:
    """Our extraction, from TFRecords to features on disk, with an empty feature store; the network is built once."""
    from stages.library.extraction import extraction, worker
    from stages.library.records import dataset_file

    first: list[worker.Worker] = []

    def kept(job: worker.Job) -> worker.Worker:
        first[:] = first or [worker.Worker(job)]
        again = copy.copy(first[0])
        again._job = job
        return again

    def run(work: Path) -> Timed:
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        os.environ["DECANT_CACHE"] = str(out / "cache")
        dataset = dataset_file.read(work / "raw-tfrecord" / "dataset.json")
        with mock.patch.object(extraction, "Worker", kept):
            start = time.perf_counter()
            done = extraction.extract(arguments.backbone, section, work / "raw-tfrecord", dataset, out)
            return time.perf_counter() - start, done.computed

    return run


def by_keras(arguments: argparse.Namespace, section: Any) -> dict[str, Callable[[Path], Timed]]:
    """Keras' own way with its defaults, XLA among them, in the same precision."""
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    import keras

    keras.mixed_precision.set_global_policy("mixed_float16" if arguments.precision == "float16" else "float32")
    run = keras_of(arguments.backbone, section, jit_compile="auto")
    return {"keras": lambda work: run(work / "images", work / "keras.npy")}


if __name__ == "__main__":
    main()
