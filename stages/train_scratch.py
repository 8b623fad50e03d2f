"""Trains the small convolutional network from scratch, the baseline without a backbone.

The published network and recipe (Kostadinov 2017-04-23, 0.6734 on CIFAR-10) and others: see
`library/training/scratch.py`. Reads the TFRecord shards. Writes a folder of `best.weights.h5`, `last.weights.h5`,
`config.json`, `curve.csv`, `trained_on.parquet` (keys of training and validation images) and DVCLive's `dvclive/`.
Killed, it goes on after the last epoch.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stages.library.common import class_weights, console, path_options
from stages.library.common.model_names import SCRATCH
from stages.library.records import dataset_file, preprocessing, tfrecord
from stages.library.records.preprocessing import Preprocessing
from stages.library.settings import load_params
from stages.library.training import loop as training
from stages.library.training import scratch

if TYPE_CHECKING:
    import keras

WHITENED_IMAGES = 5000  # the first ones of the training split, which shows their colours well enough


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "train_scratch")
    path_options.add(parser, "params", "records", "tensorboard", "out")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    sections = load_params(arguments.params)
    settings: scratch.Params = sections["scratch"]
    preparation = Preprocessing(settings.input_size_px, geometry=settings.geometry)
    dataset = dataset_file.read(arguments.records / "dataset.json")
    config = {
        "kind": SCRATCH,
        "classes": dataset["classes"],
        "preprocessing": asdict(preparation),
        "scratch": asdict(settings),
    }
    class_weights.check(sections["class_weights"], dataset["classes"])

    def build(_: Path) -> "keras.Model":
        model = scratch.build(len(dataset["classes"]), settings)
        if settings.whitening:
            shards = tfrecord.find_shards(arguments.records, "train")
            images = preprocessing.dataset(shards, preparation, batch_size=1).take(WHITENED_IMAGES)
            scratch.whiten(model, (batch["image"][0].numpy() for batch in images))
        return model

    model, state = training.run(
        build,
        config,
        [dataset],
        preparation,
        settings,
        sections["class_weights"],
        sections["evaluate"].selection_metric,
        arguments,
    )
    stopwatch.close(
        "train-scratch",
        f"{model.count_params():,} parameters; {state}",
        math.prod(settings.steps(sum(dataset["counts"]["train"].values()))) * settings.epochs,
        following="evaluate-scratch",
    )


if __name__ == "__main__":
    console.run(main)
