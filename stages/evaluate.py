"""Measures a trained head on the test split, in seconds and without TensorFlow.

Reads the TFRecord shards, the head, its out-of-fold logits and its backbone's cached features. Writes a metrics file
(nested numbers; below `validation` those of the validation split, by heads that did not see the image) and a folder:
predictions.parquet, confusion.csv, per_class.csv, reliability.csv, curve.csv, predictions.png, mistakes.png,
evaluation.json and unlike.safetensors, by which an image that is unlike the training images is known.
"""

from pathlib import Path

import numpy as np

from stages.library.common import console
from stages.library.evaluation import evaluation
from stages.library.evaluation.evaluation import Compared, Model
from stages.library.evaluation.measures import Predictions
from stages.library.features import unlike
from stages.library.features.unlike import Reference
from stages.library.heads import trained_head
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
    validated = manifests.read(arguments.records, ["validation"])
    keys, scores = prediction_files.read(arguments.head / leakage.OF_HEAD, "logits")
    last = slice(max(len(keys) - len(validated.keys), 0), None)  # training comes first
    validation = Predictions(np.array(keys[last], object), validated.labels, scores[last], classes)
    model = Model(head.name, "head", head.source.backbone, arguments.head, head.features)
    known, tested = (unlike.of_cache(arguments.bottlenecks, split, params["unlike"]) for split in ("train", "test"))
    compared = Compared(Reference.fit(known, None, params["unlike"]), tested)
    evaluation.finish(stopwatch, model, predictions, validation, params["evaluate"], arguments, compared)


if __name__ == "__main__":
    console.run(main)
