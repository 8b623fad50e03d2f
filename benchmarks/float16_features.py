"""What the rounding of cached features to float16 costs: every head's accuracy with and without it.

Runs a backbone on images of a data set's TFRecord shards and keeps its features in float32; half of the images
train each head, with its section of params.yaml, and half test it. Features are pooled ones and logits, side by side.
Where a last bit changes a fit (dnn, xgboost), one seed's difference is mostly chance: the mean over --seeds says more.
Run: python -m benchmarks.float16_features --records data/tfrecord [--images 2000] [--seeds 3] [--heads xgboost]
"""

from pathlib import Path

import numpy as np

from benchmarks.shared import parser
from stages.library.extraction import extraction
from stages.library.extraction import runtime as runtimes
from stages.library.extraction.runtime import Plan
from stages.library.features import cache
from stages.library.heads import contract as heads
from stages.library.heads.cross_validation import cross_validate
from stages.library.networks import contract as backbones
from stages.library.records import preprocessing, tfrecord
from stages.library.scoring import metrics
from stages.library.settings import load_params

FOLDS = 3


def main() -> None:
    """Prints the table."""
    options = parser("float16_features", __doc__)
    options.add_argument("--records", type=Path, required=True, help="out of the tfrecord stage")
    options.add_argument("--params", type=Path, default=Path("params.yaml"))
    options.add_argument("--backbone", default="efficientnet_lite0")
    options.add_argument("--images", type=int, default=2000)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--heads", nargs="+", help="those of params.yaml by default")
    arguments = options.parse_args()
    settings = load_params(arguments.params)
    features, labels = float32_features(arguments.records, arguments.backbone, settings["extract"], arguments.images)
    rounded = cache.quantize(features)
    error = np.abs(rounded.astype(np.float32) - features).max() / np.abs(features).max()
    print(f"{arguments.backbone}: {len(labels):,} x {features.shape[1]:,}, rounding error {error:.1e} of the largest")
    print(f"{'':12s} float32   float16   same predictions")
    truth = labels[len(labels) // 2 :]
    for name in arguments.heads or settings["heads"]:
        accuracies, same = [], []
        for seed in range(arguments.seeds):
            exact, quantized = (predictions(name, settings[name], x, labels, seed) for x in (features, rounded))
            accuracies.append([metrics.top1_accuracy(logits, truth) for logits in (exact, quantized)])
            same.append((exact.argmax(axis=1) == quantized.argmax(axis=1)).mean())
        first, second = np.mean(accuracies, axis=0)
        print(f"{name:12s} {first:.4f}    {second:.4f}    {np.mean(same):.4f}", flush=True)


def predictions(name: str, section: object, features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Trains a head on the first half of the rows and returns its logits on the second."""
    half = len(labels) // 2
    examples = heads.Examples(features[:half], labels[:half], int(labels.max()) + 1, np.arange(half) % FOLDS)
    trainer = heads.lookup(name).Trainer(examples, section, seed)
    best_params = trainer.candidates[0] if len(trainer.candidates) == 1 else cross_validate(trainer).best_params
    return trainer.fit(best_params).logits(features[half:])


def float32_features(shards: Path, name: str, section: extraction.Params, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns pooled features and logits side by side, float32 (n, dim), of the first training images; and labels."""
    from stages.library.networks.weights import build_with_weights

    size_px = extraction.input_size_px(backbones.lookup(name).BACKBONE, section)
    model, _, _ = build_with_weights(name, size_px, section.weights)
    batch_size = extraction.batch_size(section, size_px)
    plan = Plan(size_px, batch_size, section.flip, section.precision)
    forward = runtimes.lookup("tensorflow").compile(model, plan, ()).forward
    preparation = preprocessing.Preprocessing(size_px, section.central_crop, section.resize)
    batches = preprocessing.dataset(tfrecord.find_shards(shards, "train"), preparation, batch_size)
    blocks, labels = [], []
    for batch in batches.take(images // batch_size):  # whole batches, which the graph is made for
        blocks.append(np.hstack(forward(batch["image"])))
        labels.append(batch["label"].numpy())
    return np.concatenate(blocks), np.concatenate(labels)


if __name__ == "__main__":
    main()
