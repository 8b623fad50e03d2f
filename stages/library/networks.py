"""Trained networks (fine-tuned, or from scratch) as they lie on disk, and their predictions."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.library import (
    artifacts,
    backbones,
    console,
    finetuning,
    params,
    preprocessing,
    scratch,
    tensorflow_runtime,
    training,
)
from stages.library.console import UserError
from stages.library.model_names import FINETUNED
from stages.library.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PREDICTION_BATCH = 64


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
      kind: "finetuned" or "scratch".
      classes: class names in the order of the logits.
      preprocessing: how a picture becomes its input.
      model: float32 pixels in [0, 255], (batch, side, side, 3), to float32 logits (batch, classes).
      flip: whether the logits are means over each picture and its mirror image.
      trained_batch_norm: whether fine-tuning trained its BatchNorm layers.
    """

    kind: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    model: "keras.Model"
    flip: bool = False
    trained_batch_norm: bool = False

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes) for float32 pixels (n, side, side, 3)."""
        return np.asarray(self._forward(images), np.float32)

    def _forward(self, images: "tf.Tensor | np.ndarray") -> "tf.Tensor":
        views = [images, images[:, :, ::-1]] if self.flip else [images]
        return sum(self.model(view, training=False) for view in views) / len(views)

    def predict_shards(
        self, paths: Sequence[Path], training_mode: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predicts the pictures of TFRecord shards, in order.

        Args:
          paths: the shards.
          training_mode: the published fine-tuning's mistake, to show what it does: dropout works, and every BatchNorm
            layer normalizes by the statistics of the batch, so a prediction depends on the 63 pictures beside it. It
            saw no mirror images.

        Returns:
          keys object (n,), labels int64 (n,), logits float32 (n, classes).
        """
        import tensorflow as tf

        if training_mode:
            use_batch_statistics(self.model)
        forward = functools.partial(self.model, training=True) if training_mode else self._forward
        predict = tf.function(forward, reduce_retracing=True, autograph=False)
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
    settings: training.Params
    if config["kind"] == FINETUNED:
        settings = params.parse("finetune", config["finetune"], finetuning.Params)
        backbone = backbones.lookup(config["backbone"]).build(preparation.input_size_px)
        model, trained_batch_norm = finetuning.build(backbone, len(classes), settings), settings.train_batch_norm
    else:
        settings = params.parse("scratch", config["scratch"], scratch.Params)
        model, trained_batch_norm = scratch.build(len(classes), settings), False
    try:
        model.load_weights(folder / "best.weights.h5")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'best.weights.h5'} can't be read ({error}). Run: dvc repro") from error
    return Network(config["kind"], classes, preparation, model, settings.flip_predictions, trained_batch_norm)
