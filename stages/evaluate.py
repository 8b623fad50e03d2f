"""Measures a trained head on the test split, in seconds and without TensorFlow.

Reads the TFRecord shards, the head and its backbone's cached features. Writes a metrics file (nested numbers) and a
folder: predictions.parquet, confusion.csv, per_class.csv, reliability.csv, curve.csv, predictions.png, mistakes.png and
evaluation.json.
"""

from pathlib import Path

from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.evaluation import evaluation
from stages.library.evaluation.evaluation import Model, Predictions
from stages.library.features import cache
from stages.library.heads import trained_head
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = evaluation.parser(__doc__, "evaluate", "evaluate")
    parser.add_argument("--head", type=Path, required=True, help="folder of a trained head")
    parser.add_argument("--bottlenecks", type=Path, required=True, help="folder of the features that the head reads")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings = load_params(arguments.params)["evaluate"]
    head = trained_head.load(arguments.head)
    features = cache.load(arguments.bottlenecks, ["test"], head.features)
    if features.source != head.source:
        raise UserError(
            f"{arguments.head} was trained on other features than {arguments.bottlenecks} holds. Run: dvc repro"
        )
    logits, classes = head.logits(features.values), head.source.classes
    predictions = Predictions(features.keys, features.labels, logits, classes, temperature=head.temperature)
    model = Model(head.name, "head", head.source.backbone, arguments.head, head.features)
    evaluation.finish(stopwatch, model, predictions, settings, arguments)


if __name__ == "__main__":
    console.run(main)
