"""Writes a model, preprocessing inside, as a file that runs without this project.

saved_model: TensorFlow; onnx: ONNX Runtime and others; tflite: phones. The file
takes RGB pixels of any size; beside it lie labels, a description and the code
to run it. A process of its own checks that it gives the model's probabilities.

example: python -m app.export --model ridge --format onnx --out ridge-onnx
         python ridge-onnx/predict.py cat.jpg
"""

import argparse
from pathlib import Path

from app.exporting import card, check
from app.exporting.formats import FORMATS
from app.models import Project
from app.spinner import spinner
from stages.library.common import artifacts, console
from stages.library.common.console import UserError
from stages.library.networks import contract as backbones

SHOWN = 5  # names in an error


def main() -> None:
    """Runs the program; exit status 1 where the file would not do the same, 2 where the command line is wrong."""
    arguments = parse_arguments()
    with spinner("starting"):
        project = Project.open(arguments.project, arguments.params)
        form = FORMATS[arguments.format]
        form.check_packages()
        name = project.choose(arguments.model)
        check_size(name, arguments.size)
    out = arguments.hub or arguments.out or project.root / "artifacts" / "exported" / name / arguments.format
    reject_what_is_no_export(out)
    stopwatch = console.Stopwatch()
    with spinner(f"loading {name}"):
        model = project.load(name, arguments.size)
    from app.exporting import graph  # which needs TensorFlow

    with artifacts.new_folder(out) as folder:
        file = folder / form.file
        with spinner(f"writing {form.file}"):
            form.write(graph.build(model), file)
            size_bytes = sum(part.stat().st_size for part in card.parts(file))
            card.write(folder, project, model, form)
        with spinner(f"comparing {form.file} with {name}"):
            agreement = check.compare(model, folder, check.find_images(project, arguments.check))
        if fault := agreement.fault():
            raise UserError(f"the exported file is not {name}: {fault}. {out} was not written")
    console.say(
        f"export: {out}: {form.file} of {size_bytes / 2**20:.1f} MiB, {stopwatch.seconds():.0f} s; {agreement.images} "
        f"images checked, probabilities differ by {agreement.difference:.1e} at most, same class for "
        f"{agreement.same_class}. Try: python {out / card.PREDICT} IMAGE",
        *([f"Next: read {out / 'README.md'}, then hf upload YOU/NAME {out}"] if arguments.hub else []),
    )


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    parser = console.Parser(prog="python -m app.export", description=__doc__)
    parser.add_argument("--model", metavar="NAME", help="of the leaderboard (default: the best), or imagenet/BACKBONE")
    parser.add_argument("--format", required=True, choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, metavar="FOLDER", help="(default: artifacts/exported/NAME/FORMAT)")
    place.add_argument("--hub", type=Path, metavar="FOLDER", help="the same, to be uploaded to Hugging Face as it is")
    parser.add_argument("--check", type=int, default=100, metavar="N", help="test images compared (default: 100)")
    parser.add_argument("--size", type=int, metavar="PX", help="with imagenet/BACKBONE: side of the network's input")
    parser.add_argument("--params", type=Path, metavar="FILE", help="another params.yaml")
    parser.add_argument("--project", type=Path, default=Path(), metavar="FOLDER", help="checkout (default: here)")
    arguments = parser.parse_args()
    if arguments.check < 0:
        parser.error(f"--check must be at least 0. Received: {arguments.check}")
    return arguments


def check_size(name: str, size_px: int | None) -> None:
    """Raises UserError where --size does not go with the model."""
    if size_px is None:
        return
    kind, _, backbone = name.partition("/")
    if kind != "imagenet":
        raise UserError(f"--size needs --model imagenet/BACKBONE; a trained model has its own. Received: {size_px}")
    least = backbones.lookup(backbone).BACKBONE.min_input_px
    if size_px < least:
        raise UserError(f"--size must be at least {least} for {backbone}. Received: {size_px}")


def reject_what_is_no_export(out: Path) -> None:
    """Raises UserError where --out (or --hub), which is replaced, is neither empty nor an export as it was written."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if (out / card.MODEL).is_file():
        if names := card.changed(out):
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UserError(
                f"--out must be an earlier export as it was written, for it is replaced. Changed or added since then: "
                f"{', '.join(map(repr, names[:SHOWN]))}{more}. Choose another folder, or move them. "
                f"Received: {str(out)!r}"
            )
    elif out.exists() or out.is_symlink():
        raise UserError(f"--out must be a new folder or an earlier export, which is replaced. Received: {str(out)!r}")


if __name__ == "__main__":
    console.run(main)
