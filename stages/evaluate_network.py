"""Measures a network, fine-tuned or trained from scratch, on the test split.

Reads the TFRecord shards and the network. Writes what `evaluate` does of a head and, for combine-finetuned, a folder of
logits, float32 (n, classes): validation.parquet, where there are such images, and test.parquet. Costs one forward pass
per test image, validation image, and training image of `unlike`; where fine-tuning trained BatchNorm one more per test
image, in training mode, as the published system was evaluated, by mistake.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common import artifacts, console
from stages.library.evaluation import evaluation
from stages.library.evaluation.evaluation import Compared, Model
from stages.library.evaluation.measures import Predictions
from stages.library.features import disk_arrays, unlike
from stages.library.features.unlike import Reference
from stages.library.records import manifest as manifests
from stages.library.settings import load_params
from stages.library.training import trained_network


def main() -> None:
    """Runs the stage."""
    parser = evaluation.parser(__doc__, "evaluate_network", "evaluate-finetuned")
    parser.add_argument("--network", type=Path, required=True, metavar="FOLDER", help="of a trained network")
    parser.add_argument("--logits", type=Path, metavar="FOLDER", help="to write the logits into (default: none)")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    params = load_params(arguments.params)
    network = trained_network.load(arguments.network)
    tested, validated = (manifests.read(arguments.records, [split]) for split in ("test", "validation"))
    features, held_out = (
        disk_arrays.empty((len(images.keys), network.width), np.float32) for images in (tested, validated)
    )
    keys, labels, logits = network.predict_and_compare(tested.paths, features)
    validation = None
    if len(validated.keys):
        validation = Predictions(*network.predict_and_compare(validated.paths, held_out), network.classes)
    training = manifests.read(arguments.records, ["train"])
    rows = unlike.sample(training.keys.astype(str), params["unlike"])
    images = (record.encoded for record in training.records(rows))
    known = network.features(console.progress(images, "compare", "images", len(rows)))
    reference = Reference.fit([known], [held_out] if validation else None, params["unlike"])
    compared = Compared(reference, [features])
    # Last, for it changes the network.
    mistaken = network.predict_shards(tested.paths, training_mode=True)[2] if network.trained_batch_norm else None
    predictions = Predictions(keys, labels, logits, network.classes, mistaken)
    model = Model(network.kind, network.kind, network.backbone, arguments.network)
    evaluation.finish(stopwatch, model, predictions, validation, params["evaluate"], arguments, compared)
    if arguments.logits:
        with artifacts.new_folder(arguments.logits) as folder:
            write_logits(folder / "test.parquet", predictions)
            if validation:
                write_logits(folder / "validation.parquet", validation)


def write_logits(path: Path, predictions: Predictions) -> None:
    """Writes the keys of images and their logits, which `prediction_files` reads."""
    logits = pa.FixedSizeListArray.from_arrays(pa.array(predictions.logits.reshape(-1)), len(predictions.classes))
    pq.write_table(
        pa.table({"key": pa.array(predictions.keys, pa.string()), "logits": logits}), path, compression="zstd"
    )


if __name__ == "__main__":
    console.run(main)
