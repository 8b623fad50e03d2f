"""Fine-tunes a backbone: a new head, started from a linear head on the cached features, and the last blocks trained.

That head is fitted as params.yaml's section `softmax` says, but on the pooled features and in `head_epochs`.

The published recipe (Kostadinov 2017-05-04: InceptionV3, 0.7985 on CIFAR-10) starts head and last blocks at random and
trains everything: see `library/finetuning.py`.

Reads the TFRecord shards, the cached features and the backbone's weights. Writes a folder of `best.weights.h5`,
`last.weights.h5`, `config.json`, `curve.csv`, `variables.csv` (each variable frozen or trained, restored or fresh),
`trained_on.parquet` (keys of training and validation images) and DVCLive's `dvclive/`. Costs about three forward
passes an image and epoch; killed, it goes on after the last epoch.
"""

import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.library.common import class_weights, console, path_options
from stages.library.common.model_names import FINETUNED
from stages.library.features import cache
from stages.library.heads.contract import Examples, check_finite
from stages.library.networks import contract as backbones
from stages.library.networks import weights
from stages.library.records import dataset_file
from stages.library.settings import load_params
from stages.library.training import finetuning
from stages.library.training import loop as training
from stages.plugins.heads.softmax import head as softmax

if TYPE_CHECKING:
    import keras


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "finetune")
    path_options.add(parser, "params", "records", "bottlenecks", "tensorboard", "out")
    parser.add_argument("--backbone", required=True, metavar="NAME", help="pretrained network")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings = load_params(arguments.params)
    finetune: finetuning.Params = settings["finetune"]
    features = cache.load(arguments.bottlenecks, ["train"], "bottleneck")
    (source,) = features.source.members
    preparation = source.preprocessing
    class_weights.check(settings["class_weights"], source.classes)
    linear = head = None
    if finetune.head_epochs:
        head = replace(settings["softmax"], features="bottleneck", epochs=finetune.head_epochs)
        images = features.labels, features.weights, source.classes
        weighed = class_weights.of_images(settings["class_weights"], *images)
        folds = np.zeros_like(features.labels)
        examples = Examples(features.values, features.labels, len(source.classes), folds, weighed)
        (linear,) = softmax.Trainer(examples, head, finetune.seed).fit({}).layers
        check_finite(linear.kernel)
    dataset = dataset_file.read(arguments.records / "dataset.json")
    counts: Counter[str] = Counter()

    def untrained() -> "keras.Model":
        return backbones.lookup(arguments.backbone, source.feature_blocks).build(preparation.input_size_px)

    def build(folder: Path) -> "keras.Model":
        given = arguments.backbone, preparation.input_size_px, settings["extract"].weights, source.feature_blocks
        pretrained, backbone, _ = weights.build_with_weights(*given)
        model = finetuning.build(pretrained, len(source.classes), finetune)
        if linear:
            model.get_layer(finetuning.CLASSIFIER).set_weights([linear.kernel, linear.bias])
        fresh = finetuning.restart(model, backbone, finetune, untrained)
        finetuning.freeze(model, backbone, finetune)
        counts.update(finetuning.write_variables(folder / "variables.csv", model, fresh))
        return model

    config = {
        "kind": FINETUNED,
        "backbone": arguments.backbone,
        "feature_blocks": source.feature_blocks,
        "classes": source.classes,
        "preprocessing": asdict(preparation),
        "finetune": asdict(finetune),
    }
    causes = [asdict(source), head and asdict(head), dataset]
    chosen = settings["class_weights"], settings["evaluate"].selection_metric
    _, state = training.run(build, config, causes, preparation, finetune, *chosen, arguments)
    stopwatch.close(
        f"finetune {arguments.backbone}",
        f"{counts['trained']} variables trained, {counts['frozen']} frozen; {state} "
        f"({state.history[0]['val_accuracy']:.4f} before training)",
        math.prod(finetune.steps(len(features.labels))) * finetune.epochs,
        following="evaluate-finetuned",
    )


if __name__ == "__main__":
    console.run(main)
