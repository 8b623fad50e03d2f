"""Every stage from fetch to report by the number of images: seconds, peak memory and bytes, and what grows too fast.

The images are generated, 32 px a side, in a zip; budgets of epochs and trees are small, for they cost in proportion.
Memory is that of a stage and its processes, without pages of files, which can be dropped. Linux only. Run:
python -m benchmarks.scale --images 1000 10000
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import generated
from benchmarks.shared import ROOT, parser, write_params

BACKBONE = "efficientnet_lite0"
HEADS = ["ridge", "logistic", "softmax", "xgboost"]
SECTIONS: dict[str, Any] = {
    "extract": {"input_size_px": 32},
    "logistic": {"penalties": [1000.0]},
    "softmax": {"epochs": 2},
    "dnn": {"epochs": 1},
    "xgboost": {"num_trees": 3},
    "fewshot": {"heads": ["ridge"], "shots": [5], "repeats": 2},
    "finetune": {"epochs": 1, "head_epochs": 1, "warmup_epochs": 0.0, "unfrozen_blocks": 1},
    "scratch": {"epochs": 1, "warmup_epochs": 0.0},
}
SAMPLE_SECONDS = 0.05


class Cost(NamedTuple):
    """What a stage took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float  # of the stage and its processes together
    out_mib: float


def main() -> None:
    """Prints a table for each number of images as its stages end, and then how each stage's cost has grown."""
    options = parser("scale", __doc__)
    options.add_argument("--images", type=int, nargs="+", default=[1000, 10000], metavar="N", help="rising")
    options.add_argument("--heads", nargs="+", default=HEADS, metavar="HEAD", help=f"in place of {' '.join(HEADS)}")
    options.add_argument("--runtime", default="openvino", metavar="NAME", help="or tensorflow")
    options.add_argument("--shards", type=int, metavar="N", help="of each split; without it one for 10,000 images")
    options.add_argument("--work", type=Path, metavar="DIR", help="kept; what is there is not made again")
    options.add_argument("--stages", nargs="+", metavar="NAME", help="those alone whose names begin so; needs --work")
    arguments = options.parse_args()
    found: dict[int, dict[str, Cost]] = {}
    for count in arguments.images:
        with tempfile.TemporaryDirectory() as name:
            found[count] = measured((arguments.work or Path(name)).resolve() / str(count), count, arguments)
    for few, many in zip(arguments.images, arguments.images[1:], strict=False):
        print(f"\n{few:,} to {many:,} images: ratios of CPU seconds an image, of seconds an image, and of memory")
        for stage in found[few]:
            first, then = found[few][stage], found[many][stage]
            seconds, cpu = (
                then[field] / many * few / first[field] for field in map(Cost._fields.index, ("seconds", "cpu_seconds"))
            )
            print(f"{stage:44s} {cpu:8.2f} {seconds:8.2f} {then.peak_mib / first.peak_mib:8.2f}")


def measured(folder: Path, count: int, arguments: argparse.Namespace) -> dict[str, Cost]:
    """Runs the stages on so many images in a project of their own, and prints what each of them took."""
    print(f"\n{count:,} images", flush=True)
    if not (folder / ".dvc").exists():
        start = time.monotonic()
        make_project(folder, count, arguments)
        print(f"made in {time.monotonic() - start:.0f} s")
    print(f"{'stage':44s} {'seconds':>8s} {'of CPU':>8s} {'MiB':>8s} {'MiB of outs':>12s}")
    found = {}
    for stage in stages(folder):
        if any(stage["name"].startswith(start) for start in arguments.stages or [""]):
            cost = found[stage["name"]] = run(folder, stage)
            print(
                f"{stage['name']:44s} {cost.seconds:8.1f} {cost.cpu_seconds:8.1f} {cost.peak_mib:8.0f} "
                f"{cost.out_mib:12.1f}",
                flush=True,
            )
    total = [sum(each) for each in zip(*found.values(), strict=True)]
    print(
        f"{'all':44s} {total[0]:8.1f} {total[1]:8.1f} {max(each.peak_mib for each in found.values()):8.0f}", flush=True
    )
    return found


def make_project(folder: Path, count: int, arguments: argparse.Namespace) -> None:
    """Makes a project with the stages of this one, and its images."""
    (folder / "data").mkdir(parents=True)
    generated.write_small_archive(folder / "data" / "images.zip", count)
    for name in ("stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data" / "corrections.csv").write_bytes((ROOT / "data" / "corrections.csv").read_bytes())
    shards = arguments.shards or max(count // 10_000, 1)
    sections = SECTIONS | {"dataset": {"name": "folder", "folder": "data/images.zip"}, "tfrecord": {"shards": shards}}
    sections["extract"] = sections["extract"] | {"runtime": arguments.runtime}
    write_params(folder / "params.yaml", sections | {"heads": arguments.heads, "backbones": [BACKBONE]})
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=folder, check=True)


def stages(folder: Path) -> list[dict[str, Any]]:
    """Returns the stages as DVC resolves them, in an order in which they can run: name, cmd and outs."""
    code = """
import json, networkx
from dvc.repo import Repo
graph = Repo(".").index.graph
order = networkx.lexicographical_topological_sort(graph.reverse(), key=lambda stage: stage.addressing)
print(json.dumps([{"name": s.addressing, "cmd": s.cmd, "outs": [out.def_path for out in s.outs]} for s in order]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(folder: Path, stage: dict[str, Any]) -> Cost:
    """Runs a stage, without DVC, which adds the hashing of its outs."""
    command = [sys.executable, *shlex.split(stage["cmd"])[1:]]
    # Unbuffered, or what it printed would come after its error.
    environment = os.environ | {"DECANT_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    peak = 0.0
    with (
        (folder / "log").open("a") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        while process.poll() is None:
            peak = max(peak, memory_mib(process.pid, peak))
            time.sleep(SAMPLE_SECONDS)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        lines = (folder / "log").read_text().splitlines()
        raise SystemExit(f"{stage['name']} failed: {lines[-1] if lines else process.returncode}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, cpu, peak, sum(size_bytes(folder / out) for out in stage["outs"]) / 2**20)


def memory_mib(pid: int, above_mib: float) -> float:
    """Returns what a process and those that it has started hold for themselves, which are no pages of files.

    A page that some of them share is counted once, for just after a fork they share nearly all. That count takes long,
    so it is made only where the sum of all is above `above_mib`; else 0 is returned.
    """
    import psutil  # type: ignore[import-untyped]

    pages, shares_kb = 0, 0
    try:
        processes = [top := psutil.Process(pid), *top.children(recursive=True)]
        for process in processes:
            _, resident, shared, *_ = map(int, Path(f"/proc/{process.pid}/statm").read_text(encoding="utf-8").split())
            pages += resident - shared
        if pages * resource.getpagesize() > above_mib * 2**20:
            for process in processes:
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
                shares_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
    except (psutil.Error, OSError, ValueError):  # one has just ended
        pass
    return shares_kb / 2**10


def size_bytes(path: Path) -> int:
    """Returns the size of a file, or of all in a folder."""
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())


if __name__ == "__main__":
    main()
