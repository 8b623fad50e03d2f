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
from dataclasses import asdict, replace
from pathlib import Path

from stages.library.common import artifacts, console, downloads
from stages.library.common.model_names import FINETUNED
from stages.library.features import cache
from stages.library.networks import weights
from stages.library.records import dataset_file
from stages.library.records.preprocessing import Preprocessing
from stages.library.settings import load_params
from stages.library.training import checkpoints, finetuning
from stages.library.training import loop as training
from stages.plugins.heads.softmax import head as softmax


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "finetune")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    parser.add_argument("--bottlenecks", type=Path, required=True)
    parser.add_argument("--tensorboard", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings = load_params(arguments.params)
    finetune: finetuning.Params = settings["finetune"]
    features = cache.load(arguments.bottlenecks, ["train"], "bottleneck")
    source = features.source
    preparation = Preprocessing(source.input_size_px, source.central_crop, source.resize)
    linear, head = None, head_params(finetune, settings["softmax"])
    if head:
        linear = softmax.train(features.values, features.labels, len(source.classes), head, seed=finetune.seed)
    dataset = dataset_file.read(arguments.records / "dataset.json")
    identity = checkpoints.fingerprint("finetune", asdict(source), asdict(finetune), head and asdict(head), dataset)
    kept = downloads.cache_folder() / "checkpoints" / identity
    with checkpoints.alone(kept):
        with training.prepare(finetune.seed), artifacts.new_folder(arguments.out) as folder:
            pretrained, backbone, _ = weights.build_with_weights(
                arguments.backbone, source.input_size_px, settings["extract"].weights
            )
            model = finetuning.build(pretrained, len(source.classes), finetune)
            if linear:
                model.get_layer(finetuning.CLASSIFIER).set_weights([linear.kernel, linear.bias])
            fresh = finetuning.restart(model, backbone, finetune)
            finetuning.freeze(model, backbone, finetune)
            counts = finetuning.write_variables(folder / "variables.csv", model, fresh)
            state = training.train(model, arguments.records, preparation, finetune, kept, folder, arguments.tensorboard)
            config = {
                "kind": FINETUNED,
                "backbone": backbone.name,
                "classes": source.classes,
                "preprocessing": asdict(preparation),
                "sha256": artifacts.sha256_file(folder / "best.weights.h5"),
                "finetune": asdict(finetune),
            }
            artifacts.write_json(folder / "config.json", config)
        state.remove()
    best = state.progress.history[state.progress.best]
    stopwatch.close(
        f"finetune {backbone.name}",
        f"{counts.get('trained', 0)} variables trained, {counts.get('frozen', 0)} frozen; best epoch "
        f"{state.progress.best} of {finetune.epochs}, validation accuracy {best['val_accuracy']:.4f} "
        f"({state.progress.history[0]['val_accuracy']:.4f} before training)",
        math.prod(finetune.steps(len(features.labels))) * finetune.epochs,
        following="evaluate-finetuned",
    )


def head_params(finetune: finetuning.Params, section: softmax.Params) -> softmax.Params | None:
    """Returns the linear head's hyperparameters, those of the softmax head; None where training starts without one."""
    return replace(section, features="bottleneck", epochs=finetune.head_epochs) if finetune.head_epochs else None


if __name__ == "__main__":
    console.run(main)
