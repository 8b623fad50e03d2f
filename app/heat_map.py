"""Heat maps: where in an image the evidence for a class lies, by the last convolution maps of its network.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): with maps A_k of H x W cells and the logit y of a class, before any
softmax, map k weighs alpha_k = mean over its cells of dy/dA_k, and the heat map is max(0, sum_k alpha_k A_k). A head on
frozen features is no part of the network: dy/dfeatures comes from central differences, and the network carries it back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.models import Model, compiled
from stages.library.features import cache
from stages.library.scoring import probabilities

if TYPE_CHECKING:
    import keras

PIECEWISE_CONSTANT = {"xgboost": "decision trees answer in steps, so they have no gradient to trace back to the image"}
ROWS_PER_CALL = 512  # of perturbed features
RELATIVE_STEP, SMALLEST_STEP = 0.05, 1e-3  # of a feature's own size, and of the root mean square of all


@dataclass(frozen=True)
class GradCam:
    """Makes heat maps of one model."""

    lower: "keras.Model"  # float32 pixels (n, side, side, 3) of [0, 255] to the last convolution maps (n, H, W, K)
    upper: "keras.Model"  # from there to the logits, or to what a head takes, (n, width)
    logit: Callable[[np.ndarray, int], np.ndarray] | None  # of what a head takes and a class id; None without a head
    flip: bool  # whether the model sees the mean of the outputs for an image and for its mirror image

    def __call__(self, pixels: np.ndarray, label: int) -> np.ndarray:
        """Returns float32 (H, W) of [0, 1]; all 0 where nothing in the image speaks for the class, else up to 1.

        `pixels` are float32 (side, side, 3) of [0, 255], as `Model.pixels` gives them; `label` is the class's id.
        """
        import tensorflow as tf

        maps = self.lower(np.stack([pixels, pixels[:, ::-1]] if self.flip else [pixels]), training=False)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            outputs = tf.reduce_mean(self.upper(maps, training=False), axis=0)
        if logit := self.logit:
            slopes = central_differences(lambda rows: logit(rows, label), outputs.numpy())
        else:
            slopes = np.eye(1, len(outputs), label, dtype=np.float32)[0]
        weights = tf.reduce_mean(tape.gradient(outputs, maps, tf.constant(slopes)), axis=(1, 2), keepdims=True)
        views = tf.reduce_sum(weights * maps, axis=-1).numpy()
        evidence = np.maximum(views[0] + views[1, :, ::-1] if self.flip else views[0], 0)
        return np.asarray(evidence / (evidence.max() or 1), np.float32)


def explainer(model: Model) -> GradCam | str:
    """Returns what makes a loaded model's heat maps, or why it has none."""
    import keras

    trained = model.trained
    if trained and trained.name in PIECEWISE_CONSTANT:
        return PIECEWISE_CONSTANT[trained.name]
    source = model.network.model if model.network else model.backbone
    assert source
    maps = last_maps(source)
    if isinstance(maps, str):
        return maps
    lower = compiled(keras.Model(source.input, maps))
    if model.network:
        return GradCam(lower, keras.Model(maps, source.output), None, model.network.flip)
    if not trained:
        return GradCam(lower, keras.Model(maps, source.output["logits"]), None, model.flip)

    def logit(rows: np.ndarray, label: int) -> np.ndarray:
        return trained.logits(probabilities.softmax(rows) if trained.features == "probabilities" else rows)[:, label]

    outputs = keras.ops.concatenate([source.output[column] for column in cache.COLUMNS[trained.features]], axis=-1)
    return GradCam(lower, keras.Model(maps, outputs), logit, model.flip)


def last_maps(network: "keras.Model") -> Any:
    """Returns the output (n, H, W, K) of the last layer before a network's final pooling, or why there is none."""
    from keras import layers

    for layer in reversed(network.operations):  # additions in residual blocks are no layers
        if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
            continue
        if isinstance(layer, (layers.InputLayer, layers.Rescaling)):
            break
        shape = layer.output.shape
        if len(shape) == 4:
            single = shape[1] * shape[2] == 1
            return (
                "at this input size the network's last convolution maps have a single cell" if single else layer.output
            )
    return "the network has no convolution maps"


def central_differences(function: Callable[[np.ndarray], np.ndarray], point: np.ndarray) -> np.ndarray:
    """Returns the gradient, float32 (dim,), at a point (dim,) of a function of rows, float32 (n, dim) to (n,)."""
    point = point.astype(np.float32)
    scale = float(np.sqrt(np.mean(np.square(point)))) or 1.0
    steps = (RELATIVE_STEP * np.abs(point) + SMALLEST_STEP * scale).astype(np.float32)
    slopes = []
    for columns in np.array_split(np.arange(len(point)), -(-2 * len(point) // ROWS_PER_CALL)):
        moved = np.eye(len(columns), len(point), columns[0], dtype=np.float32) * steps
        above, below = np.split(function(np.concatenate([point + moved, point - moved])), 2)
        slopes.append((above - below) / (2 * steps[columns]))
    return np.concatenate(slopes).astype(np.float32)
