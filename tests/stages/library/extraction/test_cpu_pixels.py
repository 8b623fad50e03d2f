"""Blocks of images have the pixels that each of them has by itself, bit for bit."""

import io
import subprocess
import sys

import numpy as np
import pytest
import sharded
from conftest import ROOT
from PIL import Image

from stages.library.extraction import cpu_pixels
from stages.library.records import manifest as manifests
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import Record

SMALL, LARGE = [(20, 30)] * 8, [(50, 60), (300, 30)] * 4
MIXED = [(20, 30), (50, 60), (20, 30), (32, 32), (1, 1), (300, 33), (33, 20), (32, 31)]  # height, width
SIZES = {"all small": SMALL, "all large": LARGE, "mixed": MIXED, "small of two sizes": [*SMALL[:4], *[(30, 20)] * 4]}


def shard(folder, sizes):
    rng = np.random.default_rng(0)
    written = []
    for number, (height, width) in enumerate(sizes):
        file = io.BytesIO()
        kind = ("png", "jpeg")[number % 2]
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, kind)
        about = number % 2, "ab"[number % 2], f"{number}.{kind}"
        written.append(Record(f"{number:064x}", file.getvalue(), kind, height, width, *about))
    sharded.write(folder, {"train": [written]})
    return folder


def read(folder, count):
    return np.array(list(manifests.read(folder, ["train"]).serialized(range(count))), object)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("sizes", SIZES)
def test_batches_have_the_pixels_of_each_record(sizes, batch_size, tmp_path):
    serialized = read(shard(tmp_path, SIZES[sizes]), 8)
    batches = cpu_pixels.block(Preprocessing(32))(serialized.reshape(-1, batch_size))
    assert [batch.shape for batch in batches] == [(batch_size, 32, 32, 3)] * (8 // batch_size)
    single = np.stack([preprocessing.parse(record, Preprocessing(32))["image"] for record in serialized])
    np.testing.assert_array_equal(np.concatenate(batches), single)


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "bilinear_tf1"])
@pytest.mark.parametrize("sizes", SIZES)
def test_so_they_have_cropped_and_with_every_way_of_resizing(sizes, resize, tmp_path):
    serialized = read(shard(tmp_path, SIZES[sizes]), 8)
    preparation = Preprocessing(32, 0.7, resize)
    (pixels,) = cpu_pixels.block(preparation)(serialized[None])
    single = np.stack([preprocessing.parse(record, preparation)["image"] for record in serialized])
    np.testing.assert_array_equal(pixels, single)


def test_pixels_are_prepared_on_the_cpu_whatever_the_network_runs_on(tmp_path):
    """Two logical CPUs, for a second one stands for a GPU, in a process of their own."""
    code = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from stages.library.extraction import cpu_pixels
from stages.library.records import manifest as manifests
from stages.library.records.preprocessing import Preprocessing

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
manifest = manifests.read(Path(sys.argv[1]), ["train"])
with tf.device("CPU:1"):
    serialized = np.array([list(manifest.serialized([0, 1]))], object)
    (pixels,) = cpu_pixels.block(Preprocessing(32, 1.0, "bilinear"))(serialized)
print(pixels.device)
"""
    command = [sys.executable, "-c", code, str(shard(tmp_path, SMALL))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("device:CPU:0")
