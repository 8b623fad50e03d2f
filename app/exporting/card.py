"""What lies beside an exported file: labels.txt, model.json, predict.py and README.md."""

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from app import exporting
from app.models import Model, Project
from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.networks import contract as backbones
from stages.library.networks import weights

TRAINED_WEIGHTS = ("weights.safetensors", "model.ubj", "best.weights.h5")
MAKERS = ("tensorflow", "keras", "numpy", "xgboost", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")

README = """\
# {model}, exported as {format}

`{file}` takes RGB pixels and gives the probabilities of {count} classes, whose names are in `labels.txt`, one a line.
Cropping, resizing and scaling are inside: give the image as it is, in any size.

    pip install {packages}
    python predict.py image.jpg

`predict.py` is the whole code that is needed. Input `pixels`: uint8 (n, height, width, 3), values 0 to 255, upright.
Output `probabilities`: float32 (n, {count}).{extra}
`model.json` says where the model comes from, what it reached on test images, and under which licence its
pretrained weights are published: {licence}.
"""
SIGNATURES = """
The signature `encoded` takes JPEG or PNG files in place of pixels: strings (n,)."""


def write(folder: Path, project: Project, model: Model, form: str, sizes: dict[str, str]) -> None:
    """Writes the four files beside the exported one.

    Args:
      folder: that holds the exported file.
      project: where the model comes from.
      model: loaded.
      form: name of the format.
      sizes: sha256 of the exported file's parts, by path in the folder.

    Raises:
      UserError: a class name has more than one line.
    """
    for name in model.classes:
        if "\n" in name:
            raise UserError(f"class names must be one line each to stand in {exporting.LABELS}. Received: {name!r}")
    lines = "".join(f"{name}\n" for name in model.classes)
    artifacts.write_bytes(folder / exporting.LABELS, lines.encode())
    artifacts.write_bytes(folder / exporting.PREDICT, (exporting.USAGE / f"{form}.py").read_bytes())
    content = describe(project, model, form) | {"files_sha256": sizes}
    artifacts.write_json(folder / exporting.MODEL, content)
    module = exporting.lookup(form)
    text = README.format(
        model=model.name,
        format=form,
        file=module.FILE,
        count=len(model.classes),
        packages=" ".join(module.RUNS_WITH),
        extra=SIGNATURES if form == "saved_model" else "",
        licence=content["weights"]["licence"] or "none, for it was trained from scratch",
    )
    artifacts.write_bytes(folder / "README.md", text.encode())


def describe(project: Project, model: Model, form: str) -> dict[str, Any]:
    """Returns the content of model.json."""
    metrics = [result.metrics for result in project.results() if result.name == model.name]
    return {
        "model": model.name,
        "format": form,
        "file": exporting.lookup(form).FILE,
        "classes": list(model.classes),
        "input": {
            "name": "pixels",
            "dtype": "uint8",
            "shape": ["n", "height", "width", 3],
            "range": [0, 255],
            "channels": "RGB",
        },
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["n", len(model.classes)]},
        "preprocessing": asdict(model.preprocessing) | {"inside_the_file": True},
        "weights": _weights(project, model),
        "test_metrics": metrics[0] if metrics else None,
        "versions": {"python": platform.python_version()} | _versions(),
    }


def _weights(project: Project, model: Model) -> dict[str, Any]:
    """Says which weights the model is made of: pretrained ones, with their licence, and trained ones."""
    folder = project.folder(model.name)
    kind, _, rest = model.name.partition("/")
    trained = {} if kind == "imagenet" else _hashes(folder)
    if kind == "scratch":
        return {"backbone": None, "licence": None, "paper": None, "pretrained_sha256": None, "trained_sha256": trained}
    name = rest if kind == "imagenet" else kind
    backbone = backbones.lookup(name).BACKBONE
    choice = project.settings["extract"].weights.get(name)
    published = backbone.weights.get(choice) if choice else next(iter(backbone.weights.values()))
    if model.trained is not None:
        sha256 = model.trained.source.weights_sha256
    elif kind == "imagenet":
        sha256 = artifacts.sha256_file(weights.locate(backbone, choice))
    else:
        sha256 = None  # they were trained further
    return {
        "backbone": name,
        "licence": published.licence if published else "unknown: a local file",
        "paper": backbone.paper,
        "pretrained_sha256": sha256,
        "trained_sha256": trained,
    }


def _hashes(folder: Path) -> dict[str, str]:
    return {name: artifacts.sha256_file(folder / name) for name in TRAINED_WEIGHTS if (folder / name).is_file()}


def _versions() -> dict[str, str]:
    found = {}
    for package in MAKERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # of an optional requirement
            continue
    return found
