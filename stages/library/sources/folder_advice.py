"""What is wrong with a folder that gives no data set, and the remedy."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from stages.library.common.console import UserError
from stages.library.common.named_files import named
from stages.library.sources import class_folders, image_trees
from stages.library.sources.contract import SourceImage, Stray

TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}
LABELS = re.compile("train|label", re.IGNORECASE)  # in the name of one that has labels


class Findings:
    """Counts what a folder holds."""

    def __init__(self, folder: str, items: Iterable[SourceImage | Stray]):
        self.folder, self.images = folder, 0
        self.classes: set[str] = set()
        self.splits: set[str | None] = set()
        self.reasons: Counter[str] = Counter()
        self._within: dict[str, str] = {}  # folders in class folders, with an image in each
        self._places: Counter[tuple[str, ...]] = Counter()  # folders with images in them
        self._tables: list[str] = []
        self._examples: dict[str, str] = {}
        for item in items:
            path = PurePosixPath(item.name)
            if isinstance(item, SourceImage):
                self.images += 1
                self.classes.add(item.text)
                self.splits.add(item.split)
                self._within.setdefault(path.parts[1] if len(path.parts) > 2 else "", item.name)
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
                "`dataset.folder` must hold images of at least 2 classes, as CLASS/image, {train,test}/CLASS/image or "
                f"CLASS/{{train,test}}/image. Received: {self.folder} with {self.images:,} files in "
                f"{len(self.classes)} classes{self._advice()}"
            )
        if self.splits == {None} and class_folders.are_official(self._within):
            of_splits = [name for folder, name in self._within.items() if class_folders.split_named(folder)]
            others = [name for folder, name in self._within.items() if not class_folders.split_named(folder)]
            raise UserError(
                "`dataset.folder`: where class folders hold folders of splits (train, validation and test, or two of "
                f"them), all must, and nothing else. Received: {self.folder} with {of_splits[0]} and "
                f"{others[0] if others else 'a folder without images'}. Move one of them, or rename its folder"
            )
        if self.splits in ({"train"}, {"validation"}, {"test"}, {"validation", "test"}):
            raise UserError(
                "`dataset.folder`: both train and test must hold images of classes, or train and validation. Received: "
                f"{self.folder} with such in {', '.join(sorted(filter(None, self.splits)))} alone{self._one_split()}"
            )

    def _one_split(self) -> str:
        tops = {place[0] for place in self._places if len(place) > 1}
        is_folder = len(tops) == 1 and named(self.folder).is_dir()
        return f". To split these, give {Path(self.folder, *tops)}" if is_folder else ""

    def _advice(self) -> str:
        outside = self.reasons[class_folders.OUTSIDE]
        if self._tables:
            table = min(self._tables, key=lambda name: (name.count("/"), not LABELS.search(name), name))
            if not named(self.folder).is_dir():
                return f". If {table} has their labels, take it out of the archive: dataset.name: table, dataset.table"
            table = str(Path(self.folder, table))
            return f". If {table} has their labels, give it, too: LABELS={table} (dataset.name: table, dataset.table)"
        if inner := self._inner():
            return f". Did you mean {Path(self.folder, *inner)}?"
        if outside:
            return f"; {outside:,} images lie in no class folder: make a folder for each class, or a table of labels"
        if linked := self.reasons[image_trees.LEAVES]:
            example = self._examples[image_trees.LEAVES]
            return f"; {linked:,} are links that leave it, as {example}: give the folder that they lead to, or copy it"
        if hidden := self._examples.get(image_trees.HIDDEN_IMAGES):
            return f"; {hidden} is a {image_trees.HIDDEN_IMAGES}"
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
