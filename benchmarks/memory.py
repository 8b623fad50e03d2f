"""Peak memory at ten times the images: extraction, and every head's training, as stages in processes of their own.

Anonymous memory is what a process holds for itself; pages of files that it maps can be dropped, so they don't count
(both are printed). Linux only. Run: python -m benchmarks.memory [--images 7000 70000] [--ways extract ridge ...]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks import generated, photos
from benchmarks.extraction import ROOT, run_stage
from stages.library.settings import load_params

HEADS = ["ridge", "logistic", "softmax", "dnn", "xgboost"]
FEATURE_WIDTH, CLASSES = 1280, 10


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--images", type=int, nargs=2, default=[7000, 70000])
    parser.add_argument("--ways", nargs="+", default=["extract", *HEADS], choices=["extract", *HEADS], metavar="WAY")
    arguments = parser.parse_args()
    print(f"{'':10s} {'images':>10s} {'seconds':>8s} {'anonymous':>10s} {'resident':>10s}   ratio of anonymous")
    for way in arguments.ways:
        peaks = []
        for count in arguments.images:
            with tempfile.TemporaryDirectory() as name:
                work = Path(name)
                command = extraction(work, count) if way == "extract" else training(work, way, count)
                seconds, anonymous, resident = watched(command)
            peaks.append(anonymous)
            ratio = f"{peaks[-1] / peaks[0]:.2f}" if len(peaks) > 1 else ""
            print(
                f"{way:10s} {count:10,} {seconds:8.1f} {anonymous:6.0f} MiB {resident:6.0f} MiB   {ratio}", flush=True
            )


def extraction(work: Path, count: int) -> list[str]:
    """Makes small images as TFRecords; returns the command of bottleneck-extract at 96 px."""
    photos.write(work / "images", count, sizes=((32, 32),))
    changes = {"dataset": {"name": "folder", "folder": str(work / "images")}, "extract": {"input_size_px": 96}}
    write_params(work, changes)
    run_stage("fetch", "--params", work / "params.yaml", "--out", work / "raw")
    options = ["--params", work / "params.yaml", "--raw", work / "raw", "--out", work / "tfrecord"]
    run_stage("tfrecord", *options, "--examples", work / "examples.png")
    command = ["env", f"DECANT_CACHE={work / 'cache'}", sys.executable, "-m", "stages.bottleneck_extract", "--backbone"]
    command += ["efficientnet_lite0", "--params", str(work / "params.yaml"), "--records", str(work / "tfrecord")]
    return [*command, "--out", str(work / "out")]


def training(work: Path, head: str, count: int) -> list[str]:
    """Makes features; returns the command of train-heads, with few epochs and trees: memory doesn't grow with them."""
    few = {"ridge": {}, "logistic": {"penalties": [1000.0]}, "xgboost": {"num_trees": 3, "features": "bottleneck"}}
    write_params(work, {head: few.get(head, {"epochs": 1})})
    generated.write_features(work / "features", {"train": count - 2000, "validation": 2000}, FEATURE_WIDTH, CLASSES)
    command = ["env", f"DECANT_CACHE={work / 'cache'}", sys.executable, "-m", "stages.train_heads", "--head", head]
    command += ["--params", str(work / "params.yaml"), "--bottlenecks", str(work / "features")]
    return [*command, "--out", str(work / "head")]


def write_params(work: Path, changes: dict[str, dict[str, object]]) -> None:
    """Writes params.yaml with changed sections."""
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section] |= values
    with (work / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    load_params(work / "params.yaml")


def watched(command: list[str]) -> tuple[float, float, float]:
    """Runs a command; returns seconds and the peaks of anonymous and of all resident memory, MiB, seen every 20 ms."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    anonymous = resident = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:  # it has ended
            break
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
        anonymous = max(anonymous, kilobytes.get("RssAnon", 0))
        resident = max(resident, kilobytes.get("VmHWM", 0))
        time.sleep(0.02)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return time.perf_counter() - start, anonymous / 1024, resident / 1024


if __name__ == "__main__":
    if not shutil.which("env") or sys.platform != "linux":
        raise SystemExit("benchmarks.memory reads /proc: Linux only")
    main()
