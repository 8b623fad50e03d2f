"""What every head must do."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import contents
import numpy as np
import pytest
from conftest import ROOT

from stages.library.common import class_weights
from stages.library.features import disk_arrays
from stages.library.heads import contract, dense, scaling
from stages.library.heads.folds import NEVER
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax
from stages.library.settings import load_params
from stages.plugins.heads.xgboost import column_subsampling
from stages.plugins.heads.xgboost import head as xgboost
from tests import processes
from tests.stages.plugins.heads.training import cross_validate, fit, problem

QUICK: dict[str, dict[str, Any]] = {
    "ridge": {"penalties": (1.0, 100.0)},
    "logistic": {"penalties": (1.0, 100.0), "tolerance": 1e-8},
    "softmax": {"epochs": 8, "batch_size": 32},
    "dnn": {"hidden_units": (32, 16), "learning_rate": 0.01, "batch_size": 32, "epochs": 5},
    "xgboost": {"num_trees": 12, "learning_rate": 0.3, "colsample_byround": 0.5},
}


def quick(name):
    """Returns the module of a head and hyperparameters that take no time."""
    return contract.lookup(name), replace(load_params(ROOT / "params.yaml")[name], **QUICK[name])


def saved(folder, name):
    module, params = quick(name)
    fit(module, problem(), params, seed=5).save(folder)
    return contents.of(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_cross_validation_is_fitting_without_each_fold(name):
    module, params = quick(name)
    features, labels = problem()
    folds = np.arange(300) % 5 - 1
    result = cross_validate(module, (features, labels), params, folds, classes=6)
    scores = []
    for fold in range(4):
        rest, held_out = folds != fold, folds == fold
        head = fit(module, (features[rest], labels[rest]), params, classes=6, **result.best_params)
        logits = result.logits[held_out]
        np.testing.assert_allclose(softmax(logits), softmax(head.logits(features[held_out])), atol=0.01)
        scores.append(metrics.top1_accuracy(logits, labels[held_out]))
    assert np.isnan(result.logits[folds == NEVER]).all()
    held_out = {at: accuracy for at, series, accuracy, _ in result.curve if series == "held-out"}
    accuracy = held_out[np.log10(result.best_params["penalty"]) if result.best_params else max(held_out)]
    assert accuracy == pytest.approx(np.mean(scores), abs=1e-6)
    assert accuracy > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_loaded_head_gives_the_same_bits_as_another_one_of_the_same_seed(name, tmp_path):
    module, params = quick(name)
    features, labels = problem()
    features[:, 3] = 2
    head, again, other = (fit(module, (features, labels), params, 6, seed, penalty=1.0) for seed in (3, 3, 4))
    logits = head.logits(features)
    assert logits.dtype == np.float32
    assert logits.argmax(axis=1).max() < 4, "classes 4 and 5 have no example"
    head.save(tmp_path)
    for same in (again, module.load(tmp_path, 20, 6)):
        np.testing.assert_array_equal(same.logits(features), logits)
    assert (other.logits(features) == logits).all() == (name in ("ridge", "logistic"))


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_head_is_the_same_bits_wherever_its_arrays_lie(name, tmp_path, monkeypatch):
    def trained(folder):
        module, params = quick(name)
        result = cross_validate(module, problem(), params, np.arange(300) % 4)
        folder.mkdir()
        fit(module, problem(), params, **result.best_params).save(folder)
        return result.logits, result.curve, contents.of(folder)

    logits, *in_memory = trained(tmp_path / "memory")
    for module in (disk_arrays, xgboost):
        monkeypatch.setattr(module, "BYTES_IN_MEMORY", 0)
    monkeypatch.setattr(column_subsampling, "BYTES_PER_BLOCK", 1 << 12)
    logits_there, *on_disk = trained(tmp_path / "disk")
    np.testing.assert_array_equal(logits_there, logits)
    assert on_disk == in_memory
    assert list(Path(os.environ["DECANT_CACHE"]).glob("scratch/*")) == []


@pytest.mark.parametrize(("name", "atol"), [("ridge", 1e-5), ("logistic", 1e-4)])
@pytest.mark.parametrize("kind", ["none", "standardized", "l2"])
def test_a_scaling_is_fitting_on_scaled_features(name, atol, kind):
    module, params = quick(name)
    features, labels = problem(dtype=np.float32)
    features = (features - 3) * np.where(np.arange(20) < 5, 4, 1)
    scaled = np.sign(features) * np.sqrt(np.abs(features))
    if kind == "standardized":
        scaled = scaling.standardization(scaled, np.arange(300), np.ones(300))(scaled)
    elif kind == "l2":
        scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    logits = fit(module, (features, labels), replace(params, scaling=kind, power=0.5), penalty=1.0).logits(features)
    plain = fit(module, (scaled, labels), replace(params, scaling="none", power=1.0), penalty=1.0)
    np.testing.assert_allclose(logits, plain.logits(scaled), atol=atol)


@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_a_row_counts_as_often_as_it_is_heavy(name):
    module, params = quick(name)
    params, often = replace(params, scaling="standardized", penalties=(1.0,)), np.arange(300) % 4 + 1
    features, labels = problem(dtype=np.float32)
    repeated = np.repeat(features, often, axis=0), np.repeat(labels, often)
    heavy = fit(module, (features, labels), params, weights=often.astype(float), penalty=1.0)
    expected = fit(module, repeated, params, penalty=1.0)
    found, wanted = (softmax(head.logits(features)) for head in (heavy, expected))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_balanced_weights_raise_balanced_accuracy(name):
    """Of classes of 400 and of 20 rows, measured on as many of each."""
    module, params = quick(name)
    features, labels = problem(4000, noise=3, classes=2)
    rare = np.flatnonzero(labels == 1)
    train, test = np.concatenate([np.flatnonzero(labels == 0)[:400], rare[:20]]), np.arange(2000, 4000)
    scores = {}
    for setting in ("none", "balanced"):
        weights = class_weights.of_images(setting, labels[train], np.ones(420), ("common", "rare"))
        head = fit(module, (features[train], labels[train]), params, 2, weights=weights, penalty=100.0)
        scores[setting] = metrics.per_class(
            labels[test], head.logits(features[test]).argmax(axis=1), 2
        ).balanced_accuracy
    assert scores["balanced"] > scores["none"] + 0.03


@pytest.mark.parametrize(("name", "file"), [("softmax", dense.WEIGHTS), ("xgboost", xgboost.MODEL)])
def test_a_full_disk_is_an_error_of_the_operating_system(name, file, tmp_path):
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        saved(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dnn", "xgboost"])
def test_another_process_writes_the_same_bytes(name, tmp_path):
    here = saved(tmp_path, name)
    code = (
        "import sys; sys.path.append('tests'); from pathlib import Path;"
        "from tests.stages.plugins.heads.test_heads import saved; print(saved(Path(sys.argv[1]), sys.argv[2]))"
    )
    assert processes.run("python", "-c", code, tmp_path, name).stdout.strip() == str(here)


def test_heads_without_a_network_import_no_tensorflow():
    code = (
        "import sys; from stages.library.heads import contract as heads, trained_head; import stages.train_heads;"
        f"[heads.lookup(name) for name in {list(QUICK)}];"
        "assert not {'tensorflow', 'keras', 'xgboost', 'sklearn'} & set(sys.modules)"
    )
    processes.run("python", "-c", code)
