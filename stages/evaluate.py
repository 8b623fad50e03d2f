"""Measures a trained head on the test split, in seconds and without TensorFlow.

Reads the TFRecord shards, the head, its out-of-fold logits and its backbone's cached features. Writes a metrics file
(nested numbers; below `validation` those of the validation split, by heads that did not see the image) and a folder:
predictions.parquet, confusion.csv, per_class.csv, reliability.csv, coverage.csv, curve.csv, predictions.png,
mistakes.png, evaluation.json and unlike.safetensors, by which an image unlike the training images is known.
"""

from pathlib import Path

import numpy as np

from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.evaluation import evaluation
from stages.library.evaluation.evaluation import Compared, Model
from stages.library.evaluation.measures import Predictions
from stages.library.features import unlike
from stages.library.features.unlike import Reference
from stages.library.heads import trained_head
from stages.library.networks import contract as backbones
from stages.library.records import leakage
from stages.library.records import manifest as manifests
from stages.library.scoring import prediction_files
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = evaluation.parser(__doc__, "evaluate", "evaluate")
    parser.add_argument("--head", type=Path, required=True, metavar="FOLDER", help="of a trained head")
    parser.add_argument(
        "--bottlenecks", type=Path, required=True, metavar="FOLDER", help="of the features that it reads"
    )
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    params = load_params(arguments.params)
    head, features, logits = trained_head.predict(arguments.head, arguments.bottlenecks, "test")
    classes = head.source.classes
    predictions = Predictions(features.keys, features.labels, logits, classes, temperature=head.temperature)
    validated, known = (
        manifests.read(arguments.records, splits) for splits in (["validation"], ["train", "validation"])
    )
    keys, scores = prediction_files.read(arguments.head / leakage.OF_HEAD, "logits")
    if keys != known.keys.astype(str).tolist():
        raise UserError(f"{arguments.head} is of other images than {arguments.records} holds. Run: dvc repro")
    last = slice(len(keys) - len(validated.keys), None)  # training comes first
    validation = Predictions(np.array(keys[last], object), validated.labels, scores[last], classes)
    model = Model(head.name, "head", head.source.backbone, arguments.head, head.features)
    widths = [backbones.last_block_width(each.backbone, each.feature_blocks) for each in head.source.members]
    rows, tested = (
        unlike.of_cache(arguments.bottlenecks, split, widths, params["unlike"]) for split in ("train", "test")
    )
    compared = Compared(Reference.fit(rows, None, params["unlike"]), tested)
    more = arguments, compared, (scores, known.labels)
    evaluation.finish(stopwatch, model, predictions, validation, params["evaluate"], *more)


if __name__ == "__main__":
    console.run(main)
