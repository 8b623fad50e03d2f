"""Extraction on a GPU against the raw forward of the same network and against Keras, by precision and batch size.

All in one process, which builds each network once; in each round the raw forward, decoding alone, ours and Keras' run
in turns, and every other round goes backwards. The raw forward takes random batches that lie in the GPU's memory;
decoding alone is what all cores need to decode the JPEG files and nothing else. Ours goes from TFRecords to parts of a
feature store, Keras' from the files to one array by `image_dataset_from_directory` and `predict` with the same model
and batches. Start-up isn't counted; it is shown for itself. Without a GPU it says so and ends: `benchmarks.extraction`
is for CPUs.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import generated
from benchmarks.extraction import BACKBONES, prepare
from benchmarks.extraction_ways import forward_seconds, predict_with_keras, random_batches
from benchmarks.shared import parser, rounds

if TYPE_CHECKING:
    from stages.library.extraction.runtime import Plan
    from stages.library.extraction.worker import Job, Worker

WAYS = ["float32-64", "float32-256", "float16-64", "float16-256"]


def main() -> None:
    """Prints the table."""
    options = parser("gpu", __doc__)
    options.add_argument("--backbone", default="efficientnet_lite0", choices=BACKBONES)
    options.add_argument("--size", type=int, default=224, help="side of the input in pixels", metavar="PX")
    options.add_argument("--images", type=int, default=10_000, metavar="N", help="generated images of photo size")
    options.add_argument("--rounds", type=int, default=5, metavar="N")
    options.add_argument("--ways", nargs="+", default=WAYS, metavar="WAY", help="PRECISION-BATCH")
    options.add_argument("--without-keras", action="store_true")
    arguments = options.parse_args()
    from stages.library.common import tensorflow_runtime

    tensorflow_runtime.start()
    if not tensorflow_runtime.accelerators():
        print("TensorFlow sees no GPU: python -m benchmarks.extraction compares on CPUs")
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["DECANT_CACHE"] = str(work / "cache")
        generated.write_copies(work / "originals", arguments.images)
        photos = {"dataset": None, "folder": work / "originals", "include": ["*"], "batch_size": None}
        count = prepare(work, argparse.Namespace(**vars(arguments), **photos))
        print(f"{count:,} photographs, {arguments.backbone} at {arguments.size} px, {arguments.rounds} rounds")
        print(
            f"{'':16s} start s  GPU MiB  images/s: raw, decoding, ours, Keras    ours/raw   /decoding   /Keras (rounds)"
        )
        for way in arguments.ways:
            precision, batch_size = way.split("-")
            compare(way, work, arguments, precision, int(batch_size))


def compare(way: str, work: Path, arguments: argparse.Namespace, precision: str, batch_size: int) -> None:
    """Prints one row."""
    import tensorflow as tf

    from stages.library.extraction import batch_slots, extraction, feature_parts
    from stages.library.extraction.feature_store import FeatureStore
    from stages.library.extraction.runtime import Plan
    from stages.library.extraction.worker import Job, Worker
    from stages.library.records import manifest as manifests
    from stages.library.records.preprocessing import Preprocessing
    from stages.library.settings import load_params

    section = replace(load_params(work / "raw.yaml")["extract"], precision=precision, batch_size=batch_size)
    manifest = manifests.read(work / "tfrecord")
    schedule = batch_slots.schedule(manifest.keys, batch_size)
    plan = Plan(arguments.size, batch_size, section.flip, precision)
    preparation = Preprocessing(arguments.size, section.central_crop, section.resize)
    job = Job(arguments.backbone, section.weights, preparation, section.runtime, plan, manifest)
    start = time.perf_counter()
    worker = Worker(job)
    first = next(worker.features(schedule[:1]))
    start_seconds = time.perf_counter() - start
    tf.config.experimental.reset_memory_stats("GPU:0")
    widths = first.bottleneck.shape[1], first.logits.shape[1]
    stores = itertools.count()

    def ours() -> tuple[float, int]:
        content = {"way": way, "round": next(stores)}
        store = FeatureStore(work / "stores" / extraction.fingerprint(content), content, *widths)
        start = time.perf_counter()
        images = sum(feature_parts.write(worker.features(schedule), store, "benchmark"))
        return time.perf_counter() - start, images

    raw = raw_forward(worker, plan, len(manifest.keys))
    ways: dict[str, Callable[[], tuple[float, int]]] = {"raw": raw, "decoding": decoding(job), "ours": ours}
    if not arguments.without_keras:
        predict = predict_with_keras(arguments.backbone, section.weights, plan.size_px, work / "images", batch_size)
        ways["keras"] = lambda: predict()[:2]
    done = rounds(ways, arguments.rounds)
    speeds = {name: [images / seconds for seconds, images in results] for name, results in done.items()}
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    medians = " ".join(f"{np.median(values):,.0f}" for values in speeds.values())
    compared = [
        f"{np.median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in ratios)})"
        for name, values in speeds.items()
        if name != "ours"
        for ratios in [np.array(speeds["ours"]) / np.array(values)]
    ]
    print(f"{way:16s} {start_seconds:7.1f} {peak:8.0f}  {medians:30s} {'   '.join(compared)}", flush=True)


def raw_forward(worker: "Worker", plan: "Plan", images: int) -> Callable[[], tuple[float, int]]:
    """The compiled network alone, on random batches in memory, as many calls at once as extraction makes."""
    import tensorflow as tf

    compiled, count = worker._compiled, -(-images // plan.batch_size)
    with tf.device(compiled.device):
        batches = [tf.constant(batch) for batch in random_batches(plan.batch_size, plan.size_px)]
    return lambda: (forward_seconds(compiled, batches, count), count * plan.batch_size)


def decoding(job: "Job") -> Callable[[], tuple[float, int]]:
    """The images decoded on all cores, blocks of them on each: what there is to do on the CPU in any case."""
    import tensorflow as tf

    from stages.library.common import tensorflow_runtime
    from stages.library.common.threads import ahead
    from stages.library.extraction.worker import DECODED_AT_ONCE
    from stages.library.records import preprocessing

    rows = np.array_split(np.arange(len(job.manifest.keys)), max(len(job.manifest.keys) // DECODED_AT_ONCE, 1))

    def first_values(serialized: "tf.Tensor") -> "tf.Tensor":
        def first_value(encoded: "tf.Tensor") -> "tf.Tensor":
            return preprocessing.decode(encoded)[0, 0, 0]

        with tf.device(preprocessing.CPU):
            encoded = preprocessing.encoded(serialized)
            return tf.map_fn(first_value, encoded, fn_output_signature=tf.uint8, parallel_iterations=1)

    decode = tf.function(first_values, autograph=False).get_concrete_function(tf.TensorSpec((None,), tf.string))

    def block(taken: np.ndarray) -> int:
        with tf.device(preprocessing.CPU):
            decode(tf.constant(list(job.manifest.serialized(taken)), tf.string)).numpy()
        return len(taken)

    def run() -> tuple[float, int]:
        start = time.perf_counter()
        images = sum(ahead(block, rows, tensorflow_runtime.cores()))
        return time.perf_counter() - start, images

    return run


if __name__ == "__main__":
    main()
