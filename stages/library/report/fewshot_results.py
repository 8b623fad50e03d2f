"""Results of the few-shot stage in the report: read again, in tables, and as a chart with those of others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.library.common import tables
from stages.library.figures.charts import BLUE, DARK_GREY, GREEN, GREY, ORANGE, PURPLE, VERMILION, drawing, png
from stages.library.report import published
from stages.library.report.leaderboard import FEWSHOT
from stages.library.scoring import result_files

HEADINGS = ("head", "images per class", "background", "top-1", "balanced accuracy", "repeats", "n")
COLUMNS: dict[str, type] = {"head": str, "shots": int, "repeat": int, "background": str}
COLUMNS |= {"top1_accuracy": float, "balanced_accuracy": float}
HEADS = [(BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v")]  # repeats beyond five
PUBLISHED = "o", "^", "D", "s"  # hollow


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
    """Returns the results on one data set in the order of `names` (backbone, head, shots), and what is left out."""
    found: list[FewShot] = []
    left_out = []
    for backbone, head, shots in names:
        figures = evaluations / backbone / FEWSHOT / head / str(shots)
        path = metrics / backbone / FEWSHOT / head / f"{shots}.json"
        if not (figures / "fewshot.json").is_file() or not path.is_file():
            continue
        about = result_files.read_fewshot(figures / "fewshot.json")
        if about["dataset"]["sha256"] != dataset_sha256:
            left_out.append(f"{figures} is left out: it was measured on another data set or split")
            continue
        rows = tables.read_csv(figures / "repeats.csv", COLUMNS)
        metrics_file = result_files.read_fewshot_metrics(path)
        for background, numbers in (("with", metrics_file), ("without", metrics_file.get("without_background"))):
            if numbers:
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


def chart(found: Sequence[FewShot], theirs: Sequence[published.Row]) -> bytes:
    """Draws accuracy against images per class on one backbone, a line per head; without background: a second panel.

    Published results with few images of all classes are hollow markers without a line.
    """
    titles = {"with": "all classes", "without": "without background classes"}
    panels = [title for title in titles if any(few.background == title for few in found)] or ["with"]
    heads = list(dict.fromkeys(few.head for few in found))
    theirs = [row for row in theirs if row.shots]
    systems = list(dict.fromkeys((row.system, row.source) for row in theirs))
    sizes = sorted({few.shots for few in found} | {row.shots for row in theirs if row.shots}) or [0]
    step = 0.012 * (sizes[-1] - sizes[0] or 1)  # between the series, so that error bars don't hide each other
    with drawing(1.2 + 4.3 * len(panels), 5) as figure:
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            for i, head in enumerate(heads):
                own = [few for few in found if (few.head, few.background) == (head, panel)]
                points = [[few.numbers["top1_accuracy"][part] for few in own] for part in ("mean", "std")]
                color, marker = HEADS[i % len(HEADS)]
                x = [few.shots + (i - (len(heads) - 1) / 2) * step for few in own]
                axes.errorbar(x, *points, color=color, marker=marker, markersize=5, capsize=3, label=head)
            for i, system in enumerate(systems if panel == "with" else []):
                rows = [row for row in theirs if (row.system, row.source) == system]
                x = [(row.shots or 0) - (i + 1 + len(heads) / 2) * step for row in rows]
                points = [[row.value for row in rows], [row.std or 0 for row in rows]]
                label, marker = f"published: {system[0]}, {system[1]}", PUBLISHED[i % len(PUBLISHED)]
                look = {"color": DARK_GREY, "linestyle": "", "markersize": 6, "markerfacecolor": "white"}
                axes.errorbar(x, *points, marker=marker, label=label, elinewidth=1, capsize=2, **look)
            axes.set_xticks(sizes)
            axes.yaxis.set_major_formatter("{x:.1%}")
            axes.grid(axis="y", color=GREY, linewidth=0.5, alpha=0.6)
            axes.set(xlabel="training images per class", title=titles[panel] if len(panels) > 1 else "")
        grid[0].set_ylabel("test top-1 accuracy ± 1 standard deviation")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(panels), fontsize=8)
        return png(figure)
