"""Says which images to label next: those that a model is unsure about.

They are unlike one another, and the first ones come first, each with the
likeliest class and by how much that is before the next one. Images of the data
set, and copies, are passed over.

example: python -m app.suggest unlabelled/ --number 50 --csv > next.csv
"""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from app import inputs, suggestion
from app.inputs import Input
from app.models import Model, Project
from app.predict import FEW
from app.spinner import spinner
from stages.library.common import console, tables, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.features import cache, joined
from stages.library.preparation.decoding_workers import Workers
from stages.library.preparation.normalisation import Normalised
from stages.library.records import manifest as manifests

COLUMNS = "rank", "file", "class", "probability", "margin"


@dataclass
class Pool:
    """Unlabelled images that a model has looked at, and what is left out of them."""

    names: list[str] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)  # float16 (n, dim) of each batch
    probabilities: list[np.ndarray] = field(default_factory=list)  # float32 (n, classes)
    known: int = 0  # images of the data set, and copies
    unreadable: int = 0


def main() -> None:
    """Runs the program; exit status 1 where an image could not be read, 2 where the command line is wrong."""
    arguments = parse_arguments()
    with Workers(1) as workers:
        workers.prepare()
        suggest(arguments, workers)


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    parser = console.Parser(prog="python -m app.suggest", description=__doc__)
    parser.add_argument("images", nargs="+", metavar="PATH", help="folders, files, quoted patterns, URLs")
    parser.add_argument("--number", type=int, default=50, metavar="N", help="how many to label (default: 50)")
    parser.add_argument("--model", metavar="NAME", help="a head of the leaderboard, as in ridge (default: the best)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another one draws others (default: 0)")
    parser.add_argument("--csv", dest="as_csv", action="store_true", help=f"print CSV: {','.join(COLUMNS)}")
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    arguments = parser.parse_args()
    for name, least in (("number", 1), ("seed", 0)):
        if (value := getattr(arguments, name)) < least:
            parser.error(f"--{name} must be at least {least}. Received: {value}")
    return arguments


def suggest(arguments: argparse.Namespace, workers: Workers) -> None:
    """Reads the images, asks the model and prints which to label."""
    with spinner("starting"):
        project = Project.open(arguments.project)
        name = chosen(project, arguments.model)
        labelled = {key.decode() for key in manifests.read(project.root / "data" / "tfrecord").keys.tolist()}
    images = inputs.find(arguments.images)
    with spinner(f"loading {name}"):
        tensorflow_runtime.start()
        model = project.load(name)
        model = model.compiled() if len(images) > FEW else model
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be text, nor in the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    pool = Pool()
    look(model, fresh(images, workers, labelled, pool), pool)
    if not pool.names:
        raise UserError(f"no image is left to label: {left_out(pool)}")
    probabilities = np.concatenate(pool.probabilities)
    rows = suggestion.choose(np.concatenate(pool.features), probabilities, arguments.number, arguments.seed)
    show(rows, pool, probabilities, model.classes, arguments.as_csv)
    chosen_ones = f"{len(rows):,} of {console.count(len(pool.names), 'image')}"
    console.say(f"suggest: {chosen_ones} by {name}; {left_out(pool)}. Put each into the folder of its class", err=True)
    if pool.unreadable:
        sys.exit(1)


def chosen(project: Project, wanted: str | None) -> str:
    """Returns the full name of a head, for the features that it reads; UserError where there is none of that name."""
    heads = [result.name for result in project.results() if (project.folder(result.name) / "head.json").is_file()]
    if not heads:
        raise UserError("there is no trained head yet. Run: dvc repro")
    matching = [head for head in heads if wanted in (head, head.rsplit("/", 1)[-1])] if wanted else heads[:1]
    if len(matching) != 1:
        rule = f"is ambiguous between {', '.join(matching)}" if matching else f"must be a head, as {', '.join(heads)}"
        raise UserError(f"--model {rule}. Received: {wanted!r}")
    return matching[0]


def fresh(images: Sequence[Input], workers: Workers, labelled: set[str], pool: Pool) -> Iterator[Input]:
    """Yields the images that can be read and are none of the labelled keys, each once; counts the others."""
    seen = set(labelled)
    keys: list[str] = []

    def normalise(content: bytes) -> Normalised:
        found = workers.normalise(content)
        keys.append(found.key)
        return found

    for image in console.progress(images, "suggest", "images", len(images)):
        read = inputs.read(image, normalise)
        if read.error:
            pool.unreadable += 1
            console.say(f"error: {read.name}: {read.error}", err=True)
        elif keys[-1] in seen:
            pool.known += 1
        else:
            seen.add(keys[-1])
            yield read


def look(model: Model, images: Iterator[Input], pool: Pool) -> None:
    """Fills the pool with the features that a head reads and what it answers."""
    trained = model.trained
    if trained is None:
        raise ValueError("the model must be a head")
    while batch := list(islice(images, model.images_at_once)):
        stacked = model.batches([image.encoded for image in batch])
        outputs = [part.outputs(inputs) for part, inputs in zip(model.parts, stacked, strict=True)]
        blocks = [cache.quantize(np.asarray(output["bottleneck"])) for output in outputs]
        pool.names += [image.name for image in batch]
        pool.features.append(joined.side_by_side(blocks, trained.source.scales))
        pool.probabilities.append(model.read(outputs))


def left_out(pool: Pool) -> str:
    """Returns how many images were passed over, and why."""
    return f"{pool.known:,} labelled before or copies, {pool.unreadable:,} could not be read"


def show(rows: np.ndarray, pool: Pool, probabilities: np.ndarray, classes: tuple[str, ...], as_csv: bool) -> None:
    """Prints the chosen images, first ones first."""
    margins = suggestion.margins(probabilities)
    if as_csv:
        console.say(tables.line(COLUMNS))
    for rank, row in enumerate(rows.tolist(), 1):
        label = int(probabilities[row].argmax())
        sure, margin = f"{probabilities[row, label]:.6f}", f"{margins[row]:.6f}"
        if as_csv:
            console.say(tables.line((rank, pool.names[row], classes[label], sure, margin)))
        else:
            console.say(pool.names[row], f"  {sure[:6]}  {classes[label]}, {margin[:6]} before the next class")


if __name__ == "__main__":
    console.run(main)
