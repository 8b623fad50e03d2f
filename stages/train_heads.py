"""Stage train-heads: trains one head on one backbone's cached features.

Reads the parquet files of training and validation under --bottlenecks. Writes a folder:
  head.json, config.json and the weights: the head trained on all of training + validation (library/trained_head.py);
  cross_validation.json: each of `selection.METRICS`, mean and sample standard deviation over the folds (one fold has
    none); expected calibration error out of fold, before and after temperature scaling (one parameter, fitted on the
    same rows);
  curve.csv: step, series, accuracy, loss, averaged over the folds;
  out_of_fold.parquet: key, label and calibrated logits of each example by the head that did not see its fold, NaN where
    every head saw it (`cross_validation.holdout_fraction`).
Costs on digits (1,400 x 1,280 features) and 2 cores: seconds for ridge, logistic and softmax, about a minute for dnn or
xgboost.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common import artifacts, class_weights, console, plugins, tables
from stages.library.common.console import Stopwatch, UserError, run
from stages.library.features import cache
from stages.library.heads import calibration, cross_validation, folds
from stages.library.heads import contract as heads
from stages.library.heads.trained_head import TrainedHead
from stages.library.scoring import metrics, selection
from stages.library.scoring.probabilities import softmax
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "train_heads")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--head", choices=plugins.plugin_names(plugins.PLUGINS["heads"]), required=True)
    parser.add_argument("--bottlenecks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    stopwatch = Stopwatch()
    settings = load_params(args.params)
    head_params, fold_params = settings[args.head], settings["cross_validation"]
    features = cache.load(args.bottlenecks, ("train", "validation"), head_params.features)
    fold_of = _folds(features, fold_params, args.head)

    classes, setting = features.source.classes, settings["class_weights"]
    class_weights.check(setting, classes)
    weights = class_weights.of_images(setting, features.labels, features.weights, classes)
    examples = heads.Examples(features.values, features.labels, len(classes), fold_of, weights)
    trainer = heads.lookup(args.head).Trainer(examples, head_params, fold_params.seed)
    validation = cross_validation.cross_validate(trainer, settings["evaluate"].selection_metric)
    head = trainer.fit(validation.best_params)
    heads.logits_of_rows(head, features.values, np.arange(1))  # an error where it diverged on all rows alone
    held_out = fold_of != folds.NEVER
    scored, labels = validation.logits[held_out], features.labels[held_out]
    temperature = 1.0
    if fold_params.temperature_scaling:
        temperature = calibration.fit_temperature(scored, labels, weights[held_out])
    logits = validation.logits / np.float32(temperature)
    by_fold = [fold_of == fold for fold in range(fold_of.max() + 1)]
    scores = [selection.measure(logits[rows], features.labels[rows]) for rows in by_fold]
    numbers = {metric: _moments([score[metric] for score in scores]) for metric in selection.METRICS}
    accuracy = numbers["top1_accuracy"]
    shown = f"{accuracy['mean']:.4f} " + (
        f"± {accuracy['std']:.4f}" if "std" in accuracy else f"on the {held_out.sum():,} held out"
    )
    calibration_error = {
        when: metrics.expected_calibration_error(softmax(each), labels)
        for when, each in (("before", scored), ("after", logits[held_out]))
    }
    with artifacts.new_folder(args.out) as out:
        made_of = head_params.features, features.values.shape[1], features.source
        TrainedHead(args.head, head, *made_of, validation.best_params, temperature).save(out)
        scored_by = numbers | {"expected_calibration_error": calibration_error}
        artifacts.write_json(out / "cross_validation.json", scored_by)
        points = ((f"{at:g}", series, f"{hits:.6f}", f"{loss:.6f}") for at, series, hits, loss in validation.curve)
        tables.write_csv(out / "curve.csv", tables.CURVE, points)
        columns = {
            "key": pa.array(features.keys, pa.string()),
            "label": pa.array(features.labels, pa.int32()),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), logits.shape[1]),
        }
        pq.write_table(pa.table(columns), out / "out_of_fold.parquet", compression="zstd")
    count, backbone = len(features.labels), features.source.backbone
    what = f"{args.head} on {backbone}, cross-validated top-1 {shown}, {count:,} examples"
    stopwatch.close("train-heads", what, count, "examples", following="evaluate")


def _moments(values: list[float]) -> dict[str, float]:
    deviation = {"std": float(np.std(values, ddof=1))} if len(values) > 1 else {}
    return {"mean": float(np.mean(values))} | deviation


def _folds(features: cache.Features, fold_params: folds.Params, head: str) -> np.ndarray:
    """Returns what `folds.assign` does; UserError where a head can't be trained and scored with it."""
    present = np.unique(features.labels)
    if len(present) < 2:
        names = [features.source.classes[label] for label in present]
        raise UserError(f"training + validation must have images of at least 2 classes. Received: {names}")
    fold_of = folds.assign(features.groups, features.labels, fold_params, head)
    if head not in fold_params.holdout_fraction:
        if (count := len(np.unique(fold_of))) < fold_params.folds:
            console.say(f"train-heads: {count} of {fold_params.folds} folds, for {len(fold_of)} images fill no more")
    elif len(np.unique(fold_of)) < 2:
        raise UserError(
            f"`cross_validation.holdout_fraction.{head}` must leave some of the {len(fold_of)} images to train "
            f"on and some to validate. Received: {fold_params.holdout_fraction[head]}"
        )
    return fold_of


if __name__ == "__main__":
    run(main)
