"""Measures what each model of the leaderboard costs on this machine.

That is milliseconds a picture and bytes. Writes costs.csv and costs.png, in
which a line joins the models that no other one beats in both accuracy and time.
It is no stage of the pipeline, whose outs are the same in every run.

example: python -m app.costs
         python -m app.costs --pictures 200 --out costs
"""

import argparse
import csv
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np

from app.models import Model, Project
from app.spinner import spinner
from stages.library import artifacts, console, plots, records, training_keys
from stages.library.console import UserError

BATCH = 16
NOT_PREDICTING = {"curve.csv", "cross_validation.json", "last.weights.h5", "variables.csv"}
NOT_PREDICTING |= {training_keys.OF_HEAD, training_keys.OF_NETWORK}
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
      model: its name.
      top1_accuracy: on test pictures.
      single_ms: milliseconds for one picture alone, from JPEG or PNG to probabilities, median.
      batch_ms: milliseconds a picture in batches of 16, median.
      size_bytes: of all weights that predict, in float32, backbone and head.
    """

    model: str
    top1_accuracy: float
    single_ms: float
    batch_ms: float
    size_bytes: int


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(
        prog="python -m app.costs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=64, metavar="N", help="test pictures to time (default: 64)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: artifacts/costs in the project")
    arguments = parser.parse_args()
    if arguments.pictures < BATCH:
        parser.error(f"--pictures must be at least {BATCH}. Received: {arguments.pictures}")
    project = Project.open(arguments.project)
    out = arguments.out or project.root / "artifacts" / "costs"
    costs = measure(project, arguments.pictures)
    with artifacts.new_folder(out) as folder:
        artifacts.write_bytes(folder / "costs.csv", as_csv(costs).encode())
        artifacts.write_bytes(folder / "costs.png", draw(costs))
    print(f"{'model':36s} {'top-1':>7s} {'one alone':>10s} {'in batches':>11s} {'size':>9s}")
    for cost in costs:
        times = f"{cost.single_ms:7.1f} ms {cost.batch_ms:8.1f} ms"
        print(f"{cost.model:36s} {cost.top1_accuracy:7.4f} {times} {cost.size_bytes / 1e6:6.1f} MB")
    print(f"costs: {len(costs)} models. The picture: {out / 'costs.png'}")


def measure(project: Project, count: int) -> list[Cost]:
    """Returns the costs of all evaluated models, best first.

    Raises:
      UserError: there are no models.
    """
    results = project.results()
    if not results:
        raise UserError(f"{project.root} has no trained model yet. Run: dvc repro")
    encoded = list(islice(held_out_pictures(project.root / "data" / "tfrecord"), count))
    costs = []
    for result in console.progress(results, "costs", "models"):
        with spinner(f"loading {result.name}"):
            model = project.load(result.name)
        single, batch = timed(model, encoded)
        size = size_bytes(model, project.folder(result.name))
        costs.append(Cost(result.name, float(result.metrics["top1_accuracy"]), single, batch, size))
    return costs


def held_out_pictures(shards: Path) -> Iterator[bytes]:
    """Yields the test pictures, encoded, over and over where they are few."""
    paths = records.find_shards(shards, "test")
    while True:
        for path in paths:
            yield from (record.encoded for record in records.read_shard(path))


def timed(model: Model, encoded: Sequence[bytes]) -> tuple[float, float]:
    """Returns the median milliseconds a picture, one at a time and in batches; the first of each is not counted."""

    def median(size: int) -> float:
        batches = [encoded[start : start + size] for start in range(0, len(encoded) - size + 1, size)]
        seconds = []
        for batch in [batches[0], *batches]:
            start = time.perf_counter()
            model.predict(batch)
            seconds.append(time.perf_counter() - start)
        return 1000 * float(np.median(seconds[1:])) / size

    return median(1), median(BATCH)


def size_bytes(model: Model, folder: Path) -> int:
    """Returns the bytes of what predicts: the files of the model, and its backbone's variables in float32."""
    own = sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name not in NOT_PREDICTING)
    return own + (FLOAT32_BYTES * model.backbone.count_params() if model.backbone is not None else 0)


def frontier(costs: Sequence[Cost]) -> list[Cost]:
    """Returns the models that no other beats in both accuracy and time in batches, the fastest first."""
    found: list[Cost] = []
    for cost in sorted(costs, key=lambda cost: (cost.batch_ms, -cost.top1_accuracy)):
        if not found or cost.top1_accuracy > found[-1].top1_accuracy:
            found.append(cost)
    return found


def as_csv(costs: Sequence[Cost]) -> str:
    """Returns the table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Cost)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(cost) for cost in costs)
    return text.getvalue()


def draw(costs: Sequence[Cost]) -> bytes:
    """Draws accuracy against milliseconds a picture, a point a model, its area by size; returns a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    best = frontier(costs)
    names = [plots.shorten(cost.model, 40) for cost in costs]
    with plots.style(names):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([cost.batch_ms for cost in best], [cost.top1_accuracy for cost in best], color=plots.GREY, zorder=1)
        for cost in costs:
            color, marker = (plots.BLUE, "o") if cost in best else (plots.DARK_GREY, "D")
            area = 30 + 2 * cost.size_bytes / 1e6
            axes.scatter(cost.batch_ms, cost.top1_accuracy, s=area, color=color, marker=marker, alpha=0.8, zorder=2)
        # Names in a column beside the points: the heads of one backbone take the same time and would hide each other.
        order = sorted(range(len(costs)), key=lambda row: costs[row].top1_accuracy)
        heights = np.linspace(0.03, 0.97, len(costs)) if len(costs) > 1 else [0.5]
        for row, height in zip(order, heights, strict=True):
            cost = costs[row]
            axes.annotate(
                f"{names[row]}  {cost.top1_accuracy:.1%}, {cost.batch_ms:.1f} ms, {cost.size_bytes / 1e6:.0f} MB",
                (cost.batch_ms, cost.top1_accuracy),
                (1.03, height),
                textcoords="axes fraction",
                fontsize=8,
                va="center",
                arrowprops={"arrowstyle": "-", "color": plots.GREY, "linewidth": 0.8, "relpos": (0, 0.5)},
                annotation_clip=False,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=f"milliseconds a picture, in batches of {BATCH}", ylabel="test top-1 accuracy")
        axes.set_title("Accuracy against cost; line: no other model is both faster and better; area: size")
        axes.yaxis.set_major_formatter("{x:.1%}")
        axes.grid(color=plots.GREY, linewidth=0.5, alpha=0.6)
        return plots.png(figure)


if __name__ == "__main__":
    console.run(main)
