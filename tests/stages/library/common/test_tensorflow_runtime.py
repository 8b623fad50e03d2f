"""How TensorFlow is started."""

import importlib
import json
import sys
import threading
from unittest import mock

import pytest

from stages.library.common import tensorflow_runtime
from tests import processes


def test_the_memory_of_each_gpu_is_taken_as_it_is_needed(monkeypatch):
    tensorflow_runtime.start()
    import tensorflow as tf

    too_late = RuntimeError("Physical devices cannot be modified after being initialized")
    grow = mock.Mock(side_effect=[None, None, too_late])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0", f"{kind}:1"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    for _ in range(2):
        tensorflow_runtime.start()
    assert grow.call_args_list == [mock.call("GPU:0", True), mock.call("GPU:1", True), mock.call("GPU:0", True)]


def test_what_is_imported_stays_and_what_is_not_is_hidden_while_no_thread_can_see_it(monkeypatch):
    for threads, hides in ((1, True), (2, False)):
        monkeypatch.setattr(threading, "active_count", lambda count=threads: count)
        sys.modules.pop("wave", None)
        with tensorflow_runtime._hidden(["json", "wave"]):
            assert sys.modules["json"] is json
            assert (sys.modules.get("wave", "absent") is None) == hides
        assert importlib.import_module("wave").open


# What Keras can do without is not imported by it, and can be later; networks are trained one after the other.
QUIET = """
import sys
from dataclasses import replace
from pathlib import Path
from stages.library.common import tensorflow_runtime
tensorflow_runtime.start()
assert not set(tensorflow_runtime.UNUSED_BY_KERAS) & set(sys.modules)
import matplotlib.pyplot, pandas, scipy.stats, sklearn.linear_model
import numpy as np
from stages.library.heads.contract import Examples
from stages.library.settings import load_params
from stages.plugins.heads.dnn import head as dnn
rng = np.random.default_rng(0)
labels = np.arange(64) % 2
examples = Examples(rng.normal(size=(64, 8)).astype(np.float32), labels, 2, labels, np.ones(64))
settings = replace(load_params(Path("params.yaml"))["dnn"], hidden_units=(4,), epochs=1, batch_size=32)
for fold in range(6):
    dnn.Trainer(examples, settings, 0).fit({})
"""


@pytest.mark.slow
def test_nothing_superfluous_is_imported_and_nothing_chatters():
    done = processes.run(sys.executable, "-c", QUIET)
    assert (done.stdout, done.stderr) == ("", "")
