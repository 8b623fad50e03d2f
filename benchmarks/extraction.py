"""Extraction against the raw forward of its runtime and against other libraries, as ratios of speed.

In each round every way runs once, in a process of its own (benchmarks/extraction_ways.py), and every other round goes
backwards, so that which of a pair goes first alternates. Above 1 ours is faster. Without --folder or --dataset images
are generated, JPEG files of photo size. A data set has no files, so that only the raw forwards are compared with it.
All of it: python -m benchmarks.extraction --peers PEERS/bin/python
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks import photos

ROOT = Path(__file__).parents[1]
FEW = 32
CALIBRATION_IMAGES = 16  # so few that the run over FEW images pays as much for int8 as the whole run
# (ours, the other): "files-" begins with the stage tfrecord, which later extractions of the same images don't pay.
PAIRS = [
    ("tensorflow", "raw-tensorflow"),
    ("openvino", "raw-openvino"),
    ("openvino-int8", "raw-openvino-int8"),
    ("openvino-int8", "tensorflow"),
    *((f"{start}tensorflow", other) for start in ("", "files-") for other in ("keras", "timm")),
    *(
        (f"{start}openvino", other)
        for start in ("", "files-")
        for other in ("keras", "timm", "onnxruntime", "openvino-peer")
    ),
]
PEERS = {"timm", "onnxruntime", "openvino-peer"}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--backbone", default="efficientnet_lite0", choices=["efficientnet_lite0", "inception_v3"])
    parser.add_argument("--size", type=int, default=96, help="side of the input in pixels", metavar="PX")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="CLASS/image files")
    parser.add_argument(
        "--dataset", metavar="NAME", choices=["digits", "fashion_mnist"], help="digits or fashion_mnist"
    )
    parser.add_argument("--include", nargs="+", default=["*"], metavar="GLOB", help="as train/0* test/*")
    parser.add_argument("--images", type=int, default=3000, metavar="N", help="generated images")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", nargs="*", default=[], metavar="WAY", help="leave out pairs of other ways")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="with requirements-peers.txt")
    parser.add_argument("--batch-size", type=int, metavar="N", help="`extract.batch_size`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        count = prepare(work, arguments)
        pairs = [pair for pair in PAIRS if wanted(pair, arguments)]
        ways = list(dict.fromkeys(way for pair in pairs for way in pair))
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(arguments.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                speeds[way].append(speed(way, work, arguments, count))
                print(f"round {number + 1}: {way} {speeds[way][-1]:.1f} images/s", file=sys.stderr, flush=True)
    what = arguments.dataset or arguments.folder or "generated"
    print(f"{count:,} images ({what}), {arguments.backbone} at {arguments.size} px, {arguments.rounds} rounds")
    print(f"{'ours':18s} {'the other':18s} ratio  (rounds)                        images/s, medians")
    for ours, other in pairs:
        ratios = np.array(speeds[ours]) / np.array(speeds[other])
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        medians = ", ".join(f"{np.median(speeds[way]):.1f}" for way in (ours, other))
        print(f"{ours:18s} {other:18s} {np.median(ratios):5.2f}  ({each:29s}) {medians}")


def wanted(pair: tuple[str, str], arguments: argparse.Namespace) -> bool:
    """Whether a pair is compared: the peers need an environment of their own, and all libraries need files."""
    if PEERS & set(pair) and arguments.peers is None:
        return False
    if arguments.dataset and not pair[1].startswith(("raw-", "tensorflow")):
        return False
    return not arguments.only or bool(set(pair) & set(arguments.only))


def prepare(work: Path, arguments: argparse.Namespace) -> int:
    """Makes the images, params.yaml, weights and TFRecords that all ways share; returns the number of images."""
    images = work / "images"
    dataset: dict[str, Any] = {"name": "folder", "folder": str(images)}
    if arguments.dataset:
        dataset = {"name": arguments.dataset}
    elif arguments.folder:
        images.symlink_to(arguments.folder.resolve())
    else:
        photos.write(images, arguments.images)
    photos.write(work / "few-images", FEW, seed=1)
    few = {"name": "folder", "folder": str(work / "few-images")}
    write_params(work / "raw.yaml", work, dataset, arguments, arguments.include)
    write_params(work / "few-raw.yaml", work, few, arguments)
    for raw, shards in (("raw", "tfrecord"), ("few-raw", "few")):
        options = ("--params", work / f"{raw}.yaml")
        run_stage("fetch", *options, "--out", work / raw)
        options += ("--raw", work / raw, "--out", work / shards, "--examples", work / "examples.png")
        run_stage("tfrecord", *options)
    return int(json.loads((work / "tfrecord" / "dataset.json").read_text())["images"])


def write_params(
    path: Path, work: Path, dataset: dict[str, Any], arguments: argparse.Namespace, include: Sequence[str] = ("*",)
) -> None:
    """Writes params.yaml with the benchmark's changes; a network without embedded weights gets random ones."""
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["dataset"] |= dataset
    content["tfrecord"]["include"] = list(include)
    content["extract"] |= {"input_size_px": arguments.size, "batch_size": arguments.batch_size}
    content["extract"]["calibration_images"] = CALIBRATION_IMAGES
    if arguments.backbone != "efficientnet_lite0":
        weights = work / "random.weights.h5"
        if not weights.exists():
            code = "import sys; from stages.library.networks import contract as backbones;"
            code += "from stages.library.common import tensorflow_runtime as t; t.start();"
            code += "backbones.lookup(sys.argv[1]).build(int(sys.argv[2])).save_weights(sys.argv[3])"
            command = [sys.executable, "-c", code, arguments.backbone, str(arguments.size), str(weights)]
            subprocess.run(command, cwd=ROOT, check=True)
        content["extract"]["weights"] = {arguments.backbone: str(weights)}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def run_stage(name: str, *options: str | Path) -> None:
    """Runs a stage in silence."""
    command = [sys.executable, "-m", f"stages.{name}", *map(str, options)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def speed(way: str, work: Path, arguments: argparse.Namespace, count: int) -> float:
    """Returns a way's images a second, in a process of its own."""
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    options = [way, "--work", str(work), "--scratch", str(scratch), "--backbone", arguments.backbone]
    if way in PEERS:
        command = [str(arguments.peers), str(ROOT / "benchmarks" / "extraction_peers.py"), *options]
        command += ["--size", str(arguments.size)]
    else:
        command = [sys.executable, "-m", "benchmarks.extraction_ways", *options, "--images", str(count)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["images"] / result["seconds"])


if __name__ == "__main__":
    main()
