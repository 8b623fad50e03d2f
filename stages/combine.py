"""Stages combine and combine-finetuned: one model of several, and its measures.

The members are all heads over all backbones; with `--finetuned` the fine-tuned network of each backbone, too. They are
compared on the images that none of them was trained on. Of heads that is all of training and validation, but for
`cross_validation.holdout_fraction`. Of networks it is validation alone, which chose their epoch: that flatters them.

Reads the heads, with their predictions of images that they did not see (out_of_fold.parquet), the cached features of
the test split, the networks' logits that evaluate-finetuned wrote, and the TFRecord shards. Writes a folder with the
combination (library/combination/combined.py) and, as train-heads does of a head, cross_validation.json, curve.csv and
out_of_fold.parquet, by nested folds; then what `evaluate` writes of a head. Costs seconds to minutes.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np

from stages.library.combination import combination, members
from stages.library.combination.combined import Combined, is_network
from stages.library.common import artifacts, class_weights, console, path_options, tables
from stages.library.common.console import UserError
from stages.library.common.model_names import COMBINED, FINETUNED
from stages.library.evaluation import evaluation
from stages.library.evaluation.evaluation import Model
from stages.library.evaluation.measures import Predictions
from stages.library.heads import trained_head
from stages.library.records import dataset_file, leakage
from stages.library.records import manifest as manifests
from stages.library.scoring import prediction_files
from stages.library.settings import Params, load_params


def main() -> None:
    """Runs the stage."""
    parser = evaluation.parser(__doc__, "combine", "combine")
    parser.add_argument(
        "--method", choices=get_args(combination.Method), required=True, metavar="NAME", help="of combination"
    )
    for name, text in (("heads", "with BACKBONE/HEAD"), ("bottlenecks", "with the features of each backbone")):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FOLDER", help=text)
    text = "with fine-tuned backbones (default: heads alone)"
    parser.add_argument("--finetuned", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--logits", type=Path, metavar="FOLDER", help="with --finetuned: the logits of each")
    path_options.add(parser, "out")
    arguments = parser.parse_args()
    if (arguments.finetuned is None) != (arguments.logits is None):
        parser.error("--finetuned and --logits need each other")
    stopwatch = console.Stopwatch()
    settings = load_params(arguments.params)
    classes = tuple(dataset_file.read(arguments.records / "dataset.json")["classes"])
    manifest = manifests.read(arguments.records, ["train", "validation"])
    weights = class_weights.of_images(settings["class_weights"], manifest.labels, manifest.weights, classes)
    keys, test = manifest.keys.astype(str).astype(object), manifests.read(arguments.records, ["test"])
    last = slice(len(keys) - len(manifests.read(arguments.records, ["validation"]).keys), None)  # training comes first
    folders = folders_of(settings, arguments)
    logits = [unseen(name, folder, keys, last, len(classes), arguments.logits) for name, folder in folders.items()]
    given = combination.Predictions(keys, manifest.labels, manifest.groups, weights, logits)
    by, metric = settings["cross_validation"], settings["evaluate"].selection_metric
    found = combination.find(arguments.method, given, settings["combine"], settings["logistic"], by, metric)
    combined = Combined.of(arguments.method, found, folders, classes)
    if found.rows < len(keys):
        why = "combine.finetuned" if arguments.finetuned else "cross_validation.holdout_fraction"
        those = f"{found.rows:,} of {len(keys):,} images that none of them was trained on (`{why}`)"
        console.say(f"combine: members are compared on the {those}")
    if found.alone:
        console.say(f"combine: {arguments.method} is not better than the best member, which is taken alone")
    shown = f"cross-validated top-1 {found.validated.shown}, best member {found.best.shown}"
    taken = f"{len(combined.members)} of {len(folders)} members"
    console.say(f"combine: {arguments.method} of {taken}: {combined}; {shown}")
    with artifacts.new_folder(arguments.out) as out:
        combined.save(out)
        found.validated.save(out)
        points = ((f"{at:g}", series, f"{hits:.6f}", f"{loss:.6f}") for at, series, hits, loss in found.curve)
        tables.write_csv(out / "curve.csv", tables.CURVE, points)

    names, tested_keys = [member["name"] for member in combined.members], test.keys.astype(str).astype(object)
    parts, scores = zip(
        *(tested(each, folders[each], tested_keys, len(classes), arguments) for each in names), strict=True
    )
    answers = combined.logits(members.stacked(scores, np.ones(len(tested_keys), bool)))
    predictions = Predictions(tested_keys, test.labels, answers, classes, temperature=combined.temperature)
    validation = Predictions(keys[last], manifest.labels[last], found.validated.logits[last], classes)
    of = f"{COMBINED}/{FINETUNED}" if arguments.finetuned else COMBINED
    model = Model(f"{of}/{arguments.method}", COMBINED, None, arguments.out, members=parts)
    evaluation.finish(
        stopwatch,
        model,
        predictions,
        validation,
        settings["evaluate"],
        arguments,
        unseen=(found.validated.logits, manifest.labels),
    )


def folders_of(settings: Params, arguments: argparse.Namespace) -> dict[str, Path]:
    """Returns where each member lies, by name."""
    pairs = product([*settings["backbones"], *settings["joined"]], settings["heads"])
    found = {"/".join(pair): arguments.heads.joinpath(*pair) for pair in pairs}
    if arguments.finetuned:
        found |= {f"{backbone}/{FINETUNED}": arguments.finetuned / backbone for backbone in settings["backbones"]}
    return found


def unseen(
    name: str, folder: Path, keys: np.ndarray, validation: slice, num_classes: int, logits: Path | None
) -> np.ndarray:
    """Returns a member's logits of the images it was not trained on, float32 (n, num_classes); NaN in other rows.

    `validation` says which of the keys are validation images; `logits` is the folder of networks' logits. UserError:
    it has other images, or a network has none.
    """
    if not is_network(name) or logits is None:
        return read(folder / leakage.OF_HEAD, keys, num_classes)
    if not len(keys[validation]):
        raise UserError(
            "`combine.finetuned` must have validation images, for networks were trained on all others. Received: none. "
            "Raise `split.validation`, or set it to []"
        )
    found = np.full((len(keys), num_classes), np.nan, np.float32)
    found[validation] = read(logits / folder.name / "validation.parquet", keys[validation], num_classes)
    return found


def tested(
    name: str, folder: Path, keys: np.ndarray, num_classes: int, arguments: argparse.Namespace
) -> tuple[Model, np.ndarray]:
    """Returns a member and its logits of the test images, float32 (n, num_classes); UserError: it has other images."""
    backbone, _, kind = name.partition("/")
    if is_network(name):
        logits = read(arguments.logits / backbone / "test.parquet", keys, num_classes)
        return Model(kind, kind, backbone, folder), logits
    head, features, logits = trained_head.predict(folder, arguments.bottlenecks / backbone, "test")
    if list(features.keys) != keys.tolist():
        raise UserError(f"{arguments.bottlenecks / backbone} is of other images than the records hold. Run: dvc repro")
    return Model(kind, "head", backbone, folder, head.features), logits


def read(path: Path, keys: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the logits in a file, float32 (n, num_classes); UserError: they are of other images."""
    found, logits = prediction_files.read(path, "logits")
    if found != keys.tolist() or logits.shape[1] != num_classes:
        raise UserError(f"{path} is of other images or classes than the records hold. Run: dvc repro")
    return logits


if __name__ == "__main__":
    console.run(main)
