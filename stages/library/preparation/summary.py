"""What one pass over a data set's images tells: counts, sizes, pixel statistics, duplicates, rejects."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.preparation.corrections import DROPPED, Corrections
from stages.library.preparation.image_list import ImageList
from stages.library.preparation.normalisation import Values
from stages.library.preparation.splits import TEST, TRAIN, VALIDATION, Split
from stages.library.records.dataset_file import content_sha256
from stages.library.records.tfrecord import SPLITS, Record
from stages.library.sources.contract import Stray

# What a reason adds to its kind, after a colon; not what it says in brackets, a remedy.
PARTICULARS = re.compile(r"^([^:(]*):.*", re.DOTALL)
MOST_REASONS = 4
FEW_SHARDS = 16  # however few images there are

# What a class without images of a split misses.
FOLLOWS = {
    "train": "no training image, so no network learns it",
    "validation": "no validation image, so it has no part in what validation chooses",
    "test": "no test image, so its recall is not measured",
}


class Summary:
    """Collects, image by image, what dataset.json and rejected.csv say."""

    def __init__(self) -> None:
        self.images = ImageList()
        self.rejected: list[tuple[str, int | None, str]] = []  # name, row of the table, reason
        self._files: dict[str, Counter[str]] = defaultdict(Counter)
        self._sizes: set[tuple[int, int]] = set()
        self._values = Values(minimum=255, maximum=0, total=0, count=0)
        self._unreadable: Counter[str] = Counter()  # by class
        self._lost: list[tuple[str, int | None, str]] = []  # those rejected that should have been images

    def add(
        self,
        record: Record,
        values: Values,
        split: str | None = None,
        group: str | None = None,
        weight: float = 1.0,
        file: str | None = None,
        is_dropped: bool = False,
    ) -> None:
        """Counts an image; `file` is the published file that it stands in, where that holds many (`ImageList.add`).

        A dropped one has its place in the split until `correct`, and is listed as left out.
        """
        self.images.add(record.key, record.filename, record.text, split, group, weight)
        if is_dropped:
            self.rejected.append((record.filename, None, DROPPED))
            return
        if file is not None:
            self._files[file][record.text] += 1
        self._sizes.add((record.height, record.width))
        self._values += values

    def reject(self, stray: Stray, text: str | None = None) -> None:
        """Notes an entry that is left out; `text` is its class if that is known."""
        self.rejected.append((stray.name, stray.row, stray.reason))
        if stray.is_expected:
            self._lost.append(self.rejected[-1])
            self._unreadable.update([text] if text is not None else [])

    def left_out(self) -> str:
        """Returns how many entries were left out, by reason, the most frequent ones first."""
        return f"{len(self.rejected):,} left out" + (f" ({_by_reason(self.rejected)})" if self.rejected else "")

    def classes(self) -> list[str]:
        """Returns the sorted names of all classes, those without a readable image included."""
        return sorted(self.images.classes | set(self._unreadable))

    def check(self, max_rejected: float, shards: int = 1) -> None:
        """Raises UserError where the data set can't be trained and tested on, or has too few images for the shards.

        `max_rejected` is a fraction.
        """
        classes, unreadable = self.classes(), len(self._lost)
        expected = len(self.images) + unreadable
        if len(classes) < 2:
            raise UserError(f"the data set needs images of at least 2 classes. Received: {classes}")
        if unreadable > max_rejected * expected:
            name, row, reason = min(self._lost, key=lambda lost: (lost[1] or 0, lost[0]))
            raise UserError(
                f"{unreadable} of {expected} images can't be read ({_by_reason(self._lost)}), more than "
                f"`tfrecord.max_rejected` = {max_rejected} allows; the first is {name!r}"
                f"{f' in row {row}' if row else ''}: {reason}. Mend or remove them, or raise the limit"
            )
        if empty := [text for text in classes if text not in self.images.classes]:
            raise UserError(f"no image of these classes can be read: {', '.join(empty)}. Mend or remove their folders")
        if shards > (most := max(len(self.images), FEW_SHARDS)):
            raise UserError(
                f"`tfrecord.shards` must be at most {most} for {len(self.images)} images. Received: {shards}"
            )

    def correct(self, corrections: Corrections, split: Split, kept: np.ndarray) -> tuple[dict[str, str], Split]:
        """Makes the images those that corrections leave, bool (n,); returns key -> new class, and the split of these.

        Splits are drawn before, of all images and by their first classes, so that no correction moves another image.
        UserError where a new class is none of the data set's, or a split or all classes but one have no image any more.
        """
        relabelled = corrections.relabelled(self.images.keys, self.images.classes)
        self.images = self.images.corrected(relabelled, kept)
        self._unreadable.clear()  # no file keeps a class that corrections have emptied
        split = Split(split.sides[kept], split.units[kept])
        if len(self.images.classes) < 2:
            left = sorted(self.images.classes)
            raise UserError(f"{corrections.path} must leave images of at least 2 classes. Received: {left}")
        if empty := [name for rank, name in enumerate(SPLITS) if not (split.sides == rank).any()]:
            raise UserError(f"{corrections.path} must leave an image in each split. Without one: {', '.join(empty)}")
        return relabelled, split

    def content(self, name: str, split: Split, skipped: int = 0) -> dict[str, Any]:
        """Returns what dataset.json says; `skipped` counts the images that `tfrecord.include` leaves out."""
        images, classes, values = self.images, self.classes(), self._values
        labels, sides = images.labels(classes), split.sides
        copies, units = (np.unique(ids, return_inverse=True)[1] for ids in (images.numbers, split.units))
        by_copy, by_unit = _present(copies, sides), _present(units, sides)
        divided = images.in_group & (by_unit.sum(axis=1) > 1)[units]
        counts = np.bincount(sides * len(classes) + labels, minlength=len(SPLITS) * len(classes))
        of_copies = np.unique(copies * len(classes) + labels) // len(classes)
        heights, widths = zip(*self._sizes, strict=True)
        entries = zip(sides, images.keys, labels, strict=True)  # NumPy's own numbers: lists of all would be large
        return {
            "name": name,
            "images": len(images),
            "classes": classes,
            "counts": {
                name: dict(zip(classes, row, strict=True))
                for name, row in zip(SPLITS, counts.reshape(len(SPLITS), -1).tolist(), strict=True)
            },
            "files": {file: {text: counted[text] for text in classes} for file, counted in self._files.items()},
            "shape": {"height_px": [min(heights), max(heights)], "width_px": [min(widths), max(widths)]},
            "pixels": {
                "minimum": values.minimum,
                "maximum": values.maximum,
                "mean": round(values.total / values.count, 6),
            },
            "duplicates": {
                "images": len(images) - len(by_copy),
                "across_official_split": int((by_copy[:, TEST] & (by_copy.sum(axis=1) > 1)).sum()),
                "across_validation": int((by_copy[:, TRAIN] & by_copy[:, VALIDATION]).sum()),
                "in_several_classes": int((np.bincount(of_copies) > 1).sum()),
            },
            "groups": {
                "number": len(np.unique(images.groups[images.in_group])),
                "images_in_none": int((~images.in_group).sum()),
                "across_official_split": len(np.unique(units[divided])),
            },
            "rejected": len(self.rejected),
            "skipped": skipped,
            "content_sha256": content_sha256((SPLITS[side], key, classes[label]) for side, key, label in entries),
        }

    def too_small(self, split: Split) -> Iterator[str]:
        """Yields what follows for classes that have no image in a split, or cannot be cross-validated, with names."""
        classes = self.classes()
        labels, sides = self.images.labels(classes), split.sides
        sizes = np.bincount(labels, minlength=len(classes)).tolist()

        def named(missing: np.ndarray) -> str:
            found = [(classes[label], sizes[label]) for label in np.flatnonzero(missing)]
            return console.listed([f"{text} ({size} image{'s' * (size > 1)})" for text, size in found])

        for rank, name in enumerate(SPLITS):
            missing = np.bincount(labels[sides == rank], minlength=len(classes)) == 0
            if missing.any():
                yield f"{FOLLOWS[name]}: {named(missing)}"
        trained = sides != TEST
        units = np.unique(split.units[trained], return_inverse=True)[1]
        of_units = np.unique(units * len(classes) + labels[trained]) % len(classes)
        once = np.bincount(of_units, minlength=len(classes)) == 1
        if once.any():
            yield f"one image or group to train on, so cross-validation never recognises it: {named(once)}"


def _by_reason(entries: Iterable[tuple[str, int | None, str]]) -> str:
    """Returns how many entries there are for each reason, the most frequent ones first."""
    reasons = Counter(PARTICULARS.sub(r"\1", reason) for _, _, reason in entries)
    ordered = sorted(reasons.items(), key=lambda found: (-found[1], found[0]))
    counted = [f"{count:,} {reason}" for reason, count in ordered[:MOST_REASONS]]
    if others := sum(count for _, count in ordered[MOST_REASONS:]):
        counted.append(f"{others:,} for other reasons")
    return "; ".join(counted)


def _present(ids: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Tells on which sides each id stands, bool (ids, splits)."""
    found = np.zeros((ids.max() + 1, len(SPLITS)), bool)
    found[ids, sides] = True
    return found
