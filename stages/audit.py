"""Looks for what may be wrong with the data: likely label errors, near-duplicates (also across splits) and outliers.

Reads the TFRecord shards, a backbone's cached features, a head's out-of-fold logits on training + validation and its
predictions on the test split, so that every probability is that of a model which did not see the image. Writes a
folder, nothing in which changes the data:
  label_issues.csv: key, filename, split, label, likely, label_probability, likely_probability; most doubtful first;
  near_duplicates.csv: both images' key, filename, split and label, and their distance; nearest first;
  outliers.csv: key, filename, split, label, typicality in [0, 1]; least typical first;
  label_issues.png, near_duplicates.png, outliers.png: the first ones of each;
  audit.json: numbers of each and of the images looked at, and the data set.
Costs seconds for thousands of images; the time grows with the square of `audit.max_images`, some minutes at 50,000.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library import auditing
from stages.library.common import artifacts, console, tables
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.figures import galleries, mosaics
from stages.library.figures.thumbnails import thumbnail
from stages.library.records import manifest as manifests
from stages.library.records.dataset_file import SPLITS
from stages.library.records.manifest import Manifest
from stages.library.scoring.probabilities import softmax
from stages.library.settings import load_params

LIKELIEST = 3


@dataclass(frozen=True)
class Looked:
    """The images that are looked at, a row each."""

    table: pd.DataFrame  # key, filename, split, label (class name), row (number of the record over all shards)
    classes: tuple[str, ...]
    labels: np.ndarray  # int64 (n,)
    probabilities: np.ndarray  # float32 (n, classes), by models that did not see the image
    features: np.ndarray  # float16 (n, dim), pooled
    manifest: Manifest  # of all splits


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "audit")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--records", type=Path, default=Path("data/tfrecord"))
    parser.add_argument("--bottlenecks", type=Path, required=True)
    parser.add_argument("--out-of-fold", type=Path, required=True, help="parquet of train-heads")
    parser.add_argument("--predictions", type=Path, required=True, help="parquet of evaluate")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings: auditing.Params = load_params(arguments.params)["audit"]
    looked, total = load(arguments, settings)
    issues = auditing.label_issues(looked.labels, looked.probabilities)
    distances, neighbours = auditing.nearest(looked.features, settings.neighbours)
    pairs, apart = auditing.near_duplicates(distances, neighbours, settings.near_duplicate)
    scores = auditing.typicality(distances, neighbours)
    outliers = auditing.outliers(scores, settings.images)
    splits = looked.table["split"].to_numpy()
    across = int((splits[pairs[:, 0]] != splits[pairs[:, 1]]).sum())
    numbers = {
        "images": len(looked.labels),
        "all_images": total,
        "label_issues": len(issues),
        "near_duplicate_pairs": len(pairs),
        "near_duplicate_pairs_across_splits": across,
        "dataset": {"sha256": artifacts.sha256_file(arguments.records / "dataset.json")},
    }
    with artifacts.new_folder(arguments.out) as folder:
        write_tables(folder, looked, issues, pairs, apart, scores)
        shown = (rows[: settings.images] for rows in (issues, pairs, outliers))
        write_images(folder, looked, *shown)
        artifacts.write_json(folder / "audit.json", numbers)
    what = f"{len(issues):,} likely label errors, {len(pairs):,} near-duplicates, {across:,} of them across splits"
    stopwatch.close("audit", f"{what}; see {arguments.out}", len(looked.labels), following="report")


def load(arguments: argparse.Namespace, settings: auditing.Params) -> tuple[Looked, int]:
    """Returns the images to look at and the number of all; UserError where the inputs don't belong together."""
    parts = [cache.load(arguments.bottlenecks, [split], "bottleneck") for split in SPLITS]
    keys, probabilities = zip(
        read(arguments.out_of_fold, "logits"), read(arguments.predictions, "probabilities"), strict=True
    )
    manifest = manifests.read(arguments.records)
    columns = {"key": manifest.keys.astype(str), "filename": manifest.names()}
    table = pd.DataFrame(columns, dtype=object)  # a name need not be UTF-8
    found = np.concatenate([part.keys for part in parts])
    if not (table["key"].to_list() == found.tolist() == np.concatenate(keys).tolist()):
        raise UserError(f"{arguments.out_of_fold} and {arguments.records} are of different images. Run: dvc repro")
    classes = np.array(parts[0].source.classes, object)
    labels = np.concatenate([part.labels for part in parts])
    table["split"] = np.repeat(SPLITS, [len(part.keys) for part in parts])
    table["label"] = classes[labels]
    table["row"] = np.arange(len(table))
    by_row = np.concatenate([softmax(probabilities[0]), probabilities[1]])
    known = np.flatnonzero(np.isfinite(by_row).all(axis=1))  # of some a head has only trained on, never scored
    chosen = known[auditing.sample(found[known], settings)]
    features = np.concatenate([part.values for part in parts])[chosen]
    return Looked(table.iloc[chosen], tuple(classes), labels[chosen], by_row[chosen], features, manifest), len(found)


def read(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the keys, object (n,), and a column of lists as float32 (n, classes)."""
    try:
        table = pq.read_table(path, columns=["key", column])
        values = table[column].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        return np.array(table["key"].to_pylist(), object), values.astype(np.float32)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} can't be read ({error}). Run: dvc repro -f") from error


def write_tables(
    folder: Path, looked: Looked, issues: np.ndarray, pairs: np.ndarray, distances: np.ndarray, scores: np.ndarray
) -> None:
    """Writes the three CSV files; `distances` are those of the pairs, float64 (pairs,)."""
    names = np.array(looked.classes, object)
    about = looked.table.drop(columns="row").reset_index(drop=True)
    likely = looked.probabilities[issues].argmax(axis=1)
    table = about.iloc[issues].assign(
        likely=names[likely],
        label_probability=looked.probabilities[issues, looked.labels[issues]],
        likely_probability=looked.probabilities[issues, likely],
    )
    _write_csv(folder / "label_issues.csv", table)
    both = [about.iloc[pairs[:, side]].add_suffix(f"_{side + 1}").reset_index(drop=True) for side in range(2)]
    _write_csv(folder / "near_duplicates.csv", pd.concat(both, axis=1).assign(distance=distances))
    order = auditing.outliers(scores, len(scores))
    _write_csv(folder / "outliers.csv", about.iloc[order].assign(typicality=scores[order]))


def write_images(folder: Path, looked: Looked, issues: np.ndarray, pairs: np.ndarray, outliers: np.ndarray) -> None:
    """Writes the three images of some rows each."""
    wanted = looked.table["row"].to_numpy()[np.unique(np.concatenate([issues, pairs.ravel(), outliers]))]
    records = looked.manifest.records(wanted)
    pixels = {
        row: thumbnail(found.encoded, mosaics.CARD_PX) for row, found in zip(wanted.tolist(), records, strict=True)
    }
    names, table = looked.classes, looked.table.reset_index(drop=True)

    def card(row: int) -> mosaics.Card:
        likeliest = np.argsort(-looked.probabilities[row], kind="stable")[:LIKELIEST]
        bars = [(names[label], float(looked.probabilities[row, label])) for label in likeliest]
        return mosaics.Card(pixels[int(table["row"][row])], table["label"][row], bars)

    def tile(row: int) -> galleries.Tile:
        line = table.iloc[row]
        return galleries.Tile(pixels[int(line["row"])], (line["label"], line["split"], line["filename"]))

    def title(kind: str, order: str, found: np.ndarray) -> str:
        return f"{kind}, {order}" if len(found) else f"{kind}: none found"

    order = "most doubtful first: the given label, and the classes that the model finds likely"
    cards = [card(row) for row in issues]
    mosaics.write_predictions(folder / "label_issues.png", title("Likely label errors", order, issues), cards)
    for name, kind, order, rows in (
        ("near_duplicates", "Near-duplicates", "nearest first: label, split, file", pairs),
        ("outliers", "Outliers", "least typical first: label, split, file", outliers[:, None]),
    ):
        groups = [[tile(row) for row in group] for group in rows]
        galleries.write(folder / f"{name}.png", title(kind, order, rows), groups)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    rows = table.itertuples(index=False, name=None)
    shown = ([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    tables.write_csv(path, table.columns, shown)


if __name__ == "__main__":
    console.run(main)
