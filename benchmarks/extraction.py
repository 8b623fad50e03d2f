"""Extraction against the raw forward of its runtime and against other libraries, as ratios of speed.

In each round every way runs once, in a process of its own, every other round backwards. Above 1 ours is faster. Without
--folder or --dataset photographs are generated. A data set has no files, so only raw forwards are compared with it.
All of it: python -m benchmarks.extraction --peers PEERS/bin/python
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import generated
from benchmarks.extraction_ways import PEERS
from benchmarks.shared import ROOT, parser, ratios, records, rounds, run, write_params

BACKBONES = ["efficientnet_lite0", "inception_v3"]
FEW = 32
CALIBRATION_IMAGES = 16  # so few that the run over FEW images pays as much for int8 as the whole run
# (ours, the other): "files-" begins with the stage tfrecord, which later extractions of the same images don't pay.
PAIRS = [
    ("tensorflow", "raw-tensorflow"),
    ("openvino", "raw-openvino"),
    ("openvino-int8", "raw-openvino-int8"),
    ("openvino-int8", "tensorflow"),
    ("tensorflow", "decoding"),
    *((f"{start}tensorflow", other) for start in ("", "files-") for other in ("keras", "timm")),
    *((f"{start}openvino", other) for start in ("", "files-") for other in ("keras", *sorted(PEERS))),
]


def main() -> None:
    """Prints the table."""
    options = parser("extraction", __doc__)
    options.add_argument(
        "--backbone", default=BACKBONES[0], choices=BACKBONES, metavar="NAME", help="pretrained network"
    )
    options.add_argument("--size", type=int, default=96, help="side of the input in pixels", metavar="PX")
    options.add_argument("--folder", type=Path, metavar="DIR", help="CLASS/image files")
    options.add_argument("--dataset", metavar="NAME", choices=["digits", "fashion_mnist"], help="or fashion_mnist")
    options.add_argument("--include", nargs="+", default=["*"], metavar="GLOB", help="as train/0* test/*")
    options.add_argument("--images", type=int, default=3000, metavar="N", help="generated images")
    options.add_argument("--rounds", type=int, default=5, metavar="N", help="in which all ways alternate")
    options.add_argument("--pairs", nargs="+", metavar="OURS/OTHER", help="those alone, such as openvino/keras")
    options.add_argument("--peers", type=Path, metavar="PYTHON", help="with requirements-peers.txt")
    options.add_argument("--batch-size", type=int, metavar="N", help="`extract.batch_size`")
    options.add_argument(
        "--precision", default="float32", choices=["float32", "float16"], metavar="TYPE", help="or float16"
    )
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        count = prepare(work, arguments)
        pairs = [pair for pair in PAIRS if wanted(pair, arguments)]
        ways = dict.fromkeys(way for pair in pairs for way in pair)
        speeds = rounds({way: partial(speed, way, work, arguments, count) for way in ways}, arguments.rounds)
    what = arguments.dataset or arguments.folder or "generated"
    print(f"{count:,} images ({what}), {arguments.backbone} at {arguments.size} px, {arguments.rounds} rounds")
    medians = {way: f"{np.median(found):.1f}" for way, found in speeds.items()}
    table = pd.DataFrame([ratios(speeds[ours], speeds[other]) for ours, other in pairs], [*map("/".join, pairs)])
    table["images/s, medians"] = [f"{medians[ours]}, {medians[other]}" for ours, other in pairs]
    print(table.to_string())


def wanted(pair: tuple[str, str], arguments: argparse.Namespace) -> bool:
    """Whether a pair is compared: the peers need an environment of their own, and all libraries need files."""
    if arguments.pairs:
        return "/".join(pair) in arguments.pairs
    if pair[1] in PEERS and arguments.peers is None:
        return False
    return not arguments.dataset or pair[1].startswith(("raw-", "tensorflow"))


def prepare(work: Path, arguments: argparse.Namespace) -> int:
    """Makes the images, params.yaml, weights and TFRecords that all ways share; returns the number of images."""
    images = work / "images"
    dataset = {"name": "folder", "folder": str(images)}
    if arguments.dataset:
        dataset = {"name": arguments.dataset}
    elif arguments.folder:
        images.symlink_to(arguments.folder.resolve())
    else:
        generated.write_photos(images, arguments.images)
    generated.write_photos(work / "few-images", FEW, seed=1)
    few = {"name": "folder", "folder": str(work / "few-images")}
    extract = extract_section(work, arguments)
    raw = {"dataset": dataset, "tfrecord": {"include": arguments.include}, "extract": extract}
    for name, sections in (("raw", raw), ("few", {"dataset": few, "extract": extract})):
        records(write_params(work / f"{name}.yaml", sections), work / name, work / f"{name}-tfrecord")
    return int(json.loads((work / "raw-tfrecord" / "dataset.json").read_text())["images"])


def extract_section(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns changes of section `extract`; a network without embedded weights gets random ones."""
    section = {"input_size_px": arguments.size, "batch_size": arguments.batch_size, "precision": arguments.precision}
    section["calibration_images"] = CALIBRATION_IMAGES
    if arguments.backbone == "efficientnet_lite0":
        return section
    weights = work / "random.weights.h5"
    code = "import sys; from stages.library.networks import contract as backbones;"
    code += "from stages.library.common import tensorflow_runtime as t; t.start();"
    code += "backbones.lookup(sys.argv[1]).build(int(sys.argv[2])).save_weights(sys.argv[3])"
    run([sys.executable, "-c", code, arguments.backbone, str(arguments.size), str(weights)])
    return section | {"weights": {arguments.backbone: str(weights)}}


def speed(way: str, work: Path, arguments: argparse.Namespace, count: int) -> float:
    """Returns a way's images a second, in a process of its own."""
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    python = str(arguments.peers) if way in PEERS else sys.executable
    options = {"work": work, "scratch": scratch, "backbone": arguments.backbone, "size": arguments.size}
    given = [f"--{option}={value}" for option, value in (options | {"images": count}).items()]
    command = [python, "-m", "benchmarks.extraction_ways", way, *given]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    found = float(result["images"] / result["seconds"])
    print(f"{way} {found:.1f} images/s", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
