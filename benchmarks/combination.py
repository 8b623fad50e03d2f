"""Combination: the best head, and what `combine` makes of all heads, on data sets of finished pipelines.

Each folder is a checkout in which `dvc repro evaluate` has run; its heads are taken as they are. The best head is the
first by cross-validation. Cells are top-1 accuracies: cross-validated, with the deviation over the folds, and on test
images. The last column says whether no combination is worse than the best head by more than its deviation, on either.
Run: python -m benchmarks.combination FOLDER [FOLDER ...]
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.shared import parser, run, stage, write_params
from stages.library.common.model_names import JOINT

METHODS = "average", "stacking"


def main() -> None:
    """Prints the table."""
    options = parser("combination", __doc__)
    options.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="checkouts that were trained")
    print(pd.DataFrame([row(folder.resolve()) for folder in options.parse_args().folders]).to_string(index=False))


def row(folder: Path) -> dict[str, str]:
    """Combines the heads of a checkout in a folder of its own; returns its row of the table."""
    dataset = json.loads((folder / "data" / "tfrecord" / "dataset.json").read_text(encoding="utf-8"))
    found = {path.parent.relative_to(folder / "artifacts" / "heads").as_posix(): path.parent
             for path in sorted(folder.glob("artifacts/heads/*/*/head.json"))}  # fmt: skip
    heads = {name: json.loads((folder / "metrics" / f"{name}.json").read_text(encoding="utf-8")) for name in found}
    best = max(heads, key=lambda name: heads[name]["cross_validation"]["top1_accuracy"]["mean"])
    cells = {"data set": f"{dataset['name']} ({dataset['images']:,})", "heads": str(len(heads))}
    cells |= {"best head": f"{best}: {shown(heads[best])}"}
    allowed = heads[best]["cross_validation"]["top1_accuracy"].get("std", 0.0)
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        for method in METHODS:
            numbers = combined(folder, Path(name), list(heads), method)
            cells[method] = shown(numbers)
            worst = max(worst, *(ours - its for ours, its in zip(both(heads[best]), both(numbers), strict=True)))
    return cells | {"never worse": "yes" if worst <= allowed else f"no, by {worst:.4f}"}


def combined(folder: Path, work: Path, names: list[str], method: str) -> dict[str, Any]:
    """Runs the stage; returns its metrics."""
    backbones = list(dict.fromkeys(name.split("/")[0] for name in names))
    lists = {
        "backbones": [name for name in backbones if JOINT not in name],
        "joined": [name for name in backbones if JOINT in name],
        "heads": list(dict.fromkeys(name.split("/")[1] for name in names)),
    }
    params, metrics = write_params(work / "params.yaml", lists), work / f"{method}.json"
    places = {"records": folder / "data" / "tfrecord", "heads": folder / "artifacts" / "heads"}
    places |= {"bottlenecks": folder / "artifacts" / "bottlenecks", "out": work / method, "metrics": metrics}
    run(stage("combine", method=method, params=params, figures=work / "figures", **places))
    content: dict[str, Any] = json.loads(metrics.read_text(encoding="utf-8"))
    return content


def both(numbers: Mapping[str, Any]) -> tuple[float, float]:
    """Returns cross-validated and test accuracy of a metrics file."""
    return numbers["cross_validation"]["top1_accuracy"]["mean"], numbers["top1_accuracy"]


def shown(numbers: Mapping[str, Any]) -> str:
    """Returns them as people read them."""
    validated, tested = both(numbers)
    deviation = numbers["cross_validation"]["top1_accuracy"].get("std", float("nan"))
    return f"{validated:.4f} ± {deviation:.4f}, test {tested:.4f}"


if __name__ == "__main__":
    main()
