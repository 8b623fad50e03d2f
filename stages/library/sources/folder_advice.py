"""What is wrong with a folder that gives no data set, and the remedy."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from stages.library.common.console import UserError
from stages.library.sources import class_folders, image_trees
from stages.library.sources.contract import SourceImage, Stray

TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}


class Findings:
    """Counts what a folder holds."""

    def __init__(self, folder: str, items: Iterable[SourceImage | Stray]):
        self.folder, self.images = folder, 0
        self.classes: set[str] = set()
        self.splits: set[str | None] = set()
        self.reasons: Counter[str] = Counter()
        self._places: Counter[tuple[str, ...]] = Counter()  # folders with images in them
        self._tables: list[str] = []
        self._examples: dict[str, str] = {}
        for item in items:
            path = PurePosixPath(item.name)
            if isinstance(item, SourceImage):
                self.images += 1
                self.classes.add(item.text)
                self.splits.add(item.split)
            else:
                self.reasons[item.reason] += 1
                self._examples.setdefault(item.reason, item.name)
                if path.suffix.lower() in TABLES:
                    self._tables.append(item.name)
            if isinstance(item, SourceImage) or item.reason == class_folders.OUTSIDE:
                self._places[path.parts[:-1]] += 1

    def check(self) -> None:
        """Raises UserError, with the remedy, where there are not two classes, or a split has no images to train on."""
        if len(self.classes) < 2:
            raise UserError(
                "`dataset.folder` must hold images of at least 2 classes, as CLASS/image or {train,test}/CLASS/image. "
                f"Received: {self.folder} with {self.images:,} files in {len(self.classes)} classes{self._advice()}"
            )
        if self.splits in ({"train"}, {"validation"}, {"test"}, {"validation", "test"}):
            raise UserError(
                "`dataset.folder`: both train and test must hold images, or train and validation. Received: "
                f"{self.folder} with images in {', '.join(sorted(filter(None, self.splits)))} alone"
            )

    def _advice(self) -> str:
        outside = self.reasons[class_folders.OUTSIDE]
        hidden = [reason for reason in self.reasons if reason == image_trees.HIDDEN_IMAGES]
        if self._tables:
            table = Path(self.folder, min(self._tables, key=lambda name: (name.count("/"), name)))
            return f". If {table} has their labels: dataset.name: table, dataset.table: {table}"
        if inner := self._inner():
            return f". Did you mean {Path(self.folder, *inner)}?"
        if outside:
            return f"; {outside:,} images lie in no class folder: make a folder for each class, or a table of labels"
        if linked := self.reasons[image_trees.LEAVES]:
            example = self._examples[image_trees.LEAVES]
            return f"; {linked:,} are links that leave it, as {example}: give the folder that they lead to, or copy it"
        if hidden:
            return f"; {self._examples[hidden[0]]} is a {hidden[0]}"
        for reason, count in self.reasons.most_common(1):
            return f"; {count:,} more are left out, as {self._examples[reason]}: {reason}"
        return ""

    def _inner(self) -> tuple[str, ...]:
        """Returns the folders that all images are below, where those in them may be the classes; () where none is."""
        places = list(self._places)
        inner: tuple[str, ...] = ()
        while places and all(len(place) > len(inner) for place in places):
            found = {place[len(inner)] for place in places}
            if len(found) > 1:
                return inner
            inner += (*found,)
        return ()
