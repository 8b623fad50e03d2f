"""Training shared out between devices: two logical CPUs stand for two GPUs, in a process of their own."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, write_images

TWO_DEVICES = """
from stages.library.common import tensorflow_runtime
tensorflow_runtime.start()
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tensorflow_runtime.accelerators = lambda: ["CPU:0", "CPU:1"]
assert tensorflow_runtime.strategy().num_replicas_in_sync == 2
"""
TRAIN = "from stages import train_scratch; train_scratch.main()"  # as its command does


# On CPUs with AVX-512, oneDNN's fused convolutions take the input of another layer where two logical CPU devices stand
# for GPUs: "input depth must be evenly divisible by filter depth: 3 vs 32" (TensorFlow 2.21.0).
ENVIRONMENT = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}


def values(path):
    """Every array of a weight file by its path."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(tmp_path, write_params, run_stage):
    images = write_images(tmp_path / "images", per_class=30)
    path = write_params(
        dataset__name="folder",
        dataset__folder=str(images),
        scratch__input_size_px=16,
        scratch__epochs=2,
        scratch__batch_size=16,
        scratch__dropout=0.0,  # each device drops others
        scratch__optimizer="sgd",  # Adam divides by roots of tiny gradients, which amplifies the order of sums
        scratch__learning_rate=0.01,
    )
    shards = tmp_path / "tfrecord"
    run_stage("fetch", "--params", path, "--out", tmp_path / "raw")
    options = ["--params", path, "--raw", tmp_path / "raw", "--out", shards, "--examples", tmp_path / "examples.png"]
    run_stage("tfrecord", *options)
    for devices in ("1", "2"):
        out = tmp_path / f"scratch-{devices}"
        options = ["--params", path, "--records", shards, "--tensorboard", tmp_path / "tensorboard", "--out", out]
        code = (TWO_DEVICES if devices == "2" else "") + TRAIN
        subprocess.run([sys.executable, "-c", code, *map(str, options)], cwd=ROOT, env=ENVIRONMENT, check=True)
    one, two = (values(tmp_path / f"scratch-{devices}" / "last.weights.h5") for devices in ("1", "2"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    curves = [pd.read_csv(tmp_path / f"scratch-{devices}" / "curve.csv") for devices in ("1", "2")]
    np.testing.assert_allclose(curves[0]["loss"], curves[1]["loss"], rtol=1e-3)


DNN = """
import sys
from dataclasses import replace
import numpy as np
from stages.library.heads.contract import Examples
from stages.library.heads.cross_validation import cross_validate
from stages.plugins.heads.dnn import head as dnn
rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 200)
features = (rng.normal(size=(3, 20))[labels] + rng.normal(size=(200, 20))).astype(np.float16)
# One batch a pass, for Keras starts the generator of batches once more where devices share them.
params = dnn.Params(
    features="bottleneck", hidden_units=(16,), dropout=0.0, learning_rate=0.01, batch_size=100, epochs=20, device="cpu"
)
folds = np.arange(200) % 2
for device in ("cpu", "gpu"):
    examples = Examples(features, labels, 3, folds)
    result = cross_validate(dnn.Trainer(examples, replace(params, device=device), 0))
    np.save(sys.argv[1] + "/" + device, result.logits)
"""


@pytest.mark.slow
def test_the_dnn_learns_on_two_devices_what_it_learns_on_one(tmp_path):
    subprocess.run([sys.executable, "-c", TWO_DEVICES + DNN, tmp_path], cwd=ROOT, check=True)
    one, two = (np.load(tmp_path / f"{device}.npy") for device in ("cpu", "gpu"))
    assert np.ptp(one) > 2
    np.testing.assert_allclose(two, one, atol=0.02)
