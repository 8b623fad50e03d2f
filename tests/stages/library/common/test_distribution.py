"""Training shared out between devices: two logical CPUs stand for two GPUs, in a process of their own."""

import sys

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import write_images

from tests import processes

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
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(tmp_path, make_records):
    shards = make_records(
        dataset__name="folder",
        dataset__folder=str(write_images(tmp_path / "images", per_class=30)),
        scratch__input_size_px=16,
        scratch__epochs=2,
        scratch__batch_size=16,
        scratch__dropout=0.0,  # each device drops others
        scratch__optimizer="sgd",  # Adam divides by roots of tiny gradients, which amplifies the order of sums
        scratch__learning_rate=0.01,
    )
    weights, losses = [], []
    for devices, code in (("1", TRAIN), ("2", TWO_DEVICES + TRAIN)):
        out = tmp_path / devices
        options = ["--params", tmp_path / "params.yaml", "--records", shards, "--out", out, "--tensorboard", out / "t"]
        processes.run(sys.executable, "-c", code, *options, **ENVIRONMENT)
        with h5py.File(out / "last.weights.h5") as file:
            found: dict[str, h5py.Dataset] = {}
            file.visititems(found.__setitem__)
            weights.append({name: item[()] for name, item in found.items() if isinstance(item, h5py.Dataset)})
        losses.append(pd.read_csv(out / "curve.csv")["loss"])
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


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
    examples = Examples(features, labels, 3, folds, np.ones(200))
    result = cross_validate(dnn.Trainer(examples, replace(params, device=device), 0), "top1_accuracy")
    np.save(sys.argv[1] + "/" + device, result.logits)
"""


@pytest.mark.slow
def test_the_dnn_learns_on_two_devices_what_it_learns_on_one(tmp_path):
    processes.run(sys.executable, "-c", TWO_DEVICES + DNN, tmp_path)
    one, two = (np.load(tmp_path / f"{device}.npy") for device in ("cpu", "gpu"))
    assert np.ptp(one) > 2
    np.testing.assert_allclose(two, one, atol=0.02)
