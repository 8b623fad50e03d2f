"""Measures what each model of the leaderboard costs on this machine.

That is milliseconds an image, seconds for the features of all images, and
bytes. Writes costs.csv and costs.png, which the report shows; a line joins the
models that no other one beats in both accuracy and time. It is no stage of the
pipeline, whose outs are the same in every run.

example: python -m app.costs
         python -m app.costs --images 200 --out costs
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.models import Model, Project
from app.spinner import spinner
from stages.library.common import artifacts, console, tables, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.evaluation import model_size
from stages.library.figures import pareto
from stages.library.records import dataset_file
from stages.library.records import manifest as manifests

BATCH = 16


class Cost(NamedTuple):
    """What a model costs; times are medians, from JPEG or PNG to probabilities."""

    model: str
    top1_accuracy: float  # on test images
    single_ms: float  # for one image alone
    batch_ms: float  # an image, in batches of 16
    extract_seconds: float  # for the features of all images, at that speed; 0 for a network that is trained on images
    size_bytes: int  # of all weights that predict, in float32, backbone and head


def main() -> None:
    """Runs the program."""
    parser = console.Parser(prog="python -m app.costs", description=__doc__)
    parser.add_argument("--images", type=int, default=64, metavar="N", help="test images to time (default: 64)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: artifacts/costs in the project")
    arguments = parser.parse_args()
    if arguments.images < BATCH:
        parser.error(f"--images must be at least {BATCH}. Received: {arguments.images}")
    with spinner("starting"):
        project = Project.open(arguments.project)
    out = arguments.out or project.root / "artifacts" / "costs"
    costs = measure(project, arguments.images)
    with artifacts.new_folder(out) as folder:
        tables.write_csv(folder / "costs.csv", Cost._fields, costs)
        artifacts.write_bytes(folder / "costs.png", draw(costs))
    console.say(f"{'model':31s} {'top-1':>6s} {'one alone':>10s} {'in batches':>10s} {'features':>9s} {'size':>9s}")
    for cost in costs:
        times = f"{cost.single_ms:7.1f} ms {cost.batch_ms:7.1f} ms {cost.extract_seconds:7.1f} s"
        console.say(f"{cost.model:31s} {cost.top1_accuracy:6.4f} {times} {cost.size_bytes / 1e6:6.1f} MB")
    console.say(
        f"costs: {console.count(len(costs), 'model')}, {out}. "
        f"Next: open artifacts/report/index.html, which shows {out / 'costs.png'}"
    )


def measure(project: Project, count: int) -> list[Cost]:
    """Returns the costs of all evaluated models, best first; UserError where there are none."""
    results = project.results()
    if not results:
        raise UserError(f"{project.root} has no trained model yet. Run: dvc repro")
    encoded = held_out_images(project.root / "data" / "tfrecord", count)
    images = dataset_file.read(project.root / "data" / "tfrecord" / "dataset.json")["images"]
    costs = []
    for result in console.progress(results, "costs", "models"):
        with spinner(f"loading {result.name}"):
            model = project.load(result.name).compiled()
        single, batch = (median_ms(model.predict, encoded, size) for size in (1, BATCH))
        extract = (
            images * median_ms(partial(features, model), encoded, BATCH) / 1000
            if any(part.pretrained_sha256 for part in model.parts)
            else 0.0
        )
        made_of: dict[Path, tuple[str | None, str | None]] = {project.folder(result.name): (None, None)}
        for each in model.heads:
            read = (each.trained.source.backbone, each.trained.features) if each.trained else (None, None)
            made_of[project.folder(each.name)] = read
        size = model_size.in_bytes((folder, *columns) for folder, columns in made_of.items())
        costs.append(Cost(result.name, float(result.metrics["top1_accuracy"]), single, batch, extract, size))
    return costs


def features(model: Model, encoded: Sequence[bytes]) -> object:
    """Returns what a model's pretrained networks alone give for JPEG or PNG images; it must have one."""
    frozen = replace(model, parts=tuple(part for part in model.parts if part.pretrained_sha256))
    return [part.outputs(images) for part, images in zip(frozen.parts, frozen.batches(encoded), strict=True)]


def held_out_images(shards: Path, count: int) -> list[bytes]:
    """Returns so many test images, encoded, over and over where they are few."""
    manifest = manifests.read(shards, ["test"])
    return [record.encoded for record in manifest.records(np.arange(count) % len(manifest.keys))]


def median_ms(run: Callable[[Sequence[bytes]], object], encoded: Sequence[bytes], size: int) -> float:
    """Returns the median milliseconds an image, in batches of `size`; the first call is not counted."""
    batches = [encoded[start : start + size] for start in range(0, len(encoded) - size + 1, size)]
    seconds = []
    for batch in [batches[0], *batches]:
        start = time.perf_counter()
        run(batch)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds[1:])) / size


def draw(costs: Sequence[Cost]) -> bytes:
    """Draws accuracy against milliseconds an image, a point a model, its area by size; returns a PNG."""
    points = []
    for name, accuracy, _, milliseconds, _, size_bytes in costs:
        words = f"{milliseconds:.1f} ms, {size_bytes / 1e6:.0f} MB"
        points.append(pareto.Point(name, accuracy, milliseconds, words, area=30 + 2 * size_bytes / 1e6))
    where = f"measured on {tensorflow_runtime.cores()} cores, {datetime.now().astimezone():%Y-%m-%d}"
    title = "Accuracy against time; line: no other model is both faster and better; area: size"
    return pareto.draw(points, f"milliseconds an image, in batches of {BATCH}; {where}", title)


if __name__ == "__main__":
    console.run(main)
