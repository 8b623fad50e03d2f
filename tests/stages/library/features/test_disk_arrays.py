"""Arrays on disk, and heads that are the same whether their features lie there or in memory."""

import dataclasses
import os
from pathlib import Path

import contents
import numpy as np
import pytest
from conftest import ROOT

from stages.library.features import disk_arrays
from stages.library.heads import contract as heads
from stages.library.heads.cross_validation import cross_validate
from stages.library.settings import load_params
from stages.plugins.heads.xgboost import column_subsampling
from stages.plugins.heads.xgboost import head as xgboost

NAMES = ["ridge", "logistic", "softmax", "dnn", "xgboost"]


@pytest.fixture
def on_disk(monkeypatch):
    def use():
        monkeypatch.setattr(disk_arrays, "BYTES_IN_MEMORY", 0)
        monkeypatch.setattr(xgboost, "BYTES_IN_MEMORY", 0)
        monkeypatch.setattr(column_subsampling, "BYTES_PER_BLOCK", 1 << 13)

    return use


def files():
    folder = Path(os.environ["DECANT_CACHE"]) / "scratch"
    return list(folder.iterdir()) if folder.exists() else []


def test_a_large_array_is_a_file_without_a_name(on_disk):
    assert type(disk_arrays.empty((1024, 1024), np.float32)) is np.ndarray
    on_disk()
    array = disk_arrays.empty((3, 5), np.float16)
    array[:] = np.arange(15).reshape(3, 5)
    assert isinstance(array, np.memmap)
    assert array[[2, 0], 1].tolist() == [11, 1]
    assert disk_arrays.empty((0, 7), np.float32).shape == (0, 7)
    assert not files()


def trained(name, folder):
    fast = {"epochs": 3, "num_trees": 3, "hidden_units": (16,), "batch_size": 32}
    module = heads.lookup(name)
    default = load_params(ROOT / "params.yaml")[name]
    chosen = dataclasses.replace(default, **{key: value for key, value in fast.items() if hasattr(default, key)})
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    features = (rng.random((200, 40)) ** 3 + np.eye(40)[labels]).astype(np.float16)
    trainer = module.Trainer(heads.Examples(features, labels, 3, np.arange(200) % 4), chosen, 1)
    result = cross_validate(trainer)
    folder.mkdir()
    trainer.fit(result.best_params).save(folder)
    return result.logits, result.curve, contents.of(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_head_is_the_same_bits_wherever_its_arrays_lie(name, tmp_path, on_disk):
    logits, curve, saved = trained(name, tmp_path / "memory")
    on_disk()
    there = trained(name, tmp_path / "disk")
    np.testing.assert_array_equal(there[0], logits)
    assert there[1:] == (curve, saved)
    assert not files()
