"""Lays images out in two dimensions by their features, on a page that works offline.

Reads the TFRecord shards, a backbone's cached features, a head's predictions of images that it did not see, and what
the audit found. Writes a folder:
  index.html: the map; zoom, and pointing at an image shows it; colours tell class, split, mistakes, the audit's finds;
  map.csv: key, filename, split, label, prediction, confidence, audit, x and y in [0, 1]; in the order of the records.
Costs seconds for thousands of images, half a minute for `map.landmarks` of 5,000, whatever else there is.
"""

import argparse
from pathlib import Path

import numpy as np

from stages.library.common import artifacts, console, path_options, tables
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.mapping import layout, page, tiles
from stages.library.mapping.page import Colouring
from stages.library.records import dataset_file
from stages.library.records import manifest as manifests
from stages.library.records.dataset_file import SPLITS
from stages.library.records.manifest import Manifest
from stages.library.scoring import prediction_files
from stages.library.scoring.probabilities import softmax
from stages.library.settings import load_params

FOUND = {"likely label error": ("label_issues", ["key"]), "near-duplicate": ("near_duplicates", ["key_1", "key_2"])}
OUTLIER, OUTLIERS = "outlier", 0.01  # the least typical share of the images
MISTAKE = "no", "yes", "not predicted"  # the last: of images that a head has only trained on
COLUMNS = "key", "filename", "split", "label", "prediction", "confidence", "audit", "x", "y"


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "map")
    path_options.add(parser, "params", "records", "bottlenecks", "out")
    parser.add_argument("--out-of-fold", type=Path, required=True, metavar="FILE", help="parquet of train-heads")
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="parquet of evaluate")
    parser.add_argument("--audit", type=Path, required=True, metavar="FOLDER", help="tables of audit")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings: layout.Params = load_params(arguments.params)["map"]
    manifest = manifests.read(arguments.records)
    features = cache.load(arguments.bottlenecks, SPLITS, "bottleneck")
    probabilities = predicted(arguments, manifest, features.keys)
    rows = layout.sample(features.keys, settings.max_images, "map", settings.seed)
    with console.notice("map: laying out"):
        places = layout.lay_out(features.values[rows], features.keys[rows], settings)
    rows, places = rows[near := page.order(places)], places[near]
    classes, labels, probabilities = features.source.classes, features.labels[rows], probabilities[rows]
    known = np.isfinite(probabilities).all(axis=1)
    chosen = np.where(known, np.nan_to_num(probabilities).argmax(axis=1), -1)
    names, found = np.array(manifest.names(), object)[rows], findings(arguments.audit, features.keys[rows])
    kinds, kind = np.unique(found, return_inverse=True)  # "" comes first, where it is there
    splits = features.splits[rows]
    colourings = [
        Colouring("Class", classes, labels),
        Colouring("Split", SPLITS, np.select([splits == split for split in SPLITS], range(len(SPLITS)))),
        Colouring("Mistake", MISTAKE, np.select([~known, chosen == labels], [2, 0], 1), quiet=0),
        Colouring("Audit", [name or "nothing found" for name in kinds], kind, quiet=None if kinds[0] else 0),
    ]
    confidences = [float(row[index]) if index >= 0 else None for row, index in zip(probabilities, chosen, strict=True)]
    answers = [classes[index] if index >= 0 else None for index in chosen]
    shape = dataset_file.read(arguments.records / "dataset.json")["shape"]
    sheets = tiles.write(
        lambda: (record.encoded for record in console.progress(manifest.records(rows), "map", "images", len(rows))),
        len(rows),
        max(shape["height_px"][1], shape["width_px"][1]),
    )
    facts = f"{len(rows):,} of {console.count(len(features.keys), 'image')} in {len(classes):,} classes. What the "
    facts += f"features of {features.source.backbone} find alike lies side by side. Predictions are those of a head "
    facts += "that did not see the image."
    said = [shown(*pair) for pair in zip(answers, confidences, strict=True)]
    title = f"Map of the images: {features.source.backbone}"
    html = page.render(title, facts, names.tolist(), places, colourings, said, sheets)
    columns = features.keys[rows], names, splits, [classes[label] for label in labels], answers, confidences, found
    with artifacts.new_folder(arguments.out) as folder:
        artifacts.write_bytes(folder / "index.html", html.encode())
        lines = [(*cells, *place) for *cells, place in zip(*columns, places, strict=True)]
        tables.write_csv(folder / "map.csv", COLUMNS, (map(_cell, lines[row]) for row in np.argsort(rows)))
    what = f"{console.count(len(rows), 'image')}, a page of {len(html) / 1e6:.1f} MB: {arguments.out / 'index.html'}"
    stopwatch.close("map", what, len(rows), following="report")


def predicted(arguments: argparse.Namespace, manifest: Manifest, keys: np.ndarray) -> np.ndarray:
    """Returns probabilities, float32 (n, classes), of all images, NaN where a head has only trained on them.

    UserError where the inputs don't belong together.
    """
    trained, logits = prediction_files.read(arguments.out_of_fold, "logits")
    tested, probabilities = prediction_files.read(arguments.predictions, "probabilities")
    if not (manifest.keys.astype(str).tolist() == keys.tolist() == [*trained, *tested]):
        raise UserError(f"{arguments.out_of_fold} and {arguments.records} are of different images. Run: dvc repro")
    return np.concatenate([softmax(logits), probabilities])


def findings(audit: Path, keys: np.ndarray) -> np.ndarray:
    """Returns what the audit's tables say of images, by their keys: names joined by "and", or "", object (n,)."""
    found = {}
    for name, (file, columns) in FOUND.items():
        table = tables.read_csv(audit / f"{file}.csv", dict.fromkeys(columns, str))
        found[name] = {row[column] for row in table for column in columns}
    outliers = [row["key"] for row in tables.read_csv(audit / "outliers.csv", {"key": str})]
    found[OUTLIER] = set(outliers[: round(OUTLIERS * len(outliers))])
    return np.array([" and ".join(name for name, those in found.items() if key in those) for key in keys], object)


def shown(answer: str | None, confidence: float | None) -> str:
    """Returns a prediction as people read it; only what is sure is 100%."""
    if answer is None or confidence is None:
        return MISTAKE[2]
    return f"{answer}, " + (">99.9%" if 0.9995 <= confidence < 1 else f"{confidence:.1%}")


def _cell(cell: object) -> object:
    return f"{cell:.6g}" if isinstance(cell, float) else cell


if __name__ == "__main__":
    console.run(main)
