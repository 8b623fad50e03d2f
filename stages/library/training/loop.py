"""Training of networks on images: what fine-tuning and training from scratch have in common."""

import contextlib
import math
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import pydantic

from stages.library.common import artifacts, class_weights, tables, tensorflow_runtime
from stages.library.common.cache_folders import cache_folder
from stages.library.common.console import UserError, say
from stages.library.common.params import CONFIG, Decay, Flip, Rate, Seed
from stages.library.records import leakage
from stages.library.records import manifest as manifests
from stages.library.records.manifest import Manifest
from stages.library.records.preprocessing import Preprocessing
from stages.library.scoring import selection
from stages.library.scoring.selection import SelectionMetric
from stages.library.training import batches, checkpoints, quick_layers
from stages.library.training.checkpoints import Checkpoints, Logs

if TYPE_CHECKING:
    import keras


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Keys that the sections `finetune` and `scratch` of params.yaml share."""

    epochs: Annotated[int, pydantic.Field(ge=1, le=10_000, description="each ends with validation and a checkpoint")]
    steps_per_epoch: Annotated[
        int | None, pydantic.Field(ge=1, le=1_000_000, description="null: a pass over the images")
    ]
    batch_size: Annotated[int, pydantic.Field(ge=1, le=65_536, description="examples per step")]
    optimizer: Annotated[Literal["adamw", "adam", "sgd"], pydantic.Field(description="sgd has a momentum of 0.9")]
    learning_rate: Annotated[Rate, pydantic.Field(description="at its peak")]
    schedule: Annotated[Literal["cosine", "constant"], pydantic.Field(description="after the warm-up")]
    warmup_epochs: Annotated[float, pydantic.Field(ge=0, description="of linear rise")]
    weight_decay: Annotated[Decay, pydantic.Field(description="on kernels; see `regularize`")]
    label_smoothing: Annotated[float, pydantic.Field(ge=0, lt=1, description="share of the target spread evenly")]
    flip: Annotated[
        Flip, pydantic.Field(description="mirror half of the images; alternating: each in every other pass")
    ]
    flip_predictions: Annotated[bool, pydantic.Field(description="average logits with those of the mirror image")]
    shift: Annotated[float, pydantic.Field(ge=0, le=1, description="fraction of the side, at most")]
    zoom: Annotated[float, pydantic.Field(ge=0, lt=1, description="relative change of scale, at most")]
    rotation_degrees: Annotated[float, pydantic.Field(ge=0, le=180, description="at most")]
    seed: Annotated[Seed, pydantic.Field(description="of order, augmentation, dropout and fresh weights")]

    @pydantic.model_validator(mode="after")
    def _warms_up_in_time(self) -> "Params":
        if self.warmup_epochs >= self.epochs:
            raise ValueError("`warmup_epochs` must be < `epochs`")
        return self

    def steps(self, num_examples: int) -> tuple[int, int]:
        """Returns the batch size and the steps per epoch on a training split of some size."""
        batch_size = min(self.batch_size, num_examples)
        return batch_size, self.steps_per_epoch or num_examples // batch_size


def prepare(seed: int) -> "contextlib.AbstractContextManager[object]":
    """Makes TensorFlow repeatable and on a GPU quick; returns a context to train in, on all GPUs of this machine."""
    tensorflow_runtime.start()
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    gpus = tf.config.list_physical_devices("GPU")
    keras.mixed_precision.set_global_policy("mixed_float16" if gpus else "float32")
    return cast("contextlib.AbstractContextManager[object]", tensorflow_runtime.strategy().scope())


def compile_trainer(model: "keras.Model", steps_per_epoch: int, params: Params) -> "keras.Model":
    """Returns a compiled network that shares the layers of `model`, whose outputs are logits."""
    import keras

    if not tensorflow_runtime.accelerators():
        quick_layers.use(model)
    trainer = keras.Model(model.input, model.output, name="trainer")
    warmup = round(params.warmup_epochs * steps_per_epoch)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else params.learning_rate,
        max(params.epochs * steps_per_epoch - warmup, 1),
        alpha=1.0 if params.schedule == "constant" else 0.0,
        warmup_target=params.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer: keras.optimizers.Optimizer
    if params.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=params.weight_decay)
        optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if not is_kernel(v)])
    else:
        regularize(model, params.weight_decay)
        adam = params.optimizer == "adam"
        optimizer = keras.optimizers.Adam(learning_rate) if adam else keras.optimizers.SGD(learning_rate, momentum=0.9)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=params.label_smoothing)
    trainer.compile(optimizer, loss, metrics=["accuracy"])
    return trainer


def is_kernel(variable: "keras.Variable") -> bool:
    """Tells kernels from biases, scales and statistics, which are vectors and don't decay."""
    return len(variable.shape) > 1


def regularize(model: "keras.Model", weight_decay: float) -> None:
    """Adds `weight_decay` / 2 times the squared norm of every kernel to the loss, whose gradient is decay times weight.

    Adam scales that with the rest of the gradient. AdamW subtracts rate times decay times weight beside Adam's step
    (Loshchilov and Hutter 2019, arXiv:1711.05101), so a decay that suits one does not suit the other.
    """
    import keras

    for variable in model.variables:
        if is_kernel(variable):
            variable.regularizer = keras.regularizers.L2(weight_decay / 2) if weight_decay else None


def check_shards(manifest: Manifest, num_classes: int) -> None:
    """Reads some shards once: TensorFlow would meet damage in mid-training, and take an unknown class for none."""
    unknown = np.flatnonzero(manifest.labels >= num_classes)
    if len(unknown):
        (shard,), label = manifest.shards(unknown[:1]), manifest.labels[unknown[0]]
        raise UserError(
            f"{manifest.paths[shard]} holds class {label} where there are {num_classes}. Run: dvc repro -f tfrecord"
        )
    for _ in manifest.records(range(len(manifest.keys))):
        pass


def run(
    build: Callable[[Path], "keras.Model"],
    config: dict[str, Any],
    causes: Sequence[Any],
    preprocessing: Preprocessing,
    params: Params,
    weights_of_classes: str | dict[str, float],
    selected_by: SelectionMetric,
    arguments: Namespace,
) -> tuple["keras.Model", Checkpoints]:
    """Trains a network, or goes on with a training that was killed; returns it at its best epoch, and how it went.

    `build` makes the network, from pixels in [0, 255] to logits, and may write into the out, whose folder it is given.
    The network depends on `causes`, JSON values, and on `config`, the content of config.json but for the weights'
    sha256; on the weights of the training images; and on `selected_by`, the metric by which the best epoch is chosen.
    Event files carry times, so `arguments.tensorboard` is no out.
    """
    training, validated = (manifests.read(arguments.records, [split]) for split in ("train", "validation"))
    for manifest in (training, validated):
        check_shards(manifest, len(config["classes"]))
    images = training.labels, training.weights, config["classes"]
    training = replace(training, weights=class_weights.of_images(weights_of_classes, *images))
    weighted = artifacts.sha256_bytes(training.weights.tobytes())
    kept = cache_folder() / "checkpoints" / checkpoints.fingerprint(config, *causes, weighted, selected_by)
    waiting = "another run is at this very training: waiting for it"
    with artifacts.locked(kept.with_name(f"{kept.name}.lock"), waiting):
        with prepare(params.seed), artifacts.new_folder(arguments.out) as folder:
            model = build(folder)
            given = preprocessing, params, selected_by, kept, folder, arguments.tensorboard
            state = _train(model, training, validated, *given)
            sha256 = artifacts.sha256_file(folder / "best.weights.h5")
            artifacts.write_json(folder / "config.json", config | {"sha256": sha256})
        state.remove()
    return model, state


def _train(
    model: "keras.Model",
    training: Manifest,
    validated: Manifest,
    preprocessing: Preprocessing,
    params: Params,
    selected_by: SelectionMetric,
    kept: Path,
    out: Path,
    tensorboard: Path,
) -> Checkpoints:
    """Writes weights and curves into `out`; the checkpoints, in `kept`, can be removed when the out is complete."""
    import keras
    from dvclive import Live
    from dvclive.keras import DVCLiveCallback

    num_classes = model.output_shape[-1]
    batch_size, steps_per_epoch = params.steps(len(training.keys))
    trainer = compile_trainer(model, steps_per_epoch, params)
    state = Checkpoints(kept, model, trainer, selected_by)
    state.restore()
    validation = batches.held_out(validated, preprocessing, num_classes, batch_size)

    def measured() -> Logs:
        """Returns what Keras does not measure, at the cost of one more pass over the validation images."""
        if selected_by in checkpoints.LOGS:
            return {}
        found = selection.measure(trainer.predict(validation, verbose=0), validated.labels)
        return {f"val_{selected_by}": found[selected_by]}

    if not state.history:
        trainer.optimizer.build(trainer.trainable_variables)
        start = trainer.evaluate(validation, return_dict=True, verbose=0)
        state.save({f"val_{name}": value for name, value in start.items()} | measured())
    first_epoch = state.finished
    if first_epoch:
        say(f"resuming after epoch {first_epoch} of {params.epochs}")

    def save(epoch: int, logs: Logs) -> None:
        if not all(map(math.isfinite, logs.values())):
            raise UserError(f"the loss is {logs['loss']} in epoch {epoch + 1}. Lower the learning rate")
        logs |= measured()  # the curves show it, too
        state.save(logs)

    limits = batches.Augmentation(params.flip, params.shift, params.zoom, params.rotation_degrees)
    stream = batches.Stream(training, preprocessing, num_classes, batch_size, limits, params.seed)
    with Live(str(out / "dvclive"), dvcyaml=False, save_dvc_exp=False) as live:
        curves = DVCLiveCallback(live=live)
        for epoch, logs in enumerate(state.history):
            curves.on_epoch_end(epoch, logs)
        if first_epoch < params.epochs:
            saving = keras.callbacks.LambdaCallback(on_epoch_end=save)
            trainer.fit(
                stream.batches(first_epoch * steps_per_epoch, params.epochs * steps_per_epoch),
                validation_data=validation,
                initial_epoch=first_epoch,
                epochs=params.epochs,
                steps_per_epoch=steps_per_epoch,
                shuffle=False,  # the stream does
                callbacks=[saving, curves, keras.callbacks.TensorBoard(tensorboard, write_graph=False)],
                verbose=1 if sys.stdout.isatty() else 2,
            )
    state.export(out)
    leakage.write(out, np.concatenate([training.keys, validated.keys]).astype(str))
    rows = [
        (step, series, round(logs[f"{prefix}accuracy"], 6), round(logs[f"{prefix}loss"], 6))
        for series, prefix in (("training", ""), ("held-out", "val_"))
        for step, logs in enumerate(state.history)  # epochs; 0: before training
        if f"{prefix}accuracy" in logs
    ]
    tables.write_csv(out / "curve.csv", tables.CURVE, rows)
    return state
