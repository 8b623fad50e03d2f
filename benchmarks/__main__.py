"""Runs all benchmarks but those that need data: python -m benchmarks [--peers PEERS/bin/python].

PEERS is an environment with benchmarks/requirements-peers.txt, for timm, ONNX Runtime and OpenVINO as others use them.
Costs hours on 2 cores; each module can be run alone, with smaller sizes, and has --help.
"""

import argparse
import os
import shutil
import subprocess
import sys

from benchmarks.shared import ROOT

RUNS = (
    "extraction",
    "extraction --size 224 --images 1000",
    "extraction --backbone inception_v3 --size 299 --images 200",
    "feature_store",
    "memory",
    "heads",
    "table --rows 10000000",
    "scale --images 10000 100000",
    "near_duplicates fashion_mnist generated",
)
ON_GPU = ("gpu",)


def main() -> None:
    """Runs them; goes on after one that fails, and says so at the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", usage="%(prog)s [options]", description=__doc__)
    parser.add_argument("--peers", help="the Python of an environment with requirements-peers.txt")
    arguments = parser.parse_args()
    failed = []
    for run in ON_GPU if shutil.which("nvidia-smi") else RUNS:
        name, *options = run.split()
        if name == "extraction" and arguments.peers:
            options += ["--peers", arguments.peers]
        command = ["-m", f"benchmarks.{name}", *options]
        print(f"\n$ {' '.join(['python', *command])}", flush=True)
        # Heads are compared by CPU time, and threads that wait for each other would count as work.
        environment = os.environ | ({"OMP_NUM_THREADS": "1"} if name == "heads" else {})
        if subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
