"""DNN head: fully connected, ReLU and dropout after each hidden layer, Adam; trained in Keras, used in NumPy.

Features are standardized; the standardization is folded into the first layer afterwards. Training runs on the CPU with
deterministic ops, so that the same arguments give the same bits.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from stages.library import learning_curves, tensorflow_runtime
from stages.library.console import UserError, progress
from stages.library.dense import Dense, DenseNetwork
from stages.library.feature_scaling import standardization
from stages.library.heads import CrossValidation, CurvePoint, Features, batches
from stages.library.params import CONFIG

CHOOSES = False


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `dnn` of params.yaml."""

    features: Annotated[Features, pydantic.Field(description="what the head is trained on")]
    hidden_units: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=1)], ...], pydantic.Field(description="width of each hidden layer")
    ]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1, description="fraction dropped after each hidden layer")]
    learning_rate: Annotated[float, pydantic.Field(gt=0, description="of Adam, at the start; half a cosine to zero")]
    batch_size: Annotated[int, pydantic.Field(ge=1, le=65536, description="examples")]
    epochs: Annotated[int, pydantic.Field(ge=1, le=10_000, description="passes over the data")]
    device: Annotated[Literal["cpu", "gpu"], pydantic.Field(description="gpu: all GPUs of this machine share batches")]


def cross_validate(
    features: np.ndarray, labels: np.ndarray, num_classes: int, folds: np.ndarray, params: Params, seed: int
) -> CrossValidation:
    """Trains a head for each fold; the curve has a point per epoch."""
    logits = np.full((len(labels), num_classes), np.nan, np.float32)
    curves = []
    for fold in progress(range(folds.max() + 1), "cross-validation", "folds"):
        held_out = folds == fold
        network, curve = _train(features, labels, num_classes, ~held_out, held_out, params, seed)
        logits[held_out] = network.logits_of_rows(features, np.flatnonzero(held_out))
        curves.append(curve)
    return CrossValidation(logits, learning_curves.average(curves))


def fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, params: Params, seed: int, chosen: dict[str, Any]
) -> DenseNetwork:
    """Trains on all rows; cross-validation chose nothing."""
    everything = np.ones(len(labels), bool)
    return _train(features, labels, num_classes, everything, ~everything, params, seed)[0]


def load(folder: Path) -> DenseNetwork:
    """Reads a saved head."""
    return DenseNetwork.load(folder)


def _train(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    training: np.ndarray,
    held_out: np.ndarray,
    params: Params,
    seed: int,
) -> tuple[DenseNetwork, list[CurvePoint]]:
    """Trains on the rows `training` (bool (n,)); scores the rows `held_out` after every epoch, if there are any.

    Training accuracy and loss are means over the epoch's steps, with dropout.
    """
    tensorflow_runtime.start()
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed % 2**32)
    standardize = standardization(features, np.flatnonzero(training))
    if params.device == "gpu" and not tensorflow_runtime.accelerators():
        raise UserError("`dnn.device` must be cpu where TensorFlow sees no GPU. Received: 'gpu'")
    with tf.device("CPU") if params.device == "cpu" else tensorflow_runtime.strategy().scope():
        model = keras.Sequential([keras.Input((features.shape[1],))])
        for units in params.hidden_units:
            model.add(keras.layers.Dense(units, "relu"))
            model.add(keras.layers.Dropout(params.dropout))
        model.add(keras.layers.Dense(num_classes))
        steps = params.epochs * -(-int(training.sum()) // params.batch_size)
        model.compile(
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(params.learning_rate, steps)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        rng = np.random.default_rng(seed)

        def examples(rows: np.ndarray, shuffled: bool) -> "tf.data.Dataset":
            def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
                order = rng.permutation(rows) if shuffled else rows
                for batch in batches(len(order), params.batch_size):
                    yield standardize(features[order[batch]]), labels[order[batch]]

            signature = tf.TensorSpec((None, features.shape[1]), tf.float32), tf.TensorSpec((None,), tf.int64)
            dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
            cardinality = tf.data.experimental.assert_cardinality(-(-len(rows) // params.batch_size))
            return dataset.apply(cardinality).prefetch(2)

        history = model.fit(
            examples(np.flatnonzero(training), shuffled=True),
            epochs=params.epochs,
            shuffle=False,  # the generator does that
            validation_data=examples(np.flatnonzero(held_out), shuffled=False) if held_out.any() else None,
            verbose=0,
        ).history
    series = {"training": "", "held-out": "val_"} if held_out.any() else {"training": ""}
    curve = [
        CurvePoint(epoch + 1, name, history[f"{prefix}accuracy"][epoch], history[f"{prefix}loss"][epoch])
        for epoch in range(params.epochs)
        for name, prefix in series.items()
    ]
    layers = [Dense(*layer.get_weights()) for layer in model.layers if layer.weights]
    layers[0] = Dense(*standardize.fold_into(layers[0].kernel, layers[0].bias))
    return DenseNetwork(tuple(layers)), curve
