"""Measures a network, fine-tuned or trained from scratch, on the test split.

Reads the TFRecord shards and the network. Writes what `evaluate` does of a head. Costs one forward pass per test image
and validation image; where fine-tuning trained BatchNorm one more per test image, in training mode, as the published
system was evaluated, by mistake.
"""

from pathlib import Path

from stages.library.common import console
from stages.library.evaluation import evaluation
from stages.library.evaluation.evaluation import Model
from stages.library.evaluation.measures import Predictions
from stages.library.records import manifest as manifests
from stages.library.records import tfrecord
from stages.library.settings import load_params
from stages.library.training import trained_network


def main() -> None:
    """Runs the stage."""
    parser = evaluation.parser(__doc__, "evaluate_network", "evaluate-finetuned")
    parser.add_argument("--network", type=Path, required=True, help="folder of a trained network")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings = load_params(arguments.params)["evaluate"]
    network = trained_network.load(arguments.network)
    shards = tfrecord.find_shards(arguments.records, "test")
    keys, labels, logits = network.predict_shards(shards)
    validation = None
    if len(manifests.read(arguments.records, ["validation"]).keys):
        validated = network.predict_shards(tfrecord.find_shards(arguments.records, "validation"))
        validation = Predictions(*validated, network.classes)
    mistaken = (
        network.predict_shards(shards, training_mode=True)[2] if network.trained_batch_norm else None
    )  # changes it
    predictions = Predictions(keys, labels, logits, network.classes, mistaken)
    model = Model(network.kind, network.kind, network.backbone, arguments.network)
    evaluation.finish(stopwatch, model, predictions, validation, settings, arguments)


if __name__ == "__main__":
    console.run(main)
