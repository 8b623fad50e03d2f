"""The whole extraction on a GPU against Keras' own way, the network alone and the CPU's decoding, in one short run.

For each network and precision one process is ours and one Keras'. All ways run in turns, as long as a share of the time
lasts; what is slow takes fewer images. In 8 minutes, start-up included: python -m benchmarks.gpu --quick
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import generated
from benchmarks.extraction import extract_section
from benchmarks.shared import ROOT, parser, records, run_order, write_params

NETWORKS = ["inception_v3:299", "efficientnet_lite0:224"]
PRECISIONS = ["float32", "float16"]  # float32 first, which says whether there is a GPU
MINUTES, IMAGES = {True: 7.5, False: 30.0}, {True: 8192, False: 32768}  # whether it is quick
SETS, PART = 3, 4  # sets of images, each a fourth of the one before
SHARE = 0.8  # of the time left, for rounds are not equally long


class Ways:
    """The two processes of a network in a precision; ended at a moment of the monotonic clock, whatever they do."""

    def __init__(self, work: Path, backbone: str, precision: str, batch_sizes: list[int], deadline: float):
        words = [backbone, precision, *map(str, batch_sizes), f"--work={work}"]
        commands = [[sys.executable, "-m", "benchmarks.gpu_ways", whose, *words] for whose in ("ours", "keras")]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        pipes["env"] = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        self._processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for command in commands]
        self._timer = threading.Timer(max(deadline - time.monotonic(), 0), self.close)
        self._timer.start()
        self._of: dict[str, subprocess.Popen[str]] = {}
        self.gpus: list[str] = []

    def names(self) -> list[str]:
        """Waits until the networks are built and returns the names of the ways."""
        for process in self._processes:
            about = self._answer(process)
            self.gpus = about["gpus"]
            self._of |= dict.fromkeys(about["ways"], process)
        return list(self._of)

    def speed(self, way: str, images: str) -> float:
        """Runs a way on a set of images; returns images a second."""
        process = self._of[way]
        assert process.stdin
        process.stdin.write(f"{way}\t{images}\n")
        found = self._answer(process)
        return float(found["images"] / found["seconds"])

    def close(self) -> None:
        """Ends both."""
        self._timer.cancel()
        for process in self._processes:
            process.kill()

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise EOFError("its time was over, or it failed")


def main() -> None:
    """Prints a table for each network and precision."""
    started = time.monotonic()
    options = parser("gpu", __doc__)
    options.add_argument("--quick", action="store_true", help="8,192 images, at most 8 minutes")
    options.add_argument("--minutes", type=float, metavar="N", help="in place of 7.5 or, without --quick, 30")
    options.add_argument("--images", type=int, metavar="N", help="in place of 8,192 or 32,768")
    options.add_argument("--folder", type=Path, metavar="DIR", help="of images, in place of generated ones")
    options.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME:PX", help=" ".join(NETWORKS))
    options.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256], metavar="N", help="first: extraction")
    options.add_argument("--rounds", type=int, default=5, metavar="N", help="at most")
    arguments = options.parse_args()
    deadline = started + 60 * (arguments.minutes or MINUTES[arguments.quick])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sets = prepare(work, arguments.folder, arguments.images or IMAGES[arguments.quick])
        print(f"Images: {max(sets.values()):,}, made ready in {time.monotonic() - started:.0f} s")
        print(f"JPEG decoding on the GPU: TensorFlow has no op for it, and {dali()}", flush=True)
        runs = [(network, precision) for network in arguments.networks for precision in PRECISIONS]
        gpus = ["?"]
        for number, (network, precision) in enumerate(runs):
            print(f"\n{network} in {precision}", flush=True)
            if precision == "float16" and not gpus:
                print("  left out: a CPU emulates it")
                continue
            backbone = give_params(work, network)
            share = (deadline - time.monotonic()) / (len(runs) - number)
            ways = Ways(work, backbone, precision, arguments.batch_sizes, deadline)
            try:
                measure(ways, sets, time.monotonic() + share, arguments.rounds)
            except (EOFError, BrokenPipeError) as error:
                print(f"  ended: {error}")
            finally:
                ways.close()
            gpus = ways.gpus
    print(f"\n{time.monotonic() - started:.0f} s in all")


def prepare(work: Path, folder: Path | None, count: int) -> dict[str, int]:
    """Makes sets of images, each a part of the one before, as files and as TFRecords; returns their sizes by name."""
    if folder is None:
        folder = work / "photographs"
        generated.in_parallel(generated.write_photos, folder, count)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = files[:: max(len(files) // count, 1)][:count]
    sets = {}
    for number in range(SETS):
        place, chosen = work / f"set-{number}", files[:: PART**number]
        for rank, file in enumerate(chosen):
            copy = place / "images" / f"class_{rank % 2}" / f"{rank:07d}{file.suffix}"  # classes make no difference
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        params = write_params(place / "params.yaml", {"dataset": {"name": "folder", "folder": str(place / "images")}})
        records(params, place / "raw", place / "raw-tfrecord")
        sets[place.name] = len(chosen)
    return sets


def dali() -> str:
    """Says whether NVIDIA DALI, which decodes JPEGs on a GPU, could be compared with."""
    there = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali")
    return f"NVIDIA DALI, a package of its own, is {'there, but not measured here' if there else 'not installed'}"


def give_params(work: Path, network: str) -> str:
    """Writes params.yaml for a network, with random weights where none are embedded; they cost the same."""
    backbone, side = network.split(":")
    path = work / f"{backbone}.yaml"
    if not path.exists():
        about = argparse.Namespace(backbone=backbone, size=int(side), batch_size=None, precision="float32")
        write_params(path, {"extract": extract_section(work, about)})
    return backbone


def measure(ways: Ways, sets: Mapping[str, int], until: float, at_most: int) -> None:
    """Warms all ways up, chooses the images by their speed, runs rounds while there is time, and prints the table."""
    start = time.monotonic()
    names = ways.names()
    smallest = min(sets, key=lambda each: sets[each])
    for way in names:
        ways.speed(way, smallest)
    ready = time.monotonic()
    seconds_an_image = sum(1 / ways.speed(way, smallest) for way in names)
    left = SHARE * (until - time.monotonic())
    # One round more, for a last batch of another size is compiled for itself.
    fitting = [each for each, count in sets.items() if count * seconds_an_image * (at_most + 1) < left]
    chosen = fitting[0] if fitting else smallest
    for way in names if chosen != smallest else ():
        ways.speed(way, chosen)
    found: dict[str, list[float]] = {way: [] for way in names}
    longest = 0.0
    for number in range(at_most):
        began = time.monotonic()
        if number and began + longest > until:
            break
        for way in run_order(names, number):
            found[way].append(ways.speed(way, chosen))
        longest = max(longest, time.monotonic() - began)
    if not ways.gpus:
        print("  THERE IS NO GPU, or TensorFlow doesn't see it: these are figures of the CPU")
    device = ", ".join(ways.gpus) or "CPU"
    print(f"  {sets[chosen]:,} images, {len(found[names[0]])} rounds, start-up {ready - start:.0f} s, {device}")
    show({way: np.array(speeds) for way, speeds in found.items()})


def show(speeds: dict[str, np.ndarray]) -> None:
    """Prints images a second of each way, round by round in `speeds`, and the ratios that count."""
    raw = np.max([values for way, values in speeds.items() if way.startswith("raw")], axis=0)
    for way, values in speeds.items():
        print(f"  {way:24s} {spread(values, 0)} images/s")
    print(f"  extraction / keras: {spread(speeds['extraction'] / speeds['keras'], 2)}")
    bound = np.minimum(raw, speeds["decoding"])
    print(
        f"  extraction / the lower of the best raw and decoding: {spread(speeds['extraction'] / bound, 2)}", flush=True
    )


def spread(values: np.ndarray, digits: int) -> str:
    """Returns the median, and the lowest and the highest in brackets."""
    median, low, high = (f"{value:,.{digits}f}" for value in (np.median(values), values.min(), values.max()))
    return f"{median} ({low} to {high})"


if __name__ == "__main__":
    main()
