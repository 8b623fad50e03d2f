"""Trained networks (fine-tuned, or from scratch) as they lie on disk, and their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.library import artifacts, backbones, console, finetuning, params, preprocessing, scratch, tensorflow_runtime
from stages.library.console import UserError

if TYPE_CHECKING:
    import keras

PREDICTION_BATCH = 64


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
      kind: "finetuned" or "scratch".
      classes: class names in the order of the logits.
      input_size_px: side of the square input.
      model: float32 pixels in [0, 255], (batch, side, side, 3), to float32 logits (batch, classes).
    """

    kind: str
    classes: tuple[str, ...]
    input_size_px: int
    model: "keras.Model"

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes) for float32 pixels (n, side, side, 3)."""
        return np.asarray(self.model(images, training=False), np.float32)

    def predict_shards(self, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns keys object (n,), labels int64 (n,) and logits float32 (n, classes) of TFRecord shards, in order."""
        import tensorflow as tf

        predict = tf.function(lambda images: self.model(images, training=False), reduce_retracing=True)
        keys, labels, logits = [], [], []
        batches = preprocessing.dataset(list(paths), self.input_size_px, PREDICTION_BATCH)
        for batch in console.progress(batches, "predict", "batches"):
            keys.append(np.array([key.decode() for key in batch["key"].numpy()], object))
            labels.append(batch["label"].numpy().astype(np.int64))
            logits.append(predict(batch["image"]).numpy().astype(np.float32))
        return np.concatenate(keys), np.concatenate(labels), np.concatenate(logits)


def load(folder: Path) -> Network:
    """Rebuilds a network with its best epoch's weights, as finetune and train-scratch describe it in config.json.

    Raises:
      UserError: the folder holds no trained network.
    """
    tensorflow_runtime.start()
    try:
        config = artifacts.read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no trained network ({error}). Run: dvc repro") from error
    classes, size_px = tuple(config["classes"]), config["input_size_px"]
    if config["kind"] == "finetuned":
        backbone = backbones.lookup(config["backbone"])
        model = finetuning.build(backbone.build(size_px), len(classes))
    else:
        model = scratch.build(len(classes), params.parse("scratch", config["scratch"], scratch.Params))
    try:
        model.load_weights(folder / "best.weights.h5")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'best.weights.h5'} can't be read ({error}). Run: dvc repro") from error
    return Network(config["kind"], classes, size_px, model)
