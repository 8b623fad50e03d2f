"""The stage fewshot at the size of Caltech-256: seconds and accuracy of each head over all repeats and sizes.

Features are generated: 257 classes, 30,607 images, 2,048 numbers each, as Inception v3's would be. The accuracies say
only that the problem is neither trivial nor hopeless.
Run: python -m benchmarks.fewshot_stage [--heads ridge softmax logistic] [--repeats 5]
"""

import json
import tempfile
from pathlib import Path

from benchmarks import generated
from benchmarks.shared import parser, run, stage, write_params
from stages.library.common import artifacts

IMAGES, CLASSES, WIDTH = 30_607, 257, 2048
NAMES = [f"{label:03d}" for label in range(CLASSES)]
SIZES = [15, 30, 45, 60]
BACKGROUND = ["256"]


def main() -> None:
    """Prints the table."""
    options = parser("fewshot_stage", __doc__)
    options.add_argument("--heads", nargs="+", default=["ridge", "softmax", "logistic"])
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--noise", type=float, default=1.2, help="of an image about its class")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        splits = {"train": IMAGES // 2, "validation": 0, "test": IMAGES - IMAGES // 2}
        generated.write_features(work / "features", splits, WIDTH, CLASSES, arguments.noise)
        about = {"name": "generated", "images": IMAGES, "classes": NAMES, "rejected": 0}
        about |= {"counts": {split: dict.fromkeys(NAMES, 0) for split in splits}}
        about |= {"shape": {"height_px": [96, 96], "width_px": [96, 96]}, "duplicates": {"across_official_split": 0}}
        artifacts.write_json(work / "dataset.json", about)
        print(f"{IMAGES:,} x {WIDTH:,}, {CLASSES} classes, {SIZES} of each, {arguments.repeats} repeats")
        places = {"bottlenecks": work / "features", "records": work, "metrics": work / "m.json", "out": work / "out"}
        for head in arguments.heads:
            few = {"heads": [head], "shots": SIZES, "repeats": arguments.repeats, "background": BACKGROUND}
            params = write_params(work / "params.yaml", {"fewshot": few})
            seconds, accuracies = 0.0, []
            for shots in SIZES:
                options_of = {"backbone": "inception_v3", "head": head, "shots": str(shots), "params": params, **places}
                seconds += run(stage("fewshot", **options_of))
                accuracies.append(json.loads((work / "m.json").read_text())["top1_accuracy"]["mean"])
            each = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
            print(f"{head:10s} {seconds:7.0f} s   top-1 {each}", flush=True)


if __name__ == "__main__":
    main()
