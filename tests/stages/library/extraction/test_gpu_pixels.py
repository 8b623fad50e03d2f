"""The way of images to a GPU. None is needed: a second logical CPU stands for it, or the first one."""

import io
import subprocess
import sys

import numpy as np
import pytest
import sharded
from conftest import ROOT
from PIL import Image

from stages.library.extraction import gpu_pixels
from stages.library.records import manifest as manifests
from stages.library.records import preprocessing
from stages.library.records.preprocessing import CPU, Preprocessing
from stages.library.records.tfrecord import Record

SIZES = (20, 20), (40, 50), (300, 30), (33, 10), (1, 1), (32, 32)  # height, width


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    rng = np.random.default_rng(0)
    written = []
    for number, size in enumerate(SIZES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "png")
        written.append(
            Record(f"{number:064x}", file.getvalue(), "png", *size, number % 2, "ab"[number % 2], f"{number}.png")
        )
    (path,) = sharded.write(tmp_path_factory.mktemp("shard"), {"train": [written]})
    return path.parent


@pytest.fixture(scope="module")
def serialized(shard):
    return list(manifests.read(shard, ["train"]).serialized(range(len(SIZES))))


def on_the_cpu(serialized, preparation):
    return np.stack([preprocessing.parse(record, preparation)["image"] for record in serialized])


@pytest.mark.slow
@pytest.mark.parametrize("crop", [1.0, 0.8])
@pytest.mark.parametrize(("resize", "tolerance"), [("bilinear", 0.002), ("bicubic", 0), ("bilinear_tf1", 0)])
def test_the_pixels_are_those_of_the_cpu(serialized, resize, tolerance, crop):
    preparation = Preprocessing(32, crop, resize)
    pixels = gpu_pixels.block(preparation, CPU)(serialized)
    np.testing.assert_allclose(pixels, on_the_cpu(serialized, preparation), rtol=0, atol=tolerance)


def test_an_image_has_the_same_bits_in_any_company(serialized):
    block = gpu_pixels.block(Preprocessing(32), CPU)
    alone = np.concatenate([block([record]) for record in serialized])
    np.testing.assert_array_equal(block(serialized), alone)
    np.testing.assert_array_equal(block(serialized[::-1]), alone[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 1000, 400])
def test_large_images_are_resized_on_the_cpu_and_the_others_keep_their_bits(serialized, limit, monkeypatch):
    preparation = Preprocessing(32)
    small = gpu_pixels.block(preparation, CPU)(serialized).numpy()
    monkeypatch.setattr(gpu_pixels, "MAX_PIXELS", limit)
    pixels = gpu_pixels.block(preparation, CPU)(serialized).numpy()
    large = np.array([height * width > limit for height, width in SIZES])
    assert large.any()
    np.testing.assert_array_equal(pixels[~large], small[~large])
    np.testing.assert_array_equal(pixels[large], on_the_cpu(serialized, preparation)[large])


DEVICES = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stages.library.extraction import gpu_pixels
from stages.library.records import manifest as manifests
from stages.library.extraction.worker import Job, Worker
from stages.library.records.preprocessing import Preprocessing
from stages.library.extraction.runtime import Plan
from stages.library.extraction.runtimes import tensorflow as runtime

manifest = manifests.read(Path(sys.argv[1]), ["train"])
seen = []
job = Job("efficientnet_lite0", {}, Preprocessing(32), "tensorflow", Plan(32, 20, False, "float32"), manifest)
schedule = np.array([[0, 1, -1, 2, 3] + [-1] * 15, [-1] * 17 + [4, -1, 5]])
on_cpu = list(Worker(job).features(schedule))
compile = runtime.compile

def on_another(*arguments):
    compiled = compile(*arguments)
    def forward(images):
        seen.append((images.device[-5:], images.shape[0]))
        return compiled.forward(images)
    return replace(compiled, forward=forward, callers=2, device="CPU:1")

runtime.compile = on_another
worker = Worker(job)
pixels = worker._block(list(manifest.serialized([0])))
assert pixels.device.endswith("CPU:1"), pixels.device
rows = list(worker.features(schedule))
assert seen == [("CPU:1", 20)] * 2, seen
assert [len(part.keys) for part in rows] == [4, 2]
for name in ("keys", "bottleneck", "logits"):
    ours, theirs = (np.concatenate([getattr(part, name) for part in parts]) for parts in (rows, on_cpu))
    if name == "keys":
        assert (ours == theirs).all()
    else:
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02)
fewer = np.where(schedule == 3, -1, schedule)
(again,) = list(worker.features(fewer[:1]))
assert (again.bottleneck == rows[0].bottleneck[:3]).all()
assert list(worker.features(schedule[:0])) == []
print("batches of 8:")
Worker(replace(job, plan=replace(job.plan, batch_size=8)))
"""


@pytest.mark.slow
def test_batches_are_put_together_in_the_memory_of_the_gpu(shard):
    """In a process of its own, with a second logical CPU as the GPU; the pixels do not come back in between."""
    done = subprocess.run([sys.executable, "-c", DEVICES, shard], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "batches of 8:",
        "`extract.batch_size` is 8, which suits a CPU; for this GPU set it to 64 or more",
    ]
