"""Trained networks (fine-tuned, or from scratch) as they lie on disk, and their predictions."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NotRequired, cast

import numpy as np
import pydantic
from typing_extensions import TypedDict

from stages.library.common import artifacts, console, guarded_files, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.common.guarded_files import CONFIG, PLUGIN_NAME
from stages.library.common.model_names import FINETUNED
from stages.library.networks import contract as backbones
from stages.library.networks import hdf5, keras_files
from stages.library.records import preprocessing
from stages.library.records.dataset_file import Classes
from stages.library.records.preprocessing import Preprocessing
from stages.library.training import finetuning, scratch
from stages.library.training import loop as training

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PREDICTION_BATCH = 64
WEIGHTS = "best.weights.h5"
REMEDY = "Run: dvc repro"


class Described(TypedDict):
    """What config.json says of either kind of network; older files lack `sha256`, that of the weights."""

    classes: Classes
    preprocessing: Preprocessing
    sha256: NotRequired[str]


@pydantic.with_config(CONFIG)
class Finetuned(Described):
    """Content of the config.json that finetune writes."""

    kind: Literal["finetuned"]
    backbone: Annotated[str, pydantic.Field(pattern=PLUGIN_NAME)]
    finetune: finetuning.Params
    feature_blocks: NotRequired[Annotated[int, pydantic.Field(ge=1)]]  # see `extract.feature_blocks`


@pydantic.with_config(CONFIG)
class Scratch(Described):
    """Content of the config.json that train-scratch writes."""

    kind: Literal["scratch"]
    scratch: scratch.Params


@dataclass(frozen=True)
class Network:
    """A trained network, from float32 pixels in [0, 255] (n, side, side, 3) to float32 logits (n, classes)."""

    kind: str  # "finetuned" or "scratch"
    classes: tuple[str, ...]  # in the order of the logits
    preprocessing: Preprocessing
    model: "keras.Model"
    flip: bool = False  # whether the logits are means over each image and its mirror image
    trained_batch_norm: bool = False
    backbone: str | None = None  # name of the fine-tuned one

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes) for float32 pixels (n, side, side, 3)."""
        return np.asarray(self._forward(images), np.float32)

    def _forward(self, images: "tf.Tensor | np.ndarray", training: bool = False) -> "tf.Tensor":
        views = [images, images[:, :, ::-1]] if self.flip and not training else [images]
        return sum(self.model(view, training=training) for view in views) / len(views)

    @functools.cached_property
    def outputs(self) -> "keras.Model":
        """The network with two outputs, "logits" and "bottleneck", the features (n, width) that compare images."""
        import keras

        features = finetuning.features if self.kind == FINETUNED else scratch.features
        return keras.Model(self.model.input, {"logits": self.model.output, "bottleneck": features(self.model)})

    def _both(self, images: "tf.Tensor | np.ndarray") -> "tuple[tf.Tensor, tf.Tensor]":
        views = [images, images[:, :, ::-1]] if self.flip else [images]
        found = [self.outputs(view, training=False) for view in views]
        logits, features = (sum(view[name] for view in found) / len(found) for name in ("logits", "bottleneck"))
        return logits, features

    @functools.cached_property
    def _predict(self) -> "Callable[[tf.Tensor], tuple[tf.Tensor, ...]]":
        """`_both` as a graph, which is made once for batches of any size: that takes seconds."""
        import tensorflow as tf

        side = self.preprocessing.input_size_px
        images = tf.TensorSpec((None, side, side, 3), tf.float32)
        predict: Callable[[tf.Tensor], tuple[tf.Tensor, ...]] = tf.function(self._both, [images], autograph=False)
        return predict

    def features(self, encoded: Iterable[bytes]) -> np.ndarray:
        """Returns the features, float32 (n, width), of one or more images that `normalisation.normalise` gave."""
        import tensorflow as tf

        side = self.preprocessing.input_size_px
        image = tf.TensorSpec((side, side, 3), tf.float32)

        def fit(encoded: "tf.Tensor") -> "tf.Tensor":
            return preprocessing.fit(preprocessing.decode(encoded), self.preprocessing)

        def of_batch(encoded: "tf.Tensor") -> "tf.Tensor":
            return self._predict(tf.map_fn(fit, encoded, fn_output_signature=image))[1]

        predict, rest = tf.function(of_batch, [tf.TensorSpec((None,), tf.string)], autograph=False), iter(encoded)
        batches = iter(lambda: list(itertools.islice(rest, PREDICTION_BATCH)), [])
        return np.concatenate([np.asarray(predict(tf.constant(batch)), np.float32) for batch in batches])

    def predict_shards(
        self, paths: Sequence[Path], training_mode: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns keys object (n,), labels int64 (n,), logits float32 (n, classes) of the images of TFRecord shards.

        `training_mode` is the published fine-tuning's mistake, without mirror images: dropout works, and each BatchNorm
        layer normalizes by the batch, so a prediction depends on the 63 images beside it. What was learnt stays.
        """
        import keras
        import tensorflow as tf

        for layer in self.model.layers if training_mode else ():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = True  # frozen ones always use what they learnt
                layer.momentum = 1.0  # the moving averages stay
        predict = tf.function(
            lambda images: (self._forward(images, training_mode),), reduce_retracing=True, autograph=False
        )
        return self._over_shards(paths, predict)

    def predict_and_compare(
        self, paths: Sequence[Path], features: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what `predict_shards` does, and of the same pass fills the features, float32 (n, `width`)."""
        return self._over_shards(paths, self._predict, [features])

    @property
    def width(self) -> int:
        """The number of features of an image."""
        return int(self.outputs.output["bottleneck"].shape[-1])

    def _over_shards(
        self,
        paths: Sequence[Path],
        predict: "Callable[[tf.Tensor], tuple[tf.Tensor, ...]]",
        filled: Sequence[np.ndarray] = (),
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns keys, labels and the function's first result; its others, which may be large, go into `filled`."""
        batches = preprocessing.dataset(list(paths), self.preprocessing, PREDICTION_BATCH)
        found, start = [], 0
        for batch in console.progress(batches, "predict", "batches"):
            logits, *others = (each.numpy() for each in predict(batch["image"]))
            end = start + len(logits)
            for array, values in zip(filled, others, strict=True):
                array[start:end] = values
            found.append((batch["key"].numpy(), batch["label"].numpy(), logits))
            start = end
        keys, labels, outputs = (np.concatenate(part) for part in zip(*found, strict=True))
        decoded = np.array([key.decode() for key in keys], object)
        return decoded, labels.astype(np.int64), outputs.astype(np.float32)


def load(folder: Path) -> Network:
    """Rebuilds a network with its best epoch's weights; UserError where the folder holds none, or a damaged one."""
    tensorflow_runtime.start()
    config = describe(folder)
    classes, preparation = tuple(config["classes"]), config["preprocessing"]
    weights, name, trained_batch_norm = folder / WEIGHTS, None, False
    settings: training.Params
    try:
        if config.get("sha256") not in (None, artifacts.sha256_file(weights)):
            raise ValueError("it does not have the sha256 in config.json")
        hdf5.check(weights)
        if config["kind"] == FINETUNED:
            name, settings = config["backbone"], config["finetune"]
            trained_batch_norm, plugin = (
                settings.train_batch_norm,
                backbones.lookup(name, config.get("feature_blocks", 1)),
            )
            _check_size(weights, plugin.BACKBONE.feature_width * len(classes))
            model = finetuning.build(plugin.build(preparation.input_size_px), len(classes), settings)
        else:
            settings = config["scratch"]
            _check_size(weights, scratch.num_weights(len(classes), settings))
            model = scratch.build(len(classes), settings)
        keras_files.restore(model, weights)
    except (OSError, ValueError) as error:
        raise UserError(f"{weights} can't be read ({' '.join(str(error).split())}). {REMEDY}") from error
    return Network(config["kind"], classes, preparation, model, settings.flip_predictions, trained_batch_norm, name)


def describe(folder: Path) -> Finetuned | Scratch:
    """Reads the config.json of a network; UserError where it is missing or damaged."""
    kind = Annotated[Finetuned | Scratch, pydantic.Field(discriminator="kind"), pydantic.AfterValidator(_checked)]
    return cast("Finetuned | Scratch", guarded_files.read_json(folder / "config.json", kind, REMEDY))


def _checked(config: Finetuned | Scratch) -> Finetuned | Scratch:
    side = config["preprocessing"].input_size_px
    if config["kind"] == "scratch" and config["scratch"].input_size_px != side:
        raise ValueError("`preprocessing.input_size_px` must be `scratch.input_size_px`")
    return config


def _check_size(weights: Path, parameters: int) -> None:
    """Raises ValueError where the file is too small for the network, for which memory would be taken in vain."""
    if weights.stat().st_size < 4 * parameters:  # float32
        raise ValueError("it is too small for the network in config.json")
