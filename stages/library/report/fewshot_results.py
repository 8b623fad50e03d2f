"""Results of the few-shot stage, read again for the report: one a backbone, head, number of shots and background."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.library.common import tables
from stages.library.report import published
from stages.library.scoring import result_files

FOLDER = "fewshot"  # of these results among those of a backbone
HEADINGS = ("head", "images per class", "background", "top-1", "mean per class", "repeats", "n")
COLUMNS: dict[str, type] = {"head": str, "shots": int, "repeat": int, "background": str} | dict.fromkeys(
    ("top1_accuracy", "balanced_accuracy"), float
)


@dataclass(frozen=True)
class FewShot:
    """A head on few images of each class."""

    backbone: str
    head: str
    shots: int  # training images of each class
    features: str  # their kind
    repeats: int  # how often the images were chosen
    background: str  # "with" or "without" the classes of clutter
    numbers: result_files.FewShotNumbers  # means and deviations over the repeats
    complete: bool  # whether all classes took part
    rows: Sequence[Mapping[str, str]]  # of repeats.csv


def collect(
    metrics: Path, evaluations: Path, dataset_sha256: str, names: Iterable[tuple[str, str, int]]
) -> tuple[list[FewShot], list[str]]:
    """Reads the results on one data set, where there are any.

    Args:
      metrics: folder of metrics files, such as `BACKBONE/fewshot/HEAD/SHOTS.json`.
      evaluations: folder of the evaluation folders, such as `BACKBONE/fewshot/HEAD/SHOTS`.
      dataset_sha256: of the data set's dataset.json; results on another data set are left out.
      names: backbone, head and shots of those that params.yaml lists.

    Returns:
      The results in the order of the names, with the background classes first, and a sentence on each that is left out.
    """
    found: list[FewShot] = []
    left_out = []
    for backbone, head, shots in names:
        figures = evaluations / backbone / FOLDER / head / str(shots)
        path = metrics / backbone / FOLDER / head / f"{shots}.json"
        if not (figures / "fewshot.json").is_file() or not path.is_file():
            continue
        about = result_files.read_fewshot(figures / "fewshot.json")
        if about["dataset"]["sha256"] != dataset_sha256:
            left_out.append(f"{figures} is left out: it was measured on another data set or split")
            continue
        rows = tables.read_csv(figures / "repeats.csv", COLUMNS)
        metrics_file = result_files.read_fewshot_metrics(path)
        parts: dict[str, result_files.FewShotNumbers] = {"with": metrics_file}
        if "without_background" in metrics_file:
            parts["without"] = metrics_file["without_background"]
        for background, numbers in parts.items():
            own = [row for row in rows if row["background"] == background]
            run = backbone, head, shots, about["features"], about["repeats"], background
            found.append(FewShot(*run, numbers, complete=not about["classes_left_out"], rows=own))
    return found, left_out


def cells(few: FewShot) -> tuple[str, ...]:
    """Returns a result as people read it, a cell for each of `HEADINGS`."""
    accuracies = (few.numbers["top1_accuracy"], few.numbers["balanced_accuracy"])
    shown = (f"{accuracy['mean']:.4f} ± {accuracy['std']:.4f}" for accuracy in accuracies)
    return few.head, str(few.shots), few.background, *shown, str(few.repeats), f"{few.numbers['num_examples']:,}"


def measured(found: Iterable[FewShot]) -> Iterator[published.Measured]:
    """Yields the accuracies that a published one may stand against: of all classes, the background too."""
    for few in found:
        if few.background == "with" and few.complete:
            accuracy = few.numbers["top1_accuracy"]
            about = few.head, few.backbone, few.features, few.shots, "top1_accuracy"
            yield published.Measured(*about, accuracy["mean"], accuracy["std"])


def as_csv(found: Iterable[FewShot]) -> str:
    """Returns every repeat as CSV, for `dvc plots show`."""
    rows = ([few.backbone, *(row[name] for name in COLUMNS)] for few in found for row in few.rows)
    return tables.as_csv(["backbone", *COLUMNS], rows)
