"""Trained networks (fine-tuned, or from scratch) as they lie on disk, and their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.library import artifacts, backbones, console, finetuning, params, preprocessing, scratch, tensorflow_runtime
from stages.library.console import UserError
from stages.library.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

PREDICTION_BATCH = 64


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
      kind: "finetuned" or "scratch".
      classes: class names in the order of the logits.
      preprocessing: how a picture becomes its input.
      model: float32 pixels in [0, 255], (batch, side, side, 3), to float32 logits (batch, classes).
      trained_batch_norm: whether fine-tuning trained its BatchNorm layers.
    """

    kind: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    model: "keras.Model"
    trained_batch_norm: bool = False

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes) for float32 pixels (n, side, side, 3)."""
        return np.asarray(self.model(images, training=False), np.float32)

    def predict_shards(
        self, paths: Sequence[Path], training_mode: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predicts the pictures of TFRecord shards, in order.

        Args:
          paths: the shards.
          training_mode: the published fine-tuning's mistake, to show what it does: dropout works, and every BatchNorm
            layer normalizes by the statistics of the batch, so a prediction depends on the 63 pictures beside it.

        Returns:
          keys object (n,), labels int64 (n,), logits float32 (n, classes).
        """
        import tensorflow as tf

        if training_mode:
            use_batch_statistics(self.model)
        predict = tf.function(lambda images: self.model(images, training=training_mode), reduce_retracing=True)
        keys, labels, logits = [], [], []
        batches = preprocessing.dataset(list(paths), self.preprocessing, PREDICTION_BATCH)
        for batch in console.progress(batches, "predict", "batches"):
            keys.append(np.array([key.decode() for key in batch["key"].numpy()], object))
            labels.append(batch["label"].numpy().astype(np.int64))
            logits.append(predict(batch["image"]).numpy().astype(np.float32))
        return np.concatenate(keys), np.concatenate(labels), np.concatenate(logits)


def use_batch_statistics(model: "keras.Model") -> None:
    """Makes all BatchNorm layers use the batch's statistics if called for training; what they learnt is not touched."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = True  # frozen ones always use what they learnt
            layer.momentum = 1.0  # the moving averages stay


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
    classes, preparation = tuple(config["classes"]), Preprocessing(**config["preprocessing"])
    trained_batch_norm = False
    if config["kind"] == "finetuned":
        backbone, settings = backbones.lookup(config["backbone"]), config["finetune"]
        model = finetuning.build(
            backbone.build(preparation.input_size_px),
            len(classes),
            params.parse("finetune", settings, finetuning.Params),
        )
        trained_batch_norm = settings["train_batch_norm"]
    else:
        model = scratch.build(len(classes), params.parse("scratch", config["scratch"], scratch.Params))
    try:
        model.load_weights(folder / "best.weights.h5")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'best.weights.h5'} can't be read ({error}). Run: dvc repro") from error
    return Network(config["kind"], classes, preparation, model, trained_batch_norm)
