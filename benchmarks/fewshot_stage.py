"""The stage fewshot at the size of Caltech-256: seconds and accuracy of each head over all draws and sizes.

Features are generated: 257 classes, 30,607 images, 2,048 numbers each, as Inception v3's would be. The accuracies say
only that the problem is neither trivial nor hopeless.
Run: python -m benchmarks.fewshot_stage [--heads ridge softmax logistic] [--draws 5]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import generated
from benchmarks.extraction import ROOT
from benchmarks.memory import write_params
from stages.library.common import artifacts

IMAGES, CLASSES, WIDTH = 30_607, 257, 2048
SIZES = [15, 30, 45, 60]
BACKGROUND = ["256"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fewshot_stage", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--heads", nargs="+", default=["ridge", "softmax", "logistic"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--noise", type=float, default=1.2, help="of an image about its class")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        half = IMAGES // 2
        splits = {"train": half, "validation": 0, "test": IMAGES - half}
        generated.write_features(work / "features", splits, WIDTH, CLASSES, arguments.noise)
        about = {
            "name": "generated",
            "images": IMAGES,
            "classes": [f"{label:03d}" for label in range(CLASSES)],
            "counts": {split: {f"{label:03d}": 0 for label in range(CLASSES)} for split in splits},
            "shape": {"height_px": [96, 96], "width_px": [96, 96]},
            "duplicates": {"across_official_split": 0},
            "rejected": 0,
        }
        artifacts.write_json(work / "dataset.json", about)
        print(f"{IMAGES:,} x {WIDTH:,}, {CLASSES} classes, {SIZES} of each, {arguments.repeats} repeats")
        for head in arguments.heads:
            few = {"heads": [head], "shots": SIZES, "repeats": arguments.repeats, "background": BACKGROUND}
            write_params(work, {"fewshot": few})
            seconds, accuracies = 0.0, []
            for shots in SIZES:
                command = [sys.executable, "-m", "stages.fewshot", "--backbone", "inception_v3", "--head", head]
                command += ["--shots", str(shots)]
                for option in ("params", "bottlenecks", "records", "metrics", "out"):
                    paths = {"params": "params.yaml", "bottlenecks": "features", "records": "", "metrics": "m.json"}
                    command += [f"--{option}", str(work / paths.get(option, "out"))]
                start = time.perf_counter()
                subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
                seconds += time.perf_counter() - start
                accuracies.append(artifacts.read_json(work / "m.json")["top1_accuracy"]["mean"])
            each = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
            print(f"{head:10s} {seconds:7.0f} s   top-1 {each}", flush=True)


if __name__ == "__main__":
    main()
