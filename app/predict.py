"""Names what is in images, by the best model trained here or another one.

examples: python -m app.predict cat.jpg holiday/ 'scans/**/*.png' --top 3
          python -m app.predict cat.jpg --model ridge --json
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from app import inputs
from app.inputs import Input
from app.models import BATCH, Model, Project
from app.spinner import spinner
from stages.library.common import console, plugins, tables, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.networks import contract as backbones
from stages.library.preparation.decoding_workers import Workers

ANSWERS = {True: "yes", False: "no", None: ""}  # in CSV
UNLIKE = "unlike the training images"
FEW = 96  # images that are done before compiling the network, a second, has paid


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image."""

    name: str  # of the image
    classes: tuple[tuple[str, float], ...] = ()  # the most probable ones with their probabilities, falling
    error: str = ""  # why the image can't be used, and then there are no classes
    farther_out: float | None = None  # share of known images that lie farther out from the training images
    sure: bool | None = None  # whether the model is sure enough, where it may abstain
    inside: tuple[str, ...] = ()  # where it may abstain: the classes of the conformal set, the likeliest first
    unlike: bool | None = None  # whether that is so small that the image is called unlike them; None: no such model


def main() -> None:
    """Runs the program; exit status 1 where an image could not be read, 2 where the command line is wrong."""
    arguments = parse_arguments()
    with Workers(1) as workers:
        workers.prepare()
        predict(arguments, workers)


def predict(arguments: argparse.Namespace, workers: Workers) -> None:
    """Finds, reads and classifies the images and prints what is in them."""
    with spinner("starting"):
        project = Project.open(arguments.project, arguments.params)
        name = chosen(project, arguments)
    images = inputs.find(arguments.images)
    if any(Path(image.name).is_file() for image in images):
        with spinner("starting"):  # at the same time as the process that decodes, which is waited for next
            tensorflow_runtime.start()

    def load() -> Model:
        with spinner(f"loading {name}"):
            model = project.load(name, arguments.size)
            if arguments.abstain and model.operating is None:
                raise UserError(f"--abstain needs a trained model, evaluated with validation images. Received: {name}")
            return model.compiled() if len(images) > FEW else model

    counts = [0, 0]
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be text, nor in the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    read = (inputs.read(image, workers.normalise) for image in images)
    predictions = classify(read, load, arguments.top, arguments.abstain)
    # Where the results run over the terminal themselves, a bar would only be in their way.
    seen = predictions if sys.stdout.isatty() else progress(predictions, len(images))
    OUTPUTS[arguments.output](counted(seen, counts))
    readable, unreadable = counts
    failures = f", {unreadable} could not be read" if unreadable else ""
    console.say(
        f"predict: {console.count(readable, 'image')} by {name}{failures}. In a browser: python -m app.web", err=True
    )
    if unreadable:
        sys.exit(1)


def progress(predictions: Iterator[Prediction], total: int) -> Iterator[Prediction]:
    """Passes predictions on under a bar, which begins when the first ones are there: a network may load before."""
    first = list(islice(predictions, 1))
    return iter(console.progress(chain(first, predictions), "predict", "images", total))


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    parser = console.Parser(prog="python -m app.predict", description=__doc__)
    parser.add_argument("images", nargs="+", metavar="PATH", help="files, folders, quoted patterns, URLs")
    parser.add_argument("--model", metavar="NAME", help="of the leaderboard, as in ridge (default: the best)")
    parser.add_argument("--backbone", metavar="NAME", help="ImageNet's classes by this network instead")
    parser.add_argument("--size", type=int, metavar="PX", help="with --backbone: side of its square input")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes an image (default: 5)")
    parser.add_argument("--abstain", action="store_true", help="say where the model is not sure, and what it may be")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="output", action="store_const", const="json", help="print JSON")
    formats.add_argument("--csv", dest="output", action="store_const", const="csv", help="print CSV")
    parser.add_argument("--params", type=Path, metavar="FILE", help="params.yaml whose `extract` has weights")
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    parser.set_defaults(output="text")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top must be at least 1. Received: {arguments.top}")
    if arguments.model and arguments.backbone:
        parser.error("--model and --backbone exclude each other")
    names = plugins.plugin_names(plugins.PLUGINS["backbones"])
    if arguments.backbone and arguments.backbone not in names:
        parser.error(f"--backbone must be one of {', '.join(names)}. Received: {arguments.backbone}")
    if arguments.size is not None:
        if not arguments.backbone:
            parser.error("--size needs --backbone; a trained model has its own input size")
        least = backbones.lookup(arguments.backbone).BACKBONE.min_input_px
        if arguments.size < least:
            parser.error(f"--size must be at least {least} for {arguments.backbone}. Received: {arguments.size}")
    return arguments


def chosen(project: Project, arguments: argparse.Namespace) -> str:
    """Returns the full name of the model to use; before the first training that is a pretrained network."""
    if arguments.backbone:
        return f"imagenet/{arguments.backbone}"
    if arguments.model is None and not project.results():
        backbone = project.settings["backbones"][0]
        console.say(f"note: no trained model yet (dvc repro makes them); ImageNet's classes by {backbone}", err=True)
        return f"imagenet/{backbone}"
    return project.choose(arguments.model)


def classify(
    images: Iterable[Input], load: Callable[[], Model], top: int, abstain: bool = False
) -> Iterator[Prediction]:
    """Yields the `top` most probable classes of each image, in order; loads the model when one can be used.

    With `abstain` the model says where it is not sure enough, and the set of classes that it may be.
    """
    model: Model | None = None
    images = iter(images)
    while batch := list(islice(images, BATCH)):
        good = [image.encoded for image in batch if not image.error]
        if good:
            model = model or load()
            rows = iter(answers(model, good))
        for image in batch:
            if image.error:
                yield Prediction(image.name, error=image.error)
            elif model:
                row, share = next(rows)
                unlike = None if share is None else share < model.threshold
                share = None if share is None else round(share, 6)
                found = Prediction(image.name, ranking(row, model.classes, top), "", share, unlike=unlike)
                if abstain and (point := model.operating):
                    ((inside,), (sure,)) = point.sets(row[None]), point.is_sure(row[None])
                    names = ranking(np.where(inside, row, -1), model.classes, int(inside.sum()))
                    found = replace(found, sure=bool(sure), inside=tuple(name for name, _ in names))
                yield found


def answers(model: Model, encoded: Sequence[bytes]) -> Iterator[tuple[np.ndarray, float | None]]:
    """Yields each image's probabilities, (classes,), and the share of known images that lie farther out."""
    for start in range(0, len(encoded), model.images_at_once):
        some = encoded[start : start + model.images_at_once]
        probabilities, shares = model.answer(model.batches(some))
        yield from zip(probabilities, [None] * len(some) if shares is None else shares.tolist(), strict=True)


def ranking(probabilities: np.ndarray, classes: Sequence[str], top: int) -> tuple[tuple[str, float], ...]:
    """Returns the `top` most probable classes, of equals the first, for probabilities (classes,)."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((classes[label], round(float(probabilities[label]), 6)) for label in order)


def counted(predictions: Iterable[Prediction], counts: list[int]) -> Iterator[Prediction]:
    """Passes predictions on and counts the good ones in counts[0], the others in counts[1]; errors go to stderr too."""
    for prediction in predictions:
        counts[bool(prediction.error)] += 1
        if prediction.error:
            console.say(f"error: {prediction.name}: {prediction.error}", err=True)
        yield prediction


def print_text(predictions: Iterable[Prediction]) -> None:
    """Prints an image's name and its classes below it."""
    for prediction in predictions:
        if prediction.classes:
            console.say(prediction.name)
        if prediction.unlike:
            console.say(f"  {UNLIKE}: {prediction.farther_out:.1%} of known images lie farther out")
        if prediction.sure is False:
            console.say(f"  not sure: {', '.join(prediction.inside) or 'none of the classes'}")
        for name, probability in prediction.classes:
            console.say(f"  {probability:.4f}  {name}")


def print_json(predictions: Iterable[Prediction]) -> None:
    """Prints {"file", "unlike", "farther_out", "classes": [{"class", "probability"}]} or {"file", "error"} of each.

    Where the model may abstain, "sure" and "set", too.
    """
    content = []
    for prediction in predictions:
        classes = [{"class": name, "probability": probability} for name, probability in prediction.classes]
        known: dict[str, object] = {"unlike": prediction.unlike, "farther_out": prediction.farther_out}
        known |= {"sure": prediction.sure, "set": prediction.inside} if prediction.sure is not None else {}
        said = {"error": prediction.error} if prediction.error else known | {"classes": classes}
        content.append({"file": prediction.name, **said})
    console.say(*json.dumps(content, indent=2).replace("\x7f", r"\u007f").split("\n"))  # all others JSON escapes itself


def print_csv(predictions: Iterable[Prediction]) -> None:
    """Prints a line for each class of each image, escaped as all our tables; what is unknown is empty."""
    console.say(
        tables.line(("file", "unlike", "farther_out", "sure", "rank", "class", "in_set", "probability", "error"))
    )
    for prediction in predictions:
        if prediction.error:
            console.say(tables.line((prediction.name, *[""] * 7, prediction.error)))
        share = "" if prediction.farther_out is None else f"{prediction.farther_out:.6f}"
        known = ANSWERS[prediction.unlike], share, ANSWERS[prediction.sure]
        for rank, (name, probability) in enumerate(prediction.classes, start=1):
            inside = ANSWERS[None if prediction.sure is None else name in prediction.inside]
            console.say(tables.line((prediction.name, *known, rank, name, inside, f"{probability:.6f}", "")))


OUTPUTS: dict[str, Callable[[Iterable[Prediction]], None]] = {"text": print_text, "json": print_json, "csv": print_csv}


if __name__ == "__main__":
    console.run(main)
