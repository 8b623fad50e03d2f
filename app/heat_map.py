"""Heat maps: where in an image the evidence for a class lies, by the last convolution maps of its network.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): with maps A_k of H x W cells and the logit y of a class, before any
softmax, map k weighs alpha_k = mean over its cells of dy/dA_k, and the heat map is max(0, sum_k alpha_k A_k). A head on
frozen features is no part of the network: dy/dfeatures comes from central differences, and the network carries it back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app import compiled
from app.models import Model
from stages.library.features import cache
from stages.library.heads.trained_head import TrainedHead
from stages.library.scoring import probabilities

if TYPE_CHECKING:
    import keras

PIECEWISE_CONSTANT = {"xgboost": "decision trees answer in steps, so they have no gradient to trace back to the image"}
ROWS_PER_CALL = 512  # of perturbed features
RELATIVE_STEP, SMALLEST_STEP = 0.05, 1e-3  # of a feature's own size, and of the root mean square of all

# Outputs of the network for one image, each (width,), and a class id, to the slopes of that class's logit by them.
Slopes = Callable[[Sequence[np.ndarray], int], Sequence[np.ndarray]]


class NoHeatMapError(Exception):
    """A model has no heat map; `str(error)` is the reason, to go on after "No heat map: "."""


@dataclass(frozen=True)
class GradCam:
    """Makes heat maps of one model.

    Attributes:
      lower: float32 pixels (n, side, side, 3) of [0, 255] to the last convolution maps (n, H, W, K).
      upper: from there to the outputs that `slopes` takes, (n, width) each.
      slopes: of a class's logit.
      flip: whether the model sees the mean of the outputs for an image and for its mirror image.
    """

    lower: "keras.Model"
    upper: "keras.Model"
    slopes: Slopes
    flip: bool = False

    def __call__(self, pixels: np.ndarray, label: int) -> np.ndarray:
        """Returns float32 (H, W) of [0, 1]; all 0 where nothing in the image speaks for the class, else up to 1.

        Args:
          pixels: float32 (side, side, 3) of [0, 255], as `Model.pixels` gives them.
          label: id of the class.
        """
        import keras
        import tensorflow as tf

        images = tf.convert_to_tensor(pixels)[None]
        views = [images, images[:, :, ::-1]] if self.flip else [images]
        maps = [self.lower(view, training=False) for view in views]
        with tf.GradientTape() as tape:
            tape.watch(maps)
            seen = [keras.tree.flatten(self.upper(view_maps, training=False)) for view_maps in maps]
            outputs = [sum(parts) / len(views) for parts in zip(*seen, strict=True)]
            with tape.stop_recording():
                slopes = self.slopes([output.numpy()[0] for output in outputs], label)
            logit = tf.add_n([tf.reduce_sum(o * s) for o, s in zip(outputs, slopes, strict=True)])
        gradients = tape.gradient(logit, maps)
        total = sum(
            _weighted(view_maps, gradient)[:, ::direction]
            for view_maps, gradient, direction in zip(maps, gradients, (1, -1), strict=False)
        )
        evidence = np.maximum(total, 0)
        return np.asarray(evidence / (evidence.max() or 1), np.float32)


def explainer(model: Model, flip: bool) -> GradCam:
    """Returns what makes a model's heat maps, or raises NoHeatMapError.

    Args:
      model: loaded.
      flip: whether its backbone's features are means over each image and its mirror image.
    """
    import keras

    if model.trained and model.trained.name in PIECEWISE_CONSTANT:
        raise NoHeatMapError(PIECEWISE_CONSTANT[model.trained.name])
    slopes: Slopes = _one_logit
    if model.network:
        source, flip = model.network.model, model.network.flip
        outputs: list[Any] = [source.output]
    else:
        assert model.backbone
        source = model.backbone
        outputs = [source.output["logits"]]
        if model.trained:
            slopes = _slopes_of_head(model.trained)
            outputs = [source.output[column] for column in cache.COLUMNS[model.trained.features]]
    maps = last_maps(source)
    return GradCam(compiled.network(keras.Model(source.input, maps)), keras.Model(maps, outputs), slopes, flip)


def last_maps(network: "keras.Model") -> Any:
    """Returns the output (n, H, W, K) of the last layer before a network's final pooling, or raises NoHeatMapError."""
    from keras import layers

    for layer in reversed(network.operations):  # additions in residual blocks are no layers
        if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
            continue
        if isinstance(layer, (layers.InputLayer, layers.Rescaling)):
            break
        shape = layer.output.shape
        if len(shape) == 4:
            if shape[1] * shape[2] == 1:
                raise NoHeatMapError("at this input size the network's last convolution maps have a single cell")
            return layer.output
    raise NoHeatMapError("the network has no convolution maps")


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


def _weighted(maps: Any, gradient: Any) -> np.ndarray:
    """Returns sum_k alpha_k A_k, (H, W), for maps and gradient (1, H, W, K); a map that is not used has no gradient."""
    if gradient is None:
        return np.zeros(maps.shape[1:3], np.float32)
    weights = gradient.numpy()[0].mean(axis=(0, 1))
    return np.asarray(maps.numpy()[0] @ weights)


def _one_logit(outputs: Sequence[np.ndarray], label: int) -> list[np.ndarray]:
    return [np.eye(1, len(outputs[0]), label, dtype=np.float32)[0]]


def _slopes_of_head(trained: TrainedHead) -> Slopes:
    """Returns the slopes of a head's logits by the columns of its features."""

    def slopes(outputs: Sequence[np.ndarray], label: int) -> Sequence[np.ndarray]:
        def logit(rows: np.ndarray) -> np.ndarray:
            features = probabilities.softmax(rows) if trained.features == "probabilities" else rows
            return trained.logits(features)[:, label]

        gradient = central_differences(logit, np.concatenate(outputs))
        return np.split(gradient, np.cumsum([len(output) for output in outputs])[:-1])

    return slopes
