"""What one pass over a data set's images tells: counts, sizes, pixel statistics, duplicates, rejects."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from stages.library.common.console import UserError
from stages.library.preparation.normalisation import Values
from stages.library.records.dataset_file import content_sha256
from stages.library.records.tfrecord import SPLITS, Record
from stages.library.sources.contract import Stray

# What a reason adds to its kind, after a colon; not what it says in brackets, a remedy.
PARTICULARS = re.compile(r"^([^:(]*):.*", re.DOTALL)
MOST_REASONS = 4


class Summary:
    """Collects, image by image, what dataset.json and rejected.csv say."""

    def __init__(self) -> None:
        self.rejected: list[tuple[str, int | None, str]] = []  # name, row of the table, reason
        self._images: list[tuple[str, str, str]] = []  # split, key and class
        self._files: dict[str, Counter[str]] = defaultdict(Counter)
        self._sizes: set[tuple[int, int]] = set()
        self._values = Values(minimum=255, maximum=0, total=0, count=0)
        self._unreadable: Counter[str] = Counter()  # by class
        self._lost: list[tuple[str, int | None, str]] = []  # those rejected that should have been images

    def add(self, split: str, record: Record, values: Values, file: str | None = None) -> None:
        """Counts an image of a split; `file` is the published file that it stands in, where that holds many."""
        self._images.append((split, record.key, record.text))
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
        reasons = Counter(PARTICULARS.sub(r"\1", reason) for _, _, reason in self.rejected)
        ordered = sorted(reasons.items(), key=lambda found: (-found[1], found[0]))
        counted = [f"{count:,} {reason}" for reason, count in ordered[:MOST_REASONS]]
        if others := sum(count for _, count in ordered[MOST_REASONS:]):
            counted.append(f"{others:,} for other reasons")
        return f"{reasons.total():,} left out" + (f" ({'; '.join(counted)})" if counted else "")

    def classes(self) -> list[str]:
        """Returns the sorted names of all classes, those without a readable image included."""
        return sorted({text for _, _, text in self._images} | set(self._unreadable))

    def check(self, max_rejected: float) -> None:
        """Raises UserError where the data set can't be trained and tested on; `max_rejected` is a fraction."""
        classes, unreadable = self.classes(), len(self._lost)
        expected = len(self._images) + unreadable
        if len(classes) < 2:
            raise UserError(f"the data set needs images of at least 2 classes. Received: {classes}")
        if unreadable > max_rejected * expected:
            name, row, reason = min(self._lost, key=lambda lost: (lost[1] or 0, lost[0]))
            raise UserError(
                f"{unreadable} of {expected} images can't be read, more than `tfrecord.max_rejected` = {max_rejected} "
                f"allows; the first is {name!r}{f' in row {row}' if row else ''}: {reason}. Mend or remove them, or "
                "raise the limit"
            )
        splits, readable = {split for split, _, _ in self._images}, {text for _, _, text in self._images}
        if empty := [text for text in classes if text not in readable]:
            raise UserError(f"no image of these classes can be read: {', '.join(empty)}. Mend or remove their folders")
        if empty := [split for split in SPLITS if split not in splits]:
            raise UserError(
                f"no image fell into: {', '.join(empty)}. Received: {len(self._images)} images. Add some, or change "
                "`split`"
            )

    def content(self, name: str, skipped: int = 0) -> dict[str, Any]:
        """Returns what dataset.json says; `skipped` counts the images that `tfrecord.include` leaves out."""
        counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        places: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for split, key, text in self._images:
            counts[split][text] += 1
            places[key].add((split, text))
        splits = [{split for split, _ in found} for found in places.values()]
        classes, values = self.classes(), self._values
        heights, widths = zip(*self._sizes, strict=True)

        def by_class(groups: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
            return {group: {text: counted[text] for text in classes} for group, counted in groups.items()}

        return {
            "name": name,
            "images": len(self._images),
            "classes": classes,
            "counts": by_class(counts),
            "files": by_class(self._files),
            "shape": {"height_px": [min(heights), max(heights)], "width_px": [min(widths), max(widths)]},
            "pixels": {
                "minimum": values.minimum,
                "maximum": values.maximum,
                "mean": round(values.total / values.count, 6),
            },
            "duplicates": {
                "images": len(self._images) - len(places),
                "across_official_split": sum("test" in found and len(found) > 1 for found in splits),
                "across_validation": sum({"train", "validation"} <= found for found in splits),
                "in_several_classes": sum(len({text for _, text in found}) > 1 for found in places.values()),
            },
            "rejected": len(self.rejected),
            "skipped": skipped,
            "content_sha256": content_sha256(self._images),
        }
