"""Measures a trained model on the test split.

Reads the TFRecord shards and either a head with its backbone's cached features, or a trained network. Writes a metrics
file (nested numbers) and a folder: predictions.parquet, confusion.csv, per_class.csv, reliability.csv, curve.csv,
predictions.png, mistakes.png and evaluation.json. Costs seconds for a head, which needs no TensorFlow; one forward pass
per test image for a network, two where fine-tuning trained BatchNorm: one in training mode, as the published system
was evaluated, by mistake.
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
    parser = console.parser(__doc__, "evaluate")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--head", type=Path, help="folder of a trained head; needs --bottlenecks")
    model.add_argument("--network", type=Path, help="folder of a trained network")
    parser.add_argument("--bottlenecks", type=Path, help="folder of the features that the head reads")
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True)
    arguments = parser.parse_args()
    if (arguments.head is None) != (arguments.bottlenecks is None):
        parser.error("--head and --bottlenecks go together")
    stopwatch = console.Stopwatch()
    settings: evaluation.Params = load_params(arguments.params)["evaluate"]
    if arguments.head:
        evaluated, predictions = predict_by_head(arguments.head, arguments.bottlenecks)
    else:
        evaluated, predictions = predict_by_network(arguments.network, arguments.records)
    with console.notice(f"measuring and drawing {evaluated}"):
        numbers = evaluation.write_evaluation(
            evaluated, predictions, arguments.records, settings, arguments.metrics, arguments.figures
        )
    interval = numbers["top1_accuracy_interval"]
    stopwatch.close(
        "evaluate",
        f"{evaluated}: top-1 {numbers['top1_accuracy']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}] "
        f"on {numbers['num_examples']:,} test images",
        numbers["num_examples"],
        following="report",
    )


def predict_by_head(folder: Path, features_folder: Path) -> tuple[Model, Predictions]:
    """Returns a head's calibrated logits on the cached features of the test split."""
    trained = trained_head.load(folder)
    features = cache.load(features_folder, ["test"], trained.features)
    if features.source != trained.source:
        raise UserError(f"{folder} was trained on other features than {features_folder} holds. Run: dvc repro")
    logits = trained.logits(features.values)
    model = Model(trained.name, "head", trained.source.backbone, folder)
    classes, temperature = trained.source.classes, trained.temperature
    return model, Predictions(features.keys, features.labels, logits, classes, temperature=temperature)


def predict_by_network(folder: Path, shards: Path) -> tuple[Model, Predictions]:
    """Returns a network's logits on the test images, where BatchNorm was fine-tuned also those of training mode."""
    from stages.library.records import tfrecord  # TensorFlow: heads do without it
    from stages.library.training import trained_network

    network = trained_network.load(folder)
    paths = tfrecord.find_shards(shards, "test")
    keys, labels, logits = network.predict_shards(paths)
    mistaken = network.predict_shards(paths, training_mode=True)[2] if network.trained_batch_norm else None
    return Model(network.kind, network.kind, network.backbone, folder), Predictions(
        keys, labels, logits, network.classes, mistaken
    )


if __name__ == "__main__":
    console.run(main)
