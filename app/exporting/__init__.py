"""Exported models: files that run without this project, one module for each format, looked up by the name in --format.

A format's module has
  PACKAGES: Python packages that writing and checking need beside requirements.txt.
  FILE: name of the exported file or folder.
  RUNS_WITH: what the file needs to run, as it is installed, for people to read.
  write(graph, path): writes the file.
What runs the file is usage/FORMAT.py, which travels with it as predict.py. Heavy imports stand inside the functions.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.library.common.console import UserError

if TYPE_CHECKING:
    from app.exporting.graph import Graph

FORMATS = ("saved_model", "onnx", "tflite")
USAGE = Path(__file__).parent / "usage"
PREDICT = "predict.py"
LABELS = "labels.txt"
MODEL = "model.json"


class Format(Protocol):
    """What a format's module offers."""

    PACKAGES: tuple[str, ...]
    FILE: str
    RUNS_WITH: tuple[str, ...]

    def write(self, graph: "Graph", path: Path) -> None:
        """Writes the model to a file or folder that does not exist yet."""
        ...


def lookup(name: str) -> Format:
    """Returns the module of a format.

    Raises:
      UserError: a package that it needs is missing.
    """
    module: Format = importlib.import_module(f"{__name__}.{name}")
    for package in module.PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"--format {name} needs the package {package}, which is missing. "
                f"Run: pip install -r requirements-export.txt"
            )
    return module
