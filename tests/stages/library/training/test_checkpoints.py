"""Checkpoints on a disk that fills up, and when their removal is cut short; test_training.py has how they resume."""

import errno
import shutil

import keras
import pytest

from stages.library.common import artifacts
from stages.library.training.checkpoints import Checkpoints

LOGS = {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}


@pytest.fixture
def model():
    made = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(8) for _ in range(20)), keras.layers.Dense(2)])
    made.compile("adamw", "mse")
    made.optimizer.build(made.trainable_variables)
    return made


@pytest.mark.parametrize(
    ("metric", "log", "sign"),
    [("top1_accuracy", "val_accuracy", 1), ("macro_f1", "val_macro_f1", 1), ("log_loss", "val_log_loss", -1)],
)
def test_the_best_epoch_is_the_best_by_the_metric_and_then_the_surest(tmp_path, metric, log, sign):
    state = Checkpoints(tmp_path, None, None, metric)
    assert state.finished == 0
    for value, loss in (0.5, 1.0), (0.9, 0.5), (0.9, 0.4), (0.8, 0.1):
        state.history.append({"val_accuracy": 0.5, "val_loss": loss, log: sign * value})
    assert (state.best, state.finished) == (2, 3)


def test_a_removal_that_is_cut_short_is_no_trap(model, tmp_path, monkeypatch):
    state, again, new = (Checkpoints(tmp_path / "kept", model, model, "top1_accuracy") for _ in range(3))
    state.save(LOGS)
    state.save(LOGS)
    again.restore()
    assert again.finished == 1
    # A kill after the first file of the tree: what goes first is up to the file system.
    monkeypatch.setattr(shutil, "rmtree", lambda folder, **_: (folder / "last-00001.weights.h5").unlink())
    state.remove()
    new.restore()
    assert new.finished == 0


def test_a_disk_too_small_for_the_weights_is_seen_before_they_are_written(model, tmp_path, monkeypatch):
    asked: list[int] = []
    state = Checkpoints(tmp_path / "kept", model, model, "top1_accuracy")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10_000, 0, 10_000))
        with pytest.raises(OSError, match="No space left") as caught:
            state.save(LOGS)
    assert (caught.value.errno, list((tmp_path / "kept").iterdir())) == (errno.ENOSPC, [])
    # They need no more than is asked for.
    monkeypatch.setattr(artifacts, "require_room", lambda folder, size_bytes: asked.append(size_bytes))
    Checkpoints(tmp_path / "kept", model, model, "top1_accuracy").save(LOGS)
    sizes = [path.stat().st_size for path in (tmp_path / "kept").glob("*.h5")]
    assert len(sizes) == len(asked) == 2
    assert max(sizes) <= min(asked)
