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

from benchmarks import generated
from benchmarks.extraction import BACKBONES, FEW, extract_section
from benchmarks.shared import ROOT, parser, records, stage, write_params

SMALL = ((160, 120), (120, 160))


def main() -> None:
    """Prints the table."""
    options = parser("feature_store", __doc__)
    options.add_argument("--backbone", default="inception_v3", choices=BACKBONES)
    options.add_argument("--size", type=int, default=299)
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--batch-size", type=int, help="`extract.batch_size`")
    options.add_argument("--precision", default="float32", choices=["float32", "float16"])
    options.add_argument("--runtime", default="tensorflow", choices=["tensorflow", "openvino"])
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), arguments)
        found = [one_round(Path(name), arguments) for _ in range(arguments.rounds)]
    print(f"{arguments.images:,} images, {arguments.backbone} at {arguments.size} px, {arguments.rounds} rounds")
    print(f"{'run':14s} {'seconds':>8s} {'of cold':>8s} {'less start-up':>14s} {'times faster':>13s}")
    for run in found[0]:
        seconds, share, beyond = np.median(
            [(one[run], one[run] / one["cold"], (one[run] - one["start-up"]) / one["cold"]) for one in found], axis=0
        )
        print(f"{run:14s} {seconds:8.1f} {share:8.3f} {beyond:14.3f} {1 / share:13.1f}")


def prepare(work: Path, arguments: argparse.Namespace) -> None:
    """Makes TFRecords: all images, the same in another split, all and 1% more, and a few."""
    generated.write_photos(work / "images", arguments.images, sizes=SMALL)
    shutil.copytree(work / "images", work / "more-images")
    generated.write_photos(work / "new", arguments.images // 100, seed=1, sizes=SMALL)
    for path in (work / "new").glob("*/*"):
        path.rename(work / "more-images" / path.parent.name / f"new-{path.name}")
    generated.write_photos(work / "few-images", FEW, seed=2, sizes=SMALL)
    extract = extract_section(work, arguments) | {"runtime": arguments.runtime}
    for name, images, seed in (("all", "", 0), ("other", "", 1), ("more", "more-", 0), ("few", "few-", 0)):
        dataset = {"name": "folder", "folder": str(work / f"{images}images")}
        changes = {"dataset": dataset, "split": {"seed": seed}, "extract": extract}
        records(write_params(work / f"{name}.yaml", changes), work / f"{name}-raw", work / name)


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
    options = {"params": work / f"{shards}.yaml", "records": work / shards, "out": work / "out"}
    command = stage("bottleneck_extract", work / cache, backbone=arguments.backbone, **options)
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
