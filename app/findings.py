"""What to look at when labels are mended: what the audit found, and the best model's most confident mistakes."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.models import Project
from stages.library.common import artifacts, tables
from stages.library.common.console import UserError
from stages.library.figures import charts
from stages.library.records import dataset_file
from stages.library.records import manifest as manifests
from stages.library.records.manifest import Manifest
from stages.library.report import leaderboard
from stages.library.scoring import prediction_files

KINDS = {
    "label_issues": "Likely label errors",
    "near_duplicates": "Near-duplicates",
    "outliers": "Outliers",
    "mistakes": "Confident mistakes",
}
MOST = 1000  # of each kind; beyond them nothing is likely
MOST_OUTLIERS = 100  # the audit ranks all images
LABEL_ISSUES: dict[str, type] = {"key": str, "likely": str, "label_probability": float, "likely_probability": float}
PAIRS: dict[str, type] = {"key_1": str, "filename_1": str, "key_2": str, "filename_2": str, "distance": float}
OUTLIERS: dict[str, type] = {"key": str, "typicality": float}


class Finding(NamedTuple):
    """An image to look at, and why."""

    key: str
    reason: str = ""
    likely: str = ""  # a class that is worth a key of its own


class Images:
    """The images of a project's records by key, with what the pages say of them."""

    def __init__(self, root: Path):
        records = root / "data" / "tfrecord"
        self.classes: list[str] = dataset_file.read(records / "dataset.json")["classes"]
        self._manifest: Manifest = manifests.read(records)
        self.rows = {key.decode(): row for row, key in enumerate(self._manifest.keys.tolist())}
        self._names = self._manifest.names()

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def label(self, key: str) -> str:
        """Returns an image's class, as the records have it."""
        return self.classes[int(self._manifest.labels[self.rows[key]])]

    def place(self, key: str) -> str:
        """Returns an image's split and name."""
        row = self.rows[key]
        split = self._manifest.paths[int(self._manifest.shards([row])[0])].name.partition("-")[0]
        return f"{split}, {self._names[row].encode(errors='replace').decode()}"

    def encoded(self, key: str) -> bytes:
        """Returns an image's JPEG or PNG."""
        return next(self._manifest.records([self.rows[key]])).encoded


def read(project: Project, images: Images) -> dict[str, list[Finding]]:
    """Returns the findings of each of KINDS, most doubtful first; none where the stage that makes them has not run.

    They are of the first backbone that was audited. UserError where a table is damaged.
    """
    found: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    sha256 = artifacts.sha256_file(project.root / "data" / "tfrecord" / "dataset.json")
    folder, backbones = project.root / "artifacts" / "evaluation", project.settings["backbones"]
    for audit in leaderboard.collect_audits(folder, sha256, backbones)[0][:1]:
        found |= {
            "label_issues": list(_label_issues(audit.figures / "label_issues.csv")),
            "near_duplicates": list(_pairs(audit.figures / "near_duplicates.csv", images)),
            "outliers": list(_outliers(audit.figures / "outliers.csv")),
        }
    if results := project.results():
        found["mistakes"] = list(mistakes(results[0].figures / "predictions.parquet", images))
    return {kind: _each_once(one for one in some if one.key in images)[:MOST] for kind, some in found.items()}


def _each_once(found: Iterable[Finding]) -> list[Finding]:
    """Returns the first finding of each image."""
    by_key: dict[str, Finding] = {}
    for one in found:
        by_key.setdefault(one.key, one)
    return list(by_key.values())


def _label_issues(path: Path) -> Iterator[Finding]:
    for row in tables.read_csv(path, LABEL_ISSUES):
        given, likely = (charts.percent(float(row[f"{name}_probability"])) for name in ("label", "likely"))
        yield Finding(row["key"], f"the label {given}, {row['likely']} {likely}", row["likely"])


def _pairs(path: Path, images: Images) -> Iterator[Finding]:
    for row in tables.read_csv(path, PAIRS):
        for one, other in (("1", "2"), ("2", "1")):
            key = row[f"key_{other}"]
            if key in images and row[f"key_{one}"] in images:
                label = images.label(key)
                reason = f"{float(row['distance']):.2f} from {label}, {images.place(key)}"
                yield Finding(row[f"key_{one}"], reason, label)


def _outliers(path: Path) -> Iterator[Finding]:
    for row in tables.read_csv(path, OUTLIERS)[:MOST_OUTLIERS]:
        yield Finding(row["key"], f"typicality {float(row['typicality']):.2f} of 1")


def mistakes(path: Path, images: Images) -> Iterator[Finding]:
    """Yields the test images that a model takes for another class, most confident first."""
    keys, probabilities = prediction_files.read(path, "probabilities")
    if probabilities.shape[1] != len(images.classes):
        received = f"Received: {probabilities.shape[1]}"
        raise UserError(f"{path} must have {len(images.classes)} classes. {received}. Run: dvc repro")
    for row in np.argsort(-probabilities.max(axis=1), kind="stable").tolist():
        likely = images.classes[int(probabilities[row].argmax())]
        if keys[row] in images and likely != images.label(keys[row]):
            yield Finding(keys[row], f"taken for {likely}, {charts.percent(float(probabilities[row].max()))}", likely)
