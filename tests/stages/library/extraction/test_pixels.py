"""Many records at once have the pixels that each has by itself. A second logical CPU stands for a GPU."""

import sys

import numpy as np
import pytest
import sharded
from PIL import Image

from checks.image_builders import encode
from stages.library.extraction import pixels
from stages.library.records import manifest as manifests
from stages.library.records import preprocessing
from stages.library.records.preprocessing import CPU, Preprocessing
from tests import processes

MIXED = [(20, 30), (50, 60), (20, 30), (32, 32), (1, 1), (300, 33), (33, 20), (32, 31)]  # height, width
SIZES = {"all small": [(20, 30)] * 8, "all large": [(50, 60), (300, 30)] * 4, "mixed": MIXED}
SIZES["small of two sizes"] = [(20, 30), (30, 20)] * 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder of one shard for each of SIZES, PNG and JPEG in turns."""
    rng, folders = np.random.default_rng(0), {}
    for name, sizes in SIZES.items():
        written = []
        for number, (height, width) in enumerate(sizes):
            kind = ("png", "jpeg")[number % 2]
            encoded = encode(Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)), kind)
            written.append(sharded.record(encoded, number % 2, "ab"[number % 2], f"{number}.{kind}"))
        folders[name] = tmp_path_factory.mktemp("shards")
        sharded.write(folders[name], {"train": [written]})
    return folders


@pytest.fixture
def read(shards):
    return lambda name: list(manifests.read(shards[name], ["train"]).serialized(range(8)))


def one_by_one(serialized, preparation):
    return np.stack([preprocessing.parse(record, preparation)["image"] for record in serialized])


BARS = 10.0, 100.0, 200.0
PREPARATIONS = [Preprocessing(32)] + [
    Preprocessing(32, 0.7, how, geometry, BARS)
    for how in ("bilinear", "bicubic", "bilinear_tf1")
    for geometry in ("crop", "squash", "pad")
]


@pytest.mark.parametrize("preparation", PREPARATIONS)
@pytest.mark.parametrize("sizes", SIZES)
def test_on_a_cpu_they_are_those_of_each_record_to_the_bit(read, sizes, preparation):
    found = pixels.on_cpu(preparation)(read(sizes))
    np.testing.assert_array_equal(found, one_by_one(read(sizes), preparation))


@pytest.mark.slow
@pytest.mark.parametrize("crop", [1.0, 0.8])
@pytest.mark.parametrize("geometry", ["crop", "squash", "pad"])
@pytest.mark.parametrize(("resize", "tolerance"), [("bilinear", 0.002), ("bicubic", 0), ("bilinear_tf1", 0)])
def test_on_a_gpu_they_are_those_of_the_cpu(read, resize, tolerance, geometry, crop):
    preparation = Preprocessing(32, crop, resize, geometry, BARS)
    found = pixels.on_gpu(preparation, CPU)(read("mixed"))
    np.testing.assert_allclose(found, one_by_one(read("mixed"), preparation), rtol=0, atol=tolerance)


def test_on_a_gpu_an_image_has_the_same_bits_in_any_company(read):
    serialized, block = read("mixed"), pixels.on_gpu(Preprocessing(32), CPU)
    alone = np.concatenate([block([record]) for record in serialized])
    np.testing.assert_array_equal(block(serialized), alone)
    np.testing.assert_array_equal(block(serialized[::-1]), alone[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 1000, 400])
def test_large_images_are_resized_on_the_cpu_and_the_others_keep_their_bits(read, limit, monkeypatch):
    preparation = Preprocessing(32)
    small = pixels.on_gpu(preparation, CPU)(read("mixed")).numpy()
    monkeypatch.setattr(pixels, "MAX_PIXELS_ON_GPU", limit)
    found = pixels.on_gpu(preparation, CPU)(read("mixed")).numpy()
    large = np.array([height * width > limit for height, width in MIXED])
    assert large.any()
    np.testing.assert_array_equal(found[~large], small[~large])
    np.testing.assert_array_equal(found[large], one_by_one(read("mixed"), preparation)[large])


DEVICES = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stages.library.extraction import batch_slots, pixels
from stages.library.records import manifest as manifests
from stages.library.extraction.worker import Job, Worker
from stages.library.records.preprocessing import Preprocessing
from stages.library.extraction.runtime import Plan
from stages.library.extraction.runtimes import tensorflow as runtime

manifest = manifests.read(Path(sys.argv[1]), ["train"])
with tf.device("CPU:1"):
    on_cpu = pixels.on_cpu(Preprocessing(32))(list(manifest.serialized([0, 1])))
assert on_cpu.device.endswith("CPU:0"), on_cpu.device
seen = []
job = Job("efficientnet_lite0", {}, Preprocessing(32), "tensorflow", Plan(32, 20, False, "float32"), manifest)
schedule = np.array([[0, 1, -1, 2, 3] + [-1] * 15, [-1] * 17 + [4, -1, 5]])
expected = list(Worker(job).features(schedule))
compile = runtime.compile

def on_another(*arguments):
    compiled = compile(*arguments)
    def forward(images):
        seen.append((images.device[-5:], images.shape[0]))
        return compiled.forward(images)
    return replace(compiled, forward=forward, callers=2, device="CPU:1")

runtime.compile = on_another
packed, batch_slots.packed = batch_slots.packed, lambda batches: batches
worker = Worker(job)
seen.clear()  # what the slots are compared by
rows = list(worker.features(schedule))
assert seen == [("CPU:1", 20)] * 2, seen
assert [len(part.keys) for part in rows] == [4, 2]
for name in ("keys", "bottleneck", "logits"):
    ours, theirs = (np.concatenate([getattr(part, name) for part in parts]) for parts in (rows, expected))
    if name == "keys":
        assert (ours == theirs).all()
    else:
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02)
fewer = np.where(schedule == 3, -1, schedule)
(again,) = list(worker.features(fewer[:1]))
assert (again.bottleneck == rows[0].bottleneck[:3]).all()
assert list(worker.features(schedule[:0])) == []
batch_slots.packed = packed
seen.clear()
(full,) = worker.features(schedule)
assert (len(seen), len(full.keys)) == (1, 6)
for name in ("bottleneck", "logits"):
    assert (getattr(full, name) == np.concatenate([getattr(part, name) for part in rows])).all()
worker._any_slot = False
assert [len(part.keys) for part in worker.features(schedule)] == [4, 2]
print("batches of 8:")
Worker(replace(job, plan=replace(job.plan, batch_size=8)))
"""


@pytest.mark.slow
def test_pixels_and_batches_are_where_they_are_needed(shards):
    """In a process of its own, with a second logical CPU as the GPU; the pixels do not come back in between."""
    assert processes.run(sys.executable, "-c", DEVICES, shards["mixed"]).stdout.splitlines() == [
        "batches of 8:",
        "`extract.batch_size` is 8, which suits a CPU; for this GPU set it to 64 or more",
    ]
