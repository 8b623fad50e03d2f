"""DNN head: fully connected, ReLU and dropout after each hidden layer, Adam; trained in Keras, used in NumPy.

Features are standardized; the standardization is folded into the first layer afterwards. Training runs on the CPU with
deterministic ops, so that the same arguments give the same bits.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from stages.library.common import tensorflow_runtime
from stages.library.common.console import UserError, progress
from stages.library.common.params import CONFIG
from stages.library.heads import learning_curves
from stages.library.heads.blocks import batches
from stages.library.heads.contract import CrossValidation, CurvePoint, Features
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.scaling import standardization

TUNES = False


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
    trainers: dict[int, _Trainer] = {}
    for fold in progress(range(folds.max() + 1), "cross-validation", "folds"):
        held_out = folds == fold
        steps = _steps(int((~held_out).sum()), params)
        if steps not in trainers:
            trainers[steps] = _Trainer(features.shape[1], num_classes, steps, params, seed)
        network, curve = trainers[steps].train(features, labels, ~held_out, held_out)
        logits[held_out] = network.logits_of_rows(features, np.flatnonzero(held_out))
        curves.append(curve)
    return CrossValidation(logits, learning_curves.average(curves))


def fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, params: Params, seed: int, best_params: dict[str, Any]
) -> DenseNetwork:
    """Trains on all rows; cross-validation chose nothing."""
    everything = np.ones(len(labels), bool)
    trainer = _Trainer(features.shape[1], num_classes, _steps(len(labels), params), params, seed)
    return trainer.train(features, labels, everything, ~everything)[0]


def load(folder: Path, dim: int, num_classes: int) -> DenseNetwork:
    """Reads a saved head; ValueError where it has another shape."""
    return DenseNetwork.load(folder, dim, num_classes)


def _steps(examples: int, params: Params) -> int:
    return params.epochs * -(-examples // params.batch_size)


class _Trainer:
    """A network that is trained from the same start again and again: tracing its steps takes Keras seconds.

    Args:
      feature_width: numbers of an example.
      num_classes: of the labels.
      steps: of a training, over which the learning rate falls.
      params, seed: as `cross_validate` takes them.
    """

    def __init__(self, feature_width: int, num_classes: int, steps: int, params: Params, seed: int):
        tensorflow_runtime.start()
        import keras

        if params.device == "gpu" and not tensorflow_runtime.accelerators():
            raise UserError("`dnn.device` must be cpu where TensorFlow sees no GPU. Received: 'gpu'")
        self._params, self._seed = params, seed
        self._strategy = tensorflow_runtime.strategy() if params.device == "gpu" else None
        keras.utils.set_random_seed(seed % 2**32)
        with self._placed():
            model = keras.Sequential([keras.Input((feature_width,))])
            for units in params.hidden_units:
                model.add(keras.layers.Dense(units, "relu"))
                model.add(keras.layers.Dropout(params.dropout))
            model.add(keras.layers.Dense(num_classes))
            model.compile(
                keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(params.learning_rate, steps)),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
            )
            model.optimizer.build(model.trainable_variables)
            self._model = model
            # Of dropout's generators and of the optimizer, too.
            self._start = [(variable, variable.numpy()) for variable in (*model.variables, *model.optimizer.variables)]

    def train(
        self, features: np.ndarray, labels: np.ndarray, training: np.ndarray, held_out: np.ndarray
    ) -> tuple[DenseNetwork, list[CurvePoint]]:
        """Trains on the rows `training` (bool (n,)); scores the rows `held_out` after every epoch, if there are any.

        Training accuracy and loss are means over the epoch's steps, with dropout.
        """
        import tensorflow as tf

        standardize = standardization(features, np.flatnonzero(training))
        rng = np.random.default_rng(self._seed)
        size = self._params.batch_size

        def examples(rows: np.ndarray, epochs: int, shuffled: bool) -> "tf.data.Dataset":
            def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
                for _ in range(epochs):
                    order = rng.permutation(rows) if shuffled else rows
                    for batch in batches(len(order), size):
                        yield standardize(features[order[batch]]), labels[order[batch]]

            signature = tf.TensorSpec((None, features.shape[1]), tf.float32), tf.TensorSpec((None,), tf.int64)
            dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
            return dataset.apply(tf.data.experimental.assert_cardinality(epochs * -(-len(rows) // size))).prefetch(2)

        with self._placed():
            for variable, value in self._start:
                variable.assign(value)
            history = self._model.fit(
                # One iterator: a new one for each epoch takes a fifth of the time where examples are few.
                examples(np.flatnonzero(training), self._params.epochs, shuffled=True),
                epochs=self._params.epochs,
                steps_per_epoch=-(-int(training.sum()) // size),
                shuffle=False,  # the generator does that
                validation_data=examples(np.flatnonzero(held_out), 1, shuffled=False) if held_out.any() else None,
                verbose=0,
            ).history
        series = {"training": "", "held-out": "val_"} if held_out.any() else {"training": ""}
        curve = [
            CurvePoint(epoch + 1, name, history[f"{prefix}accuracy"][epoch], history[f"{prefix}loss"][epoch])
            for epoch in range(self._params.epochs)
            for name, prefix in series.items()
        ]
        layers = [Dense(*layer.get_weights()) for layer in self._model.layers if layer.weights]
        layers[0] = Dense(*standardize.fold_into(layers[0].kernel, layers[0].bias))
        return DenseNetwork(tuple(layers)), curve

    def _placed(self) -> Any:
        """Returns the context in which its variables and steps belong on the devices that are asked for."""
        import tensorflow as tf

        return self._strategy.scope() if self._strategy else tf.device("CPU")
