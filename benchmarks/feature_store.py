"""What the feature store saves: a warm run, 1% new images and a resumed run, as fractions of the cold run.

Every run is the stage bottleneck-extract in a process of its own, start-up included; the time of a run over a few
images says what start-up is. "other split" has the same images in other shards, as another `split.seed` or a second
checkout makes them. The killed run gets SIGKILL when 90% of the cold run's time after start-up are over, and loses what
was not yet in the store. Rounds alternate.
Run: python -m benchmarks.feature_store [--backbone inception_v3 --size 299 --images 1000] [--rounds 5]
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from benchmarks import photos
from benchmarks.extraction import FEW, ROOT, run_stage, write_params

SMALL = ((160, 120), (120, 160))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feature_store", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--backbone", default="inception_v3", choices=["efficientnet_lite0", "inception_v3"])
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, help="`extract.batch_size`")
    parser.add_argument("--runtime", default="tensorflow", choices=["tensorflow", "openvino"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        prepare(work, arguments)
        found: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for run, seconds in one_round(work, arguments).items():
                found.setdefault(run, []).append(seconds)
    cold = np.array(found["cold"])
    print(f"{arguments.images:,} images, {arguments.backbone} at {arguments.size} px, {arguments.rounds} rounds")
    print(f"{'run':14s} {'seconds':>8s} {'of cold':>8s} {'less start-up':>14s} {'times faster':>13s}")
    for run, values in found.items():
        seconds = np.array(values)
        beyond = np.median((seconds - np.array(found["start-up"])) / cold)
        share = np.median(seconds / cold)
        print(f"{run:14s} {np.median(seconds):8.1f} {share:8.3f} {beyond:14.3f} {1 / share:13.1f}")


def prepare(work: Path, arguments: argparse.Namespace) -> None:
    """Makes TFRecords: all images, the same in another split, all and 1% more, and a few."""
    photos.write(work / "images", arguments.images, sizes=SMALL)
    shutil.copytree(work / "images", work / "more-images")
    photos.write(work / "new", arguments.images // 100, seed=1, sizes=SMALL)
    for path in (work / "new").glob("*/*"):
        path.rename(work / "more-images" / path.parent.name / f"new-{path.name}")
    photos.write(work / "few-images", FEW, seed=2, sizes=SMALL)
    for name, images, seed in (
        ("all", "images", 0),
        ("other", "images", 1),
        ("more", "more-images", 0),
        ("few", "few-images", 0),
    ):
        path = work / f"{name}.yaml"
        write_params(path, work, {"name": "folder", "folder": str(work / images)}, arguments)
        yaml = YAML()
        content = yaml.load(path.read_text(encoding="utf-8"))
        content["split"]["seed"] = seed
        content["extract"]["runtime"] = arguments.runtime
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        run_stage("fetch", "--params", path, "--out", work / f"{name}-raw")
        options = ["--params", path, "--raw", work / f"{name}-raw", "--out", work / name]
        run_stage("tfrecord", *options, "--examples", work / "examples.png")


def one_round(work: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the seconds of each kind of run, once."""
    shutil.rmtree(work / "cache", ignore_errors=True)
    shutil.rmtree(work / "killed", ignore_errors=True)
    start_up, _ = extract(work, arguments, "few", "cache")
    cold, _ = extract(work, arguments, "all", "cache")
    other, _ = extract(work, arguments, "other", "cache")
    more, _ = extract(work, arguments, "more", "cache")
    seconds, computed = extract(work, arguments, "all", "killed", start_up + 0.9 * (cold - start_up))
    while computed == arguments.images:  # it was faster than the cold run, and ended: then its own time counts
        shutil.rmtree(work / "killed")
        seconds, computed = extract(work, arguments, "all", "killed", start_up + 0.9 * (seconds - start_up))
    resumed, computed = extract(work, arguments, "all", "killed")
    found = {"start-up": start_up, "cold": cold, "other split": other, "1% new": more, "killed at 90%": resumed}
    shown = ", ".join(f"{run} {value:.1f} s" for run, value in found.items())
    print(f"{shown}; resumed: {computed} of {arguments.images} images", file=sys.stderr, flush=True)
    return found


def extract(
    work: Path, arguments: argparse.Namespace, shards: str, cache: str, kill_after: float | None = None
) -> tuple[float, int]:
    """Runs bottleneck-extract; returns seconds and the number of images added to the store."""
    before = stored(work / cache)
    command = ["env", f"DECANT_CACHE={work / cache}", sys.executable, "-m", "stages.bottleneck_extract"]
    command += ["--params", str(work / f"{shards}.yaml"), "--backbone", arguments.backbone]
    command += ["--records", str(work / shards), "--out", str(work / "out")]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    if kill_after is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(kill_after)
        process.kill()
    if process.wait() and kill_after is None:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return time.perf_counter() - start, stored(work / cache) - before


def stored(cache: Path) -> int:
    """Returns how many images the store holds."""
    return sum(pq.read_metadata(part).num_rows for part in cache.glob("features/*/*.parquet"))


if __name__ == "__main__":
    main()
