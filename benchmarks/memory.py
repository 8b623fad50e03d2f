"""Peak memory at ten times the images: extraction, and every head's training, as stages in processes of their own.

Anonymous memory is what a process holds for itself; pages of files that it maps can be dropped, so they don't count
(both are printed). Linux only. Run: python -m benchmarks.memory [--images 7000 70000] [--ways extract ridge ...]
"""

import resource
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import generated
from benchmarks.shared import ROOT, parser, records, stage, write_params

HEADS = ["ridge", "logistic", "softmax", "dnn", "xgboost"]
FEATURE_WIDTH, CLASSES = 1280, 10
# Few epochs and trees: memory doesn't grow with them.
FEW = {"ridge": {}, "logistic": {"penalties": [1000.0]}, "xgboost": {"num_trees": 3, "features": "bottleneck"}}


def main() -> None:
    """Prints the table."""
    options = parser("memory", __doc__)
    options.add_argument("--images", type=int, nargs=2, default=[7000, 70000], metavar="N", help="few and many")
    options.add_argument(
        "--ways", nargs="+", default=["extract", *HEADS], choices=["extract", *HEADS], metavar="WAY", help="to measure"
    )
    arguments = options.parse_args()
    print(f"{'':10s} {'images':>10s} {'seconds':>8s} {'anonymous':>10s} {'resident':>10s}   ratio of anonymous")
    for way in arguments.ways:
        first = 0.0
        for count in arguments.images:
            with tempfile.TemporaryDirectory() as name:
                command = extraction(Path(name), count) if way == "extract" else training(Path(name), way, count)
                start = time.perf_counter()
                peak, resident = peaks_mib(command)
                seconds = time.perf_counter() - start
            ratio = f"{peak / first:.2f}" if first else ""
            first = first or peak
            sizes = f"{peak:6.0f} MiB {resident:6.0f} MiB"
            print(f"{way:10s} {count:10,} {seconds:8.1f} {sizes}   {ratio}", flush=True)


def peaks_mib(command: list[str]) -> list[float]:
    """Runs a command; returns the peaks of its anonymous and its resident memory, looked at every 20 ms."""
    found = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            statm = Path(f"/proc/{process.pid}/statm").read_text(encoding="utf-8")
            _, resident, shared, *_ = map(int, statm.split())  # pages
            found.append((resident - shared, resident))
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return [max(pages) * resource.getpagesize() / 2**20 for pages in zip(*found, strict=True)]


def extraction(work: Path, count: int) -> list[str]:
    """Makes small images as TFRecords; returns the command of bottleneck-extract at 96 px."""
    generated.write_photos(work / "images", count, sizes=((32, 32),))
    dataset = {"name": "folder", "folder": str(work / "images")}
    params = write_params(work / "params.yaml", {"dataset": dataset, "extract": {"input_size_px": 96}})
    records(params, work / "raw", work / "tfrecord")
    options = {"params": params, "records": work / "tfrecord", "out": work / "out"}
    return stage("bottleneck_extract", work / "cache", backbone="efficientnet_lite0", **options)


def training(work: Path, head: str, count: int) -> list[str]:
    """Makes features; returns the command of train-heads."""
    params = write_params(work / "params.yaml", {head: FEW.get(head, {"epochs": 1})})
    generated.write_features(work / "features", {"train": count - 2000, "validation": 2000}, FEATURE_WIDTH, CLASSES)
    options = {"params": params, "bottlenecks": work / "features", "out": work / "head"}
    return stage("train_heads", work / "cache", head=head, **options)


if __name__ == "__main__":
    main()
