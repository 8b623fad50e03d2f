"""What lies beside an exported file: labels.txt, model.json, predict.py with what decodes images, and a model card."""

import platform
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pydantic
from typing_extensions import TypedDict

from app.combinations import CombinedModel
from app.exporting import model_card
from app.exporting.formats import Format
from app.exporting.model_card import Facts
from app.models import Model, Project
from app.parts import Part
from stages.library.common import artifacts, guarded_files, source_code
from stages.library.common.console import UserError
from stages.library.networks import contract as backbones
from stages.library.records import dataset_file
from stages.library.report import page as report_page

LICENSE = source_code.ROOT / "LICENSE"
QUOTE = "'"  # in commands of a shell, around versions
USAGE = Path(__file__).with_name("usage.py")
PREDICT, LABELS, MODEL = "predict.py", "labels.txt", "model.json"
TRAINED_WEIGHTS = ("weights.safetensors", "model.ubj", "best.weights.h5")
MAKERS = ("tensorflow", "keras", "numpy", "xgboost", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


@pydantic.with_config(extra="allow")
class Written(TypedDict):
    """What of model.json tells whether a file is as it was exported."""

    files_sha256: dict[str, str]


def write(folder: Path, project: Project, model: Model, form: Format) -> None:
    """Writes what lies beside the exported file; raises UserError where a class name has more than one line."""
    for name in model.classes:
        if "\n" in name:
            raise UserError(f"class names must be one line each to stand in {LABELS}. Received: {name!r}")
    artifacts.write_bytes(folder / LABELS, "".join(f"{name}\n" for name in model.classes).encode())
    write_code(folder)
    shape = ["n", "height", "width", 3]
    networks = [_network(project, part) for part in model.parts]
    licences = dict.fromkeys(network["licence"] for network in networks if network["licence"])
    files = {name: project.folder(model.name) / name for name in TRAINED_WEIGHTS}
    for each in model.heads if isinstance(model, CombinedModel) else ():
        files |= {f"{each.name}/{name}": project.folder(each.name) / name for name in TRAINED_WEIGHTS}
    members = model.combined.members if isinstance(model, CombinedModel) else None
    versions = {found.name: found.version for found in distributions() if found.name in MAKERS}
    metrics = next((each.metrics for each in project.results() if each.name == model.name), None)
    about = {
        "model": model.name,
        "format": form.name,
        "file": form.file,
        "classes": list(model.classes),
        "input": {"name": "pixels", "dtype": "uint8", "shape": shape, "range": [0, 255], "channels": "RGB"},
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["n", len(model.classes)]},
        "unlike_below": model.threshold or None,
        "operating": model.operating and model.operating._asdict(),
        "networks": networks,
        "combined_of": members,
        "trained_sha256": {name: artifacts.sha256_file(path) for name, path in files.items() if path.is_file()},
        "test_metrics": metrics,
        "versions": {"python": platform.python_version()} | versions,
    }
    dataset = None
    if not model.name.startswith("imagenet/"):
        dataset = dataset_file.read(project.root / "data" / "tfrecord" / "dataset.json")
    data = "ImageNet"
    if dataset:
        data = report_page.title(dataset["name"], project.settings["dataset"].folder).removeprefix("Decant: ")
    names = list(dict.fromkeys(part.backbone for part in model.parts if part.backbone))
    facts = Facts(model.name, model.classes, names, list(licences), metrics, dataset, data, model.threshold)
    size_bytes = sum(part.stat().st_size for part in parts(folder / form.file))
    artifacts.write_bytes(folder / "README.md", model_card.render(facts, form, size_bytes).encode())
    needed = "".join(f"{name.strip(QUOTE)}\n" for name in form.runs_with)
    artifacts.write_bytes(folder / "requirements.txt", needed.encode())
    about["files_sha256"] = {name: artifacts.sha256_file(path) for name, path in _named(folder).items()}
    artifacts.write_json(folder / MODEL, about)


def changed(folder: Path) -> list[str]:
    """Returns which files of an export are others than it wrote, or were added; UserError: model.json is no such file.

    What Python leaves beside code that has run does not count.
    """
    remedy = "Remove the folder, or choose another one"
    written = guarded_files.read_json(folder / MODEL, Written, remedy)["files_sha256"]
    found = {name: path for name, path in _named(folder).items() if name != MODEL and "__pycache__" not in path.parts}
    return [name for name, path in found.items() if written.get(name) != artifacts.sha256_file(path)]


def _named(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in parts(folder)}


def write_code(folder: Path) -> None:
    """Writes predict.py and the modules of this project that it imports, so that it decodes images as they do.

    Their licence asks that a copy of it goes with them.
    """
    artifacts.write_bytes(folder / PREDICT, USAGE.read_bytes())
    for path in source_code.closure([USAGE]) - {USAGE}:
        artifacts.write_bytes(folder / path.relative_to(source_code.ROOT), path.read_bytes())
    artifacts.write_bytes(folder / "stages" / LICENSE.name, LICENSE.read_bytes())


def parts(path: Path) -> list[Path]:
    """Returns a file itself, or all files below a folder."""
    return [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())


def _network(project: Project, part: Part) -> dict[str, Any]:
    """Says how an image becomes a network's input, and which pretrained weights it has, under which licence."""
    said: dict[str, Any] = dict.fromkeys(("licence", "paper"))
    if part.backbone:
        backbone = backbones.lookup(part.backbone).BACKBONE
        choice = project.settings["extract"].weights.get(backbone.name)
        published = backbone.weights.get(choice) if choice else next(iter(backbone.weights.values()))
        said = {"licence": published.licence if published else "unknown: a local file", "paper": backbone.paper}
    about = {"backbone": part.backbone, "pretrained_sha256": part.pretrained_sha256}
    return about | said | {"preprocessing": asdict(part.preprocessing) | {"inside_the_file": True}}
