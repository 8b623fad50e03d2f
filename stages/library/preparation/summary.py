"""What one pass over a data set's images tells: counts, sizes, pixel statistics, duplicates, rejects."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.preparation.normalisation import Values
from stages.library.records.dataset_file import content_sha256
from stages.library.records.tfrecord import SPLITS, Record


class Summary:
    """Collects, image by image, what dataset.json and rejected.csv say."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._sizes: set[tuple[int, int]] = set()
        self._values = Values(minimum=255, maximum=0, total=0, count=0)
        self._places: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._files: dict[str, Counter[str]] = defaultdict(Counter)
        self._entries: list[tuple[str, str, str]] = []
        self._rejected: list[tuple[str, str]] = []
        self._unreadable: Counter[str] = Counter()

    def add(self, split: str, record: Record, values: Values, file: str | None = None) -> None:
        """Counts an image of a split; `file` is the published file that it stands in, where that holds many."""
        self.counts[split][record.text] += 1
        if file is not None:
            self._files[file][record.text] += 1
        self._sizes.add((record.height, record.width))
        self._values += values
        self._places[record.key].add((split, record.text))
        self._entries.append((split, record.key, record.text))

    def reject(self, name: str, reason: str, text: str | None = None) -> None:
        """Notes an entry that is left out; `text` is its class if it should have been an image."""
        self._rejected.append((name, reason))
        if text is not None:
            self._unreadable[text] += 1

    @property
    def images(self) -> int:
        return len(self._entries)

    @property
    def rejected(self) -> int:
        return len(self._rejected)

    def classes(self) -> list[str]:
        """Returns the sorted names of all classes, those without a readable image included."""
        return sorted({text for counts in self.counts.values() for text in counts} | set(self._unreadable))

    def check(self, max_rejected: float) -> None:
        """Raises UserError where the data set can't be trained and tested on; `max_rejected` is a fraction."""
        if len(self.classes()) < 2:
            raise UserError(f"the data set needs images of at least 2 classes. Received: {self.classes()}")
        unreadable = sum(self._unreadable.values())
        if unreadable > max_rejected * (self.images + unreadable):
            name, reason = min(self._rejected)
            raise UserError(
                f"{unreadable} of {self.images + unreadable} images can't be read, more than `tfrecord.max_rejected` "
                f"= {max_rejected} allows; the first is {name!r}: {reason}. Mend or remove them, or raise the limit"
            )
        if empty := [text for text in self.classes() if not any(self.counts[split][text] for split in SPLITS)]:
            raise UserError(f"no image of these classes can be read: {', '.join(empty)}. Mend or remove their folders")
        if empty := [split for split in SPLITS if not self.counts[split]]:
            raise UserError(
                f"no image fell into: {', '.join(empty)}. Received: {self.images} images. Add some, or change `split`"
            )

    def untrained_classes(self) -> list[str]:
        """Returns the classes without an image in the training split."""
        return [text for text in self.classes() if not self.counts["train"][text]]

    def in_several_classes(self) -> int:
        """Returns the number of different images that stand in more than one class."""
        return sum(len({text for _, text in places}) > 1 for places in self._places.values())

    def content(self, name: str, skipped: int = 0) -> dict[str, Any]:
        """Returns what dataset.json says; sizes in pixels, pixel values in [0, 255] (`normalisation.Values`).

        Args:
          name: of the data set.
          skipped: images that `tfrecord.include` leaves out.

        "content_sha256" is over the split, key and class of every image: two data sets agree in it if and only if
        they hold the same images in the same splits and classes.
        """
        values = self._values
        heights, widths = zip(*self._sizes, strict=True)
        return {
            "name": name,
            "images": self.images,
            "classes": self.classes(),
            "counts": self._by_class(self.counts),
            "files": self._by_class(self._files),
            "shape": {"height_px": [min(heights), max(heights)], "width_px": [min(widths), max(widths)]},
            "pixels": {
                "minimum": values.minimum,
                "maximum": values.maximum,
                "mean": round(values.total / values.count, 6),
            },
            "duplicates": self._duplicates(),
            "rejected": self.rejected,
            "skipped": skipped,
            "content_sha256": content_sha256(self._entries),
        }

    def _by_class(self, counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
        return {group: {text: counted[text] for text in self.classes()} for group, counted in counts.items()}

    def _duplicates(self) -> dict[str, int]:
        splits = [{split for split, _ in places} for places in self._places.values()]
        return {
            "images": self.images - len(self._places),
            "across_official_split": sum("test" in found and len(found) > 1 for found in splits),
            "across_validation": sum({"train", "validation"} <= found for found in splits),
            "in_several_classes": self.in_several_classes(),
        }

    def write_rejected(self, path: Path) -> None:
        """Writes rejected.csv: name, reason; sorted. Bytes of a name that are no UTF-8 are shown as escapes."""
        tables.write_csv(path, ("name", "reason"), sorted(self._rejected))


def write_labels(path: Path, classes: Sequence[str]) -> None:
    """Writes labels.txt, a line `0:airplane` a class, as the classic image pipelines do."""
    lines = (f"{label}:{text}\n" for label, text in enumerate(classes))
    path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
