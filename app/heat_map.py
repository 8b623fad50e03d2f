"""Heat maps: where in an image the evidence for a class lies, by the last convolution maps of its network.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): with maps A_k of H x W cells and the logit y of a class, before any
softmax, map k weighs alpha_k = mean over its cells of dy/dA_k, and the heat map is max(0, sum_k alpha_k A_k). A head on
frozen features is no part of the network: dy/dfeatures comes from central differences, and the network carries it back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.combinations import CombinedModel
from app.models import Model
from app.parts import compiled
from stages.library.features import cache, joined
from stages.library.networks import block_features
from stages.library.scoring import probabilities

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PIECEWISE_CONSTANT = {"xgboost": "decision trees answer in steps, so they have no gradient to trace back to the image"}
ROWS_PER_CALL = 512  # of perturbed features
RELATIVE_STEP, SMALLEST_STEP = 0.05, 1e-3  # of a feature's own size, and of the root mean square of all


@dataclass(frozen=True)
class Traced:
    """A network in two pieces, below and above its last convolution maps.

    Features of earlier blocks (`extract.feature_blocks`) go past those maps, and count as what they are for the image.
    """

    lower: "keras.Model"  # float32 pixels (n, side, side, 3) of [0, 255] to the maps (n, H, W, K) and what goes past
    upper: "keras.Model"  # from there to the logits, or to what a head takes of this network, (n, width)
    flip: bool  # whether the model sees the mean of the outputs for an image and for its mirror image

    def maps(self, pixels: np.ndarray) -> "list[tf.Tensor]":
        """Returns the maps of the views of an image, it alone or with its mirror image, and what goes past them."""
        import keras

        views = np.stack([pixels, pixels[:, ::-1]] if self.flip else [pixels])
        return cast("list[tf.Tensor]", keras.tree.flatten(self.lower(views, training=False)))  # one stands alone

    def evidence(self, maps: "tf.Tensor", gradient: "tf.Tensor") -> np.ndarray:
        """Returns float32 (H, W), the evidence in each cell, at least 0, times the number of cells.

        So networks with cells of other sizes can be compared.
        """
        import tensorflow as tf

        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        views = tf.reduce_sum(weights * maps, axis=-1).numpy()
        found = views[0] + views[1, :, ::-1] if self.flip else views[0]
        return np.asarray(np.maximum(found, 0) * found.size, np.float32)


@dataclass(frozen=True)
class GradCam:
    """Makes heat maps of one model."""

    networks: tuple[Traced, ...]
    logit: Callable[[np.ndarray, int], np.ndarray] | None  # of what a head takes and a class id; None without a head

    def __call__(self, inputs: Sequence[np.ndarray], label: int) -> list[np.ndarray]:
        """Returns a heat map for each network, float32 (H, W) of [0, 1]; the most evidence of all of them is 1.

        They are all 0 where nothing in the image speaks for the class. `inputs` are those of `Model.inputs` for one
        image; `label` is the class's id.
        """
        import tensorflow as tf

        below = [network.maps(pixels) for network, pixels in zip(self.networks, inputs, strict=True)]
        maps = [own for own, *_ in below]
        with tf.GradientTape() as tape:
            tape.watch(maps)
            views = [network.upper(own, training=False) for network, own in zip(self.networks, below, strict=True)]
            outputs = tf.concat([tf.reduce_mean(view, axis=0) for view in views], axis=0)
        if logit := self.logit:
            slopes = central_differences(lambda rows: logit(rows, label), outputs.numpy())
        else:
            slopes = np.eye(1, len(outputs), label, dtype=np.float32)[0]
        gradients = tape.gradient(outputs, maps, tf.constant(slopes))
        evidence = [network.evidence(*own) for network, *own in zip(self.networks, maps, gradients, strict=True)]
        most = max(float(values.max()) for values in evidence) or 1.0
        return [values / most for values in evidence]


@dataclass(frozen=True)
class OfHead:
    """Makes the heat maps of a combination: those of one of its heads."""

    head: GradCam
    places: tuple[int, ...]  # of its networks among all

    def __call__(self, inputs: Sequence[np.ndarray], label: int) -> list[np.ndarray]:
        """Does what `GradCam` does; networks that the head does not read have maps of 0."""
        found = dict(zip(self.places, self.head([inputs[place] for place in self.places], label), strict=True))
        return [found.get(place, np.zeros((1, 1), np.float32)) for place in range(len(inputs))]


def explainer(model: Model) -> GradCam | OfHead | str:
    """Returns what makes a loaded model's heat maps, or why it has none.

    For a combination it is the head of most weight that has any; of stacked heads, the first.
    """
    if not isinstance(model, CombinedModel):
        return _explainer(model)
    weights = [member["weight"] or 0 for member in model.combined.members]
    reasons = []
    for index in sorted(range(len(weights)), key=lambda index: -weights[index]):
        found = _explainer(model.members[index])
        if isinstance(found, GradCam):
            return OfHead(found, model.places[index])
        reasons.append(found)
    return reasons[0]


def _explainer(model: Model) -> GradCam | str:
    import keras

    trained = model.trained
    if trained and trained.name in PIECEWISE_CONSTANT:
        return PIECEWISE_CONSTANT[trained.name]
    networks = []
    for part in model.parts:
        maps = last_maps(part.network)
        if isinstance(maps, str):
            return maps
        columns = [part.network.output[name] for name in (cache.COLUMNS[trained.features] if trained else ["logits"])]
        below = [maps, *block_features.bypasses(part.network)]
        lower = compiled(keras.Model(part.network.input, below))
        networks.append(Traced(lower, keras.Model(below, keras.ops.concatenate(columns, axis=-1)), part.flip))
    if not trained:
        return GradCam(tuple(networks), None)
    ends = np.cumsum([network.upper.output.shape[-1] for network in networks])[:-1]

    def logit(rows: np.ndarray, label: int) -> np.ndarray:
        blocks = np.split(rows, ends, axis=1)
        if trained.features == "probabilities":
            blocks = [probabilities.softmax(block) for block in blocks]
        return trained.logits(joined.side_by_side(blocks, trained.source.scales))[:, label]

    return GradCam(tuple(networks), logit)


def last_maps(network: "keras.Model") -> Any:
    """Returns the output (n, H, W, K) of the last layer before a network's final pooling, or why there is none."""
    from keras import layers

    for layer in reversed(network.operations):  # additions in residual blocks are no layers
        if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
            continue
        if isinstance(layer, (layers.InputLayer, layers.Rescaling)):
            break
        shape: Any = getattr(layer.output, "shape", ())  # of several outputs there is none
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
