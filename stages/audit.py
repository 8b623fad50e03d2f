"""Looks for what may be wrong with the data: likely label errors, near-duplicates (also across splits) and outliers.

Reads the TFRecord shards, a backbone's cached features, a head's out-of-fold logits on training + validation and its
predictions on the test split, so that every probability is that of a model which did not see the image. Writes a
folder, nothing in which changes the data:
  label_issues.csv: key, filename, split, label, likely, label_probability, likely_probability; most doubtful first;
  near_duplicates.csv: both images' key, filename, split and label, and their distance in [0, 1]; nearest first;
  outliers.csv: key, filename, split, label, typicality in [0, 1]; least typical first;
  label_issues.png, near_duplicates.png, outliers.png: the first ones of each;
  audit.json: numbers of each and of the images looked at, and the data set.
Costs seconds for thousands of images; the time grows with the square of `audit.max_images`, some minutes at 50,000.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.library import auditing
from stages.library.common import artifacts, console, path_options, tables
from stages.library.common.console import UserError
from stages.library.duplicates import search
from stages.library.features import cache
from stages.library.figures import mosaics
from stages.library.figures.thumbnails import thumbnail
from stages.library.records import manifest as manifests
from stages.library.records.dataset_file import SPLITS
from stages.library.records.manifest import Manifest
from stages.library.scoring import prediction_files
from stages.library.scoring.probabilities import softmax
from stages.library.settings import load_params


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "audit")
    path_options.add(parser, "params", "records", "bottlenecks", "out")
    parser.add_argument("--out-of-fold", type=Path, required=True, metavar="FILE", help="parquet of train-heads")
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="parquet of evaluate")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings: auditing.Params = load_params(arguments.params)["audit"]
    manifest = manifests.read(arguments.records)
    images, probabilities, features = load(arguments, settings, manifest)
    labels, classes = images["label"].cat.codes.to_numpy(np.int64), images["label"].cat.categories
    if single := [classes[label] for label in np.flatnonzero(np.bincount(labels) == 1).tolist()]:
        console.say(f"audit: the label of a class's only image is not checked: {console.listed(single)}")
    issues = auditing.label_issues(labels, probabilities)
    likely = probabilities[issues].argmax(axis=1)
    distances, neighbours = auditing.nearest(features, settings.neighbours)
    encoded = (record.encoded for record in manifest.records(images.index.to_numpy()))
    pairs, apart = search.find("audit", images["key"].to_numpy(), encoded)
    scores = auditing.typicality(distances, neighbours)
    outliers = np.argsort(np.round(scores, 6), kind="stable")
    across, unlike = (int((of[pairs[:, 0]] != of[pairs[:, 1]]).sum()) for of in (images["split"].to_numpy(), labels))
    numbers = {
        "images": len(images),
        "all_images": len(manifest.keys),
        "label_issues": len(issues),
        "near_duplicate_pairs": len(pairs),
        "near_duplicate_pairs_across_splits": across,
        "near_duplicate_pairs_with_different_labels": unlike,
        "dataset": {"sha256": artifacts.sha256_file(arguments.records / "dataset.json")},
    }
    with artifacts.new_folder(arguments.out) as folder:
        doubtful = images.iloc[issues].assign(
            likely=classes[likely],
            label_probability=probabilities[issues, labels[issues]],
            likely_probability=probabilities[issues, likely],
        )
        _write_csv(folder / "label_issues.csv", doubtful)
        both = [images.iloc[pairs[:, side]].add_suffix(f"_{side + 1}").reset_index(drop=True) for side in range(2)]
        _write_csv(folder / "near_duplicates.csv", pd.concat(both, axis=1).assign(distance=apart))
        _write_csv(folder / "outliers.csv", images.iloc[outliers].assign(typicality=scores[outliers]))
        shown = [rows[: settings.images] for rows in (issues, pairs, outliers)]
        write_images(folder, images, probabilities, manifest, shown)
        artifacts.write_json(folder / "audit.json", numbers)
    found = console.count(len(issues), "likely label error"), console.count(len(pairs), "pair")
    what = f"{', '.join(found)} of near-duplicates, {unlike:,} of them with "
    what += f"different labels, {across:,} across splits"
    stopwatch.close("audit", f"{what}; see {arguments.out}", len(images), following="report")


def load(
    arguments: argparse.Namespace, settings: auditing.Params, manifest: Manifest
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Returns the images to look at by number of record, probabilities float32 (n, classes), features float16 (n, dim).

    UserError where the inputs don't belong together.
    """
    parts = [cache.load(arguments.bottlenecks, [split], "bottleneck") for split in SPLITS]
    trained, logits = prediction_files.read(arguments.out_of_fold, "logits")
    tested, predicted = prediction_files.read(arguments.predictions, "probabilities")
    keys = np.concatenate([part.keys for part in parts])
    if not (manifest.keys.astype(str).tolist() == keys.tolist() == [*trained, *tested]):
        raise UserError(f"{arguments.out_of_fold} and {arguments.records} are of different images. Run: dvc repro")
    probabilities = np.concatenate([softmax(logits), predicted])
    known = np.flatnonzero(np.isfinite(probabilities).all(axis=1))  # of some a head has only trained on, never scored
    rows = known[auditing.sample(keys[known], settings)]
    splits = np.repeat(SPLITS, [len(part.keys) for part in parts])
    columns = {"key": keys, "filename": np.array(manifest.names(), object), "split": splits.astype(object)}
    images = pd.DataFrame(columns, dtype=object)  # a name need not be UTF-8
    classes = pd.Index(parts[0].source.classes, dtype=object)
    images["label"] = pd.Categorical.from_codes(np.concatenate([part.labels for part in parts]), classes)
    return images.iloc[rows], probabilities[rows], auditing.rows_of([part.values for part in parts], rows)


def write_images(
    folder: Path, images: pd.DataFrame, probabilities: np.ndarray, manifest: Manifest, shown: Sequence[np.ndarray]
) -> None:
    """Writes an image each of likely label errors, pairs and outliers, whose rows of what `load` returns are given."""
    issues, pairs, outliers = shown
    rows = np.unique(np.concatenate([issues, pairs.ravel(), outliers]))
    records = manifest.records(images.index.to_numpy()[rows])
    pixels = {row: thumbnail(found.encoded, mosaics.CARD_PX) for row, found in zip(rows, records, strict=True)}
    labels, classes = images["label"], images["label"].cat.categories.to_list()

    def card(row: int) -> mosaics.Card:
        filename = images["filename"].iloc[row]
        return mosaics.card(pixels[row], filename, labels.iloc[row], classes, probabilities[row])

    def tile(row: int) -> mosaics.Tile:
        return mosaics.Tile(pixels[row], tuple(images.iloc[row][["label", "split", "filename"]]))

    def title(kind: str, order: str, found: np.ndarray) -> str:
        return f"{kind}, {order}" if len(found) else f"{kind}: none found"

    order = "most doubtful first: what the model finds likely; bold: the given label"
    cards = list(map(card, issues))
    mosaics.write_predictions(folder / "label_issues.png", title("Likely label errors", order, issues), cards, "likely")
    for name, kind, order, groups in (
        ("near_duplicates", "Near-duplicates", "nearest first: label, split, file", pairs),
        ("outliers", "Outliers", "least typical first: label, split, file", outliers[:, None]),
    ):
        tiles = [[tile(row) for row in group] for group in groups]
        mosaics.write_gallery(folder / f"{name}.png", title(kind, order, groups), tiles)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    rows = table.itertuples(index=False, name=None)
    shown = ([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    tables.write_csv(path, table.columns, shown)


if __name__ == "__main__":
    console.run(main)
