"""Trains the small convolutional network from scratch, the baseline without a backbone.

The published network and recipe (Kostadinov 2017-04-23, 0.6734 on CIFAR-10) and others: see `library/scratch.py`. Reads
the TFRecord shards. Writes a folder of `best.weights.h5`, `last.weights.h5`, `config.json`, `curve.csv`,
`trained_on.parquet` (keys of training and validation images) and DVCLive's `dvclive/`. Killed, it goes on after the
last epoch.
"""

import math
from dataclasses import asdict
from pathlib import Path

from stages.library.common import class_weights, console
from stages.library.common.model_names import SCRATCH
from stages.library.records import dataset_file
from stages.library.records.preprocessing import Preprocessing
from stages.library.settings import load_params
from stages.library.training import loop as training
from stages.library.training import scratch


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "train_scratch")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    parser.add_argument("--tensorboard", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    sections = load_params(arguments.params)
    settings: scratch.Params = sections["scratch"]
    preparation = Preprocessing(settings.input_size_px)
    dataset = dataset_file.read(arguments.records / "dataset.json")
    config = {
        "kind": SCRATCH,
        "classes": dataset["classes"],
        "preprocessing": asdict(preparation),
        "scratch": asdict(settings),
    }
    class_weights.check(sections["class_weights"], dataset["classes"])
    model, state = training.run(
        lambda _: scratch.build(len(dataset["classes"]), settings),
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
