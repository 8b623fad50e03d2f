import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages.library.common.console import UserError
from stages.library.scoring import metrics
from stages.plugins.heads.dnn import head as dnn

PARAMS = dnn.Params(
    features="bottleneck", hidden_units=(32, 16), dropout=0.2, learning_rate=0.01, batch_size=32, epochs=5, device="cpu"
)


def problem(n=300, dim=20, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(classes, dim))[labels] + rng.normal(scale=1.0, size=(n, dim)) + 3
    return features.astype(np.float16), labels


def saved(folder, head):
    head.save(folder)
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def test_forward_in_numpy_is_keras_forward(tmp_path):
    import keras

    features, labels = problem()
    head = dnn.fit(features, labels, 3, PARAMS, 0, {})
    head.save(tmp_path)
    tensors = load_file(tmp_path / "weights.safetensors")
    model = keras.Sequential(
        [keras.Input((20,)), *(keras.layers.Dense(units, "relu") for units in (32, 16)), keras.layers.Dense(3)]
    )
    model.set_weights([tensors[f"{kind}_{i}"] for i in range(3) for kind in ("kernel", "bias")])
    expected = model.predict(features.astype(np.float32), verbose=0)
    np.testing.assert_allclose(head.logits(features), expected, atol=1e-4)
    np.testing.assert_array_equal(dnn.load(tmp_path, features.shape[1], 3).logits(features), head.logits(features))


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path):
    features, labels = problem()
    here = saved(tmp_path, dnn.fit(features, labels, 3, PARAMS, 5, {}))
    assert saved(tmp_path, dnn.fit(features, labels, 3, PARAMS, 6, {})) != here
    code = (
        "import sys; from pathlib import Path; from tests.stages.plugins.heads import test_dnn as t;"
        "print(t.saved(Path(sys.argv[1]), t.dnn.fit(*t.problem(), 3, t.PARAMS, 5, {})))"
    )
    there = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == here


def test_cross_validation_learns_and_its_curve_ends_at_the_held_out_scores():
    features, labels = problem()
    folds = np.arange(len(labels)) % 2
    result = dnn.cross_validate(features, labels, 5, folds, PARAMS, 0)
    accuracies = [metrics.top1_accuracy(result.logits[folds == fold], labels[folds == fold]) for fold in range(2)]
    assert [(point.step, point.series) for point in result.curve[:3]] == [
        (1, "training"),
        (1, "held-out"),
        (2, "training"),
    ]
    assert result.curve[-1].accuracy == pytest.approx(np.mean(accuracies), abs=1e-6)
    assert min(accuracies) > 0.9


def test_a_fold_starts_where_every_fold_starts():
    features, labels = problem(n=303)
    folds = np.arange(len(labels)) % 3
    result = dnn.cross_validate(features, labels, 3, folds, PARAMS, 0)
    whole = dnn.fit(features[folds != 1], labels[folds != 1], 3, PARAMS, 0, {})
    np.testing.assert_array_equal(result.logits[folds == 1], whole.logits(features[folds == 1]))
    halves = (folds > 0).astype(
        int
    )  # of 101 and 202 examples, so that the learning rates fall in other numbers of steps
    result, other = (dnn.cross_validate(features, labels, 3, f, PARAMS, 0) for f in (halves, 1 - halves))
    np.testing.assert_array_equal(result.logits, other.logits)


def test_without_hidden_layers_it_is_linear():
    params = dnn.Params(
        features="logits", hidden_units=(), dropout=0.0, learning_rate=0.01, batch_size=32, epochs=1, device="cpu"
    )
    features, labels = problem()
    assert len(dnn.fit(features, labels, 3, params, 0, {}).layers) == 1


def test_without_a_gpu_it_is_rejected():
    features, labels = problem()
    with pytest.raises(UserError, match=r"`dnn.device` must be cpu where TensorFlow sees no GPU. Received: 'gpu'"):
        dnn.fit(features, labels, 3, dataclasses.replace(PARAMS, device="gpu"), 0, {})
