"""Stages train-heads and train-joined: train one head on the cached features of one backbone, or of several.

Reads the parquet files of training and validation under --bottlenecks. Writes a folder:
  head.json, config.json and the weights: the head trained on all of training + validation (library/trained_head.py);
  cross_validation.json: each of `selection.METRICS`, mean and sample standard deviation over the folds (one fold has
    none); expected calibration error out of fold, before and after temperature scaling (one parameter, fitted on the
    same rows);
  curve.csv: step, series, accuracy, loss, averaged over the folds;
  out_of_fold.parquet: key, label and calibrated logits of each example by the head that did not see its fold, NaN where
    every head saw it (`cross_validation.holdout_fraction`).
Costs on digits (1,438 x 1,280 features) and 2 cores: 2 to 4 s for ridge, logistic and softmax, 9 s for xgboost, 17 s
for dnn.
"""

import numpy as np

from stages.library.common import artifacts, console, path_options, plugins, tables
from stages.library.common.console import Stopwatch, run
from stages.library.features import joined
from stages.library.heads import contract as heads
from stages.library.heads import cross_validation, out_of_fold
from stages.library.heads import examples as prepared
from stages.library.heads.trained_head import TrainedHead
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "train_heads")
    path_options.add(parser, "params", "bottlenecks", "out")
    names = plugins.plugin_names(plugins.PLUGINS["heads"])
    parser.add_argument("--head", choices=names, required=True, metavar="NAME", help="name of a head")
    args = parser.parse_args()
    stopwatch = Stopwatch()
    settings = load_params(args.params)
    head_params, fold_params = settings[args.head], settings["cross_validation"]
    features = joined.load(args.bottlenecks, ("train", "validation"), head_params.features)
    examples = prepared.of(features, fold_params, settings["class_weights"], args.head)
    trainer = heads.lookup(args.head).Trainer(examples, head_params, fold_params.seed)
    validation = cross_validation.cross_validate(trainer, settings["evaluate"].selection_metric)
    head = trainer.fit(validation.best_params)
    heads.logits_of_rows(head, features.values, np.arange(1))  # an error where it diverged on all rows alone
    labels, weights, fold_of = examples.labels, examples.weights, examples.folds
    found = out_of_fold.calibrated(
        features.keys, labels, weights, validation.logits, fold_of, fold_params.temperature_scaling
    )
    with artifacts.new_folder(args.out) as out:
        made_of = head_params.features, features.values.shape[1], features.source
        TrainedHead(args.head, head, *made_of, validation.best_params, found.temperature).save(out)
        found.save(out)
        points = ((f"{at:g}", series, f"{hits:.6f}", f"{loss:.6f}") for at, series, hits, loss in validation.curve)
        tables.write_csv(out / "curve.csv", tables.CURVE, points)
    count, backbone = len(features.labels), features.source.backbone
    what = f"{backbone}/{args.head}, cross-validated top-1 {found.shown}, {count:,} examples"
    stopwatch.close("train-heads", what, count, "examples", following="evaluate")


if __name__ == "__main__":
    run(main)
