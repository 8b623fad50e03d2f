"""Extraction on a GPU against the raw forward of the same network and against Keras, by precision and batch size.

All in one process, which builds each network once, by rounds that alternate. The raw forward takes random batches in
the GPU's memory; decoding alone is what all cores need for the JPEG files. Ours goes from TFRecords to parts of a
feature store, Keras' from files to one array by `image_dataset_from_directory` and `predict` with the same model.
Start-up isn't counted; it is shown for itself. `benchmarks.extraction` is for CPUs.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import generated
from benchmarks.extraction import BACKBONES, prepare
from benchmarks.extraction_ways import Timed, forward_seconds, random_batches, with_keras
from benchmarks.shared import parser, ratio, rounds

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

    from stages.library.extraction import batch_slots, extraction
    from stages.library.extraction.feature_store import FeatureStore
    from stages.library.extraction.runtime import Plan
    from stages.library.extraction.worker import Job, Worker
    from stages.library.records import manifest as manifests
    from stages.library.records.preprocessing import Preprocessing
    from stages.library.settings import load_params

    section = replace(load_params(work / "raw.yaml")["extract"], precision=precision, batch_size=batch_size)
    manifest = manifests.read(work / "raw-tfrecord")
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

    def ours() -> Timed:
        content = {"way": way, "round": next(stores)}
        store = FeatureStore(work / "stores" / extraction.fingerprint(content), content, *widths)
        start = time.perf_counter()
        images = sum(store.add(worker.features(schedule), "benchmark"))
        return time.perf_counter() - start, images

    raw = raw_forward(worker, plan, len(manifest.keys))
    ways: dict[str, Callable[[], Timed]] = {"raw": raw, "decoding": decoding(job), "ours": ours}
    if not arguments.without_keras:
        keras = with_keras(arguments.backbone, section, work / "images", batch_size)
        ways["keras"] = partial(keras, work / "features.npy")
    done = rounds(ways, arguments.rounds)
    speeds = {name: [images / seconds for seconds, images in results] for name, results in done.items()}
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    medians = " ".join(f"{np.median(values):,.0f}" for values in speeds.values())
    compared = "  ".join(ratio(speeds["ours"], values, 0) for name, values in speeds.items() if name != "ours")
    print(f"{way:16s} {start_seconds:7.1f} {peak:8.0f}  {medians:30s} {compared}", flush=True)


def raw_forward(worker: "Worker", plan: "Plan", images: int) -> Callable[[], Timed]:
    """The compiled network alone, on random batches in memory, as many calls at once as extraction makes."""
    import tensorflow as tf

    compiled, count = worker._compiled, -(-images // plan.batch_size)
    with tf.device(compiled.device):
        batches = [tf.constant(batch) for batch in random_batches(plan.batch_size, plan.size_px)]
    return lambda: (forward_seconds(compiled, batches, count), count * plan.batch_size)


def decoding(job: "Job") -> Callable[[], Timed]:
    """The images decoded on all cores, blocks of them on each: what there is to do on the CPU in any case."""
    import tensorflow as tf

    from stages.library.common import tensorflow_runtime
    from stages.library.common.threads import ahead
    from stages.library.extraction.worker import DECODED_AT_ONCE
    from stages.library.records import preprocessing

    count = len(job.manifest.keys)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def decode(serialized: "tf.Tensor") -> "tf.Tensor":
        with tf.device(preprocessing.CPU):
            encoded = preprocessing.encoded(serialized)
            return tf.map_fn(
                lambda one: preprocessing.decode(one)[0, 0, 0],
                encoded,
                fn_output_signature=tf.uint8,
                parallel_iterations=1,
            )

    def block(taken: np.ndarray) -> int:
        decode(tf.constant(list(job.manifest.serialized(taken)), tf.string)).numpy()
        return len(taken)

    def run() -> Timed:
        start = time.perf_counter()
        blocks = np.array_split(np.arange(count), max(count // DECODED_AT_ONCE, 1))
        images = sum(ahead(block, blocks, tensorflow_runtime.cores()))
        return time.perf_counter() - start, images

    return run


if __name__ == "__main__":
    main()
