"""Turns the images of a data set into TFRecord shards.

Reads `data/raw` (and, for the data sets `folder` and `table`, `dataset.folder`). Writes a folder of
`SPLIT-00000-of-00004.tfrecord`, `manifest.parquet` (where each record stands), `labels.txt`, `dataset.json` (counts,
sizes, pixel statistics, duplicates, groups) and `rejected.csv` (what was left out, and why), and a picture of random
images of each class. `data/corrections.csv` gives single images other labels, or drops them. Costs one decoding of
every image, and for a while twice the shards' space on disk.
"""

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.library.common import artifacts, console, hashing, path_options, tables
from stages.library.common.threads import ahead
from stages.library.duplicates import search
from stages.library.figures import mosaics
from stages.library.preparation import normalisation, splits
from stages.library.preparation.corrections import Corrections
from stages.library.preparation.decoding_process import BATCH_BYTES, MAX_FILES
from stages.library.preparation.decoding_workers import Workers
from stages.library.preparation.normalisation import ImageError, Normalised
from stages.library.preparation.sharding import Spool
from stages.library.preparation.splits import NOWHERE, Split
from stages.library.preparation.summary import Summary
from stages.library.records import manifest as manifests
from stages.library.records.tfrecord import Record
from stages.library.settings import load_params
from stages.library.sources import contract as datasets
from stages.library.sources.contract import SourceImage, Stray


class NameFilter:
    """Glob patterns, at least one of which must match an image's name, in any case; `*` matches slashes too."""

    def __init__(self, patterns: Sequence[str]):
        self._expressions = {name: re.compile(fnmatch.translate(name), re.IGNORECASE) for name in patterns}
        self._unmatched = set(patterns)
        self._example = ""
        self.skipped = 0  # images that no pattern matched

    def takes(self, name: str) -> bool:
        """Tells whether the image of this name is used, and counts those that are not."""
        self._example = min(self._example or name, name)
        matching = {pattern for pattern, expression in self._expressions.items() if expression.match(name)}
        self._unmatched -= matching
        self.skipped += not matching
        return bool(matching)

    def check(self) -> None:
        """Raises UserError where there are images and a pattern matched none of them."""
        if self._example and self._unmatched:
            raise console.UserError(
                "`tfrecord.include` must be patterns that each match an image's name, as in "
                f"{self._example!r:.200}. Received: {', '.join(sorted(self._unmatched))}"
            )


def main() -> None:
    """Runs the stage."""
    parser = console.parser(__doc__, "tfrecord")
    path_options.add(parser, "params", "raw", "corrections", "examples", "out", out="data/tfrecord")
    arguments = parser.parse_args()
    stopwatch = console.Stopwatch()
    settings = load_params(arguments.params)
    dataset, split_params, tfrecord = settings["dataset"], settings["split"], settings["tfrecord"]
    summary, corrections = Summary(), Corrections.load(arguments.corrections)
    with artifacts.new_folder(arguments.out) as folder:
        spool = Spool(folder, tfrecord.shards)
        name_filter = NameFilter(tfrecord.include)
        found = datasets.lookup(dataset.name).read(dataset, arguments.raw)
        used = (item for item in found if isinstance(item, Stray) or name_filter.takes(item.name))
        for item, outcome in console.progress(normalise_all(used), "tfrecord", "images"):
            if isinstance(item, Stray):
                summary.reject(item)
            elif isinstance(outcome, ImageError):
                summary.reject(Stray(item.name, str(outcome), is_expected=True), item.text)
            elif outcome is not None:
                image = outcome.key, outcome.encoded, outcome.format, outcome.height, outcome.width
                record = Record(*image, label=0, text=item.text, filename=item.name)
                spool.add(record)
                known = splits.decided(item, split_params), splits.group_of(item, split_params.group), item.weight
                file = item.place.file if item.place else None
                summary.add(record, outcome.values, *known, file, is_dropped=corrections.drops(record.key))
        name_filter.check()
        summary.check(tfrecord.max_rejected, tfrecord.shards)
        classes = summary.classes()
        together = split_params.near_duplicates == "together"
        pairs = near_duplicates(spool, summary.images.keys) if together else None
        labels = summary.images.labels(classes)
        split = splits.draw(summary.images, labels, split_params, pairs)
        if pairs is not None:
            across, unlike = (int((of[pairs[:, 0]] != of[pairs[:, 1]]).sum()) for of in (split.sides, labels))
            said = f"{len(pairs):,} pairs of near-duplicates, {unlike:,} of them with different labels"
            console.say(f"tfrecord: {said}, {across:,} across official splits")
        if said := corrections.said(summary.images.keys):
            console.say(f"tfrecord: by {arguments.corrections}: {said}")
        kept, weights = corrections.kept(summary.images.keys), summary.images.weights
        placed = Split(np.where(kept, split.sides, NOWHERE), split.units)
        relabelled, split = summary.correct(corrections, split, kept)
        classes = summary.classes()
        content = summary.content(dataset.name, split, name_filter.skipped)
        console.say(*(f"tfrecord: {remark}" for remark in summary.too_small(split)))
        spool.write_shards(classes, placed, weights, relabelled)
        lines = "".join(f"{label}:{text}\n" for label, text in enumerate(classes))  # as the classic image pipelines do
        (folder / "labels.txt").write_text(lines, encoding="utf-8", errors="surrogateescape")
        artifacts.write_json(folder / "dataset.json", content)
        rejected = sorted(summary.rejected, key=lambda found: (found[0], found[1] or 0, found[2]))
        tables.write_csv(folder / "rejected.csv", ("name", "row", "reason"), rejected)
        write_examples(arguments.examples, folder, classes)
    if (groups := content["groups"])["number"]:
        divided = f"; {groups['across_official_split']:,} stand on both sides of the official split"
        shown_groups = f"{groups['number']:,} groups, {groups['images_in_none']:,} images in none"
        console.say(f"tfrecord: {shown_groups}{divided if groups['across_official_split'] else ''}")
    if several := content["duplicates"]["in_several_classes"]:
        console.say(f"tfrecord: {several:,} images stand in several classes, byte for byte")
    sizes = ", ".join(f"{sum(counted.values()):,} {name}" for name, counted in content["counts"].items())
    said = f"{sizes}; {len(classes)} classes; {summary.left_out()}"
    said += f", see {arguments.out / 'rejected.csv'}" if summary.rejected else ""
    said += f"; {name_filter.skipped:,} skipped by `tfrecord.include`" if name_filter.skipped else ""
    stopwatch.close("tfrecord", said, content["images"], following="bottleneck-extract")


def write_examples(path: Path, folder: Path, classes: Sequence[str]) -> None:
    """Draws of each class the images of the smallest random numbers: the same ones in whatever order they came."""
    found = manifests.read(folder)
    numbers = np.array([hashing.uniform(key.decode(), "sample", 0) for key in found.keys.tolist()])
    order = np.lexsort((numbers, found.labels))
    ends = np.cumsum(np.bincount(found.labels, minlength=len(classes)))[:-1]

    def encoded(rows: np.ndarray) -> Iterator[bytes]:
        return (record.encoded for record in found.records(rows[: mosaics.SAMPLES_PER_CLASS]))

    mosaics.write_samples(path, dict(zip(classes, map(encoded, np.split(order, ends)), strict=True)))


def near_duplicates(spool: Spool, keys: Sequence[str]) -> np.ndarray:
    """Returns the rows of pairs of copies, int64 (pairs, 2), among the images of the spool, whose keys are given."""
    rows = spool.order()
    found, _ = search.find("tfrecord", np.array(keys)[rows], (record.encoded for _, record in spool.records()))
    return np.asarray(rows[found])


def normalise_all(
    found: Iterable[SourceImage | Stray],
) -> Iterator[tuple[SourceImage | Stray, Normalised | ImageError | None]]:
    """Yields each item in order with its normalised image, or the error; decoded on all cores.

    Few batches are in memory at once, two for each core and one, for each may be a file of 256 MiB or 100 megapixels.
    """
    cores = os.cpu_count() or 1
    with Workers(cores) as workers:  # closed before the threads are waited for
        for batch, outcomes in ahead(lambda items: (items, normalise(items, workers)), batches(found), cores):
            while batch:
                yield from zip(batch, outcomes, strict=False)
                batch = batch[len(outcomes) :]
                outcomes = normalise(batch, workers) if batch else []


def batches(found: Iterable[SourceImage | Stray]) -> Iterator[list[SourceImage | Stray]]:
    """Yields the items in order, alone, but for small files that come one after another."""
    batch: list[SourceImage | Stray] = []
    batch_bytes = 0
    for item in found:
        size = len(item.content) if isinstance(item, SourceImage) and isinstance(item.content, bytes) else BATCH_BYTES
        if batch and batch_bytes + size > BATCH_BYTES:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(item)
        batch_bytes += size
        if batch_bytes >= BATCH_BYTES or len(batch) == MAX_FILES:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


def normalise(batch: list[SourceImage | Stray], workers: Workers) -> Sequence[Normalised | ImageError | None]:
    """Returns what became of the first items of a batch: the image, its error, or None for what is no image."""
    first = batch[0]
    if isinstance(first, Stray):
        return [None]
    files = [item.content for item in batch if isinstance(item, SourceImage) and isinstance(item.content, bytes)]
    if files:
        return workers.normalise_some(files)
    try:
        return [normalisation.normalise(first.content)]  # pixels that a data set's module has read are no file any more
    except ImageError as error:
        return [error]


if __name__ == "__main__":
    console.run(main)
