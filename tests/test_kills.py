"""SIGKILL at random moments of a stage, then a plain rerun: the outs are those of an undisturbed run, byte for byte.

DECANT_KILLS sets how many times each stage is killed, e.g. DECANT_KILLS=20 pytest tests/test_kills.py
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import contents
import pytest
from conftest import ROOT, call_stage, changed_params, write_images

KILLS = int(os.environ.get("DECANT_KILLS", "2"))
SEED = int(os.environ.get("DECANT_KILLS_SEED", "0"))


CHANGES = {
    "dataset.name": "folder",
    "extract.input_size_px": 64,
    "finetune.epochs": 3,
    "finetune.head_epochs": 2,
    "finetune.batch_size": 16,
    "finetune.unfrozen_blocks": 2,
}


class Project:
    """Generated images of three classes as TFRecords; stages on them as commands, each with a cache of its choice."""

    def __init__(self, folder, per_class):
        images = write_images(folder / "images", per_class=per_class)
        self._folder = folder
        self._params = changed_params(folder, CHANGES | {"dataset.folder": str(images)})
        call_stage("fetch", "--params", self._params, "--out", folder / "raw")
        options = ["--params", self._params, "--raw", folder / "raw", "--out", folder / "tfrecord"]
        call_stage("tfrecord", *options, "--examples", folder / "examples.png")

    def start(self, stage, out, cache, *options):
        common = ["--params", self._params, "--records", self._folder / "tfrecord", "--out", out]
        command = [sys.executable, "-m", f"stages.{stage}", "--backbone", "efficientnet_lite0", *common, *options]
        environment = os.environ | {"DECANT_CACHE": str(cache)}
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    def run(self, *arguments):
        """Runs a stage to its end and returns how many seconds it took."""
        started = time.monotonic()
        assert self.start(*arguments).wait() == 0
        return time.monotonic() - started


def kill_again_and_again(project, folder, stage, *options):
    """Runs a stage undisturbed, then kills it and runs it again, until KILLS of them have met a running process."""
    seconds = project.run(stage, folder / "undisturbed", folder / "cache", *options)
    expected = contents.of(folder / "undisturbed")
    moments = random.Random(f"{stage} {SEED}")
    hits = tries = 0
    while hits < KILLS and tries < 3 * KILLS + 3:
        cache, out = folder / f"cache-{tries}", folder / f"out-{tries}"
        process = project.start(stage, out, cache, *options)
        moment = moments.uniform(0.2, 1) * seconds
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        met = process.wait() == -signal.SIGKILL
        hits += met
        seconds = seconds if met else moment  # it took no longer: the machine was busier before
        tries += 1
        stored = len(list(cache.rglob("features/*/*.parquet")))
        print(f"{stage}: {hits} of {tries} kills met a running process; {stored} parts were in the store")
        project.run(stage, out, cache, *options)
        assert contents.of(out) == expected
        assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
        left = [path for path in cache.rglob("*") if "partial" in path.name or path.parent.name == "checkpoints"]
        assert left == []
        shutil.rmtree(cache)
        shutil.rmtree(out)
    assert hits == KILLS


@pytest.mark.slow
def test_extraction_is_killed(tmp_path):
    kill_again_and_again(Project(tmp_path, per_class=1400), tmp_path, "bottleneck_extract")  # five parts


@pytest.mark.slow
def test_finetuning_is_killed(tmp_path):
    project = Project(tmp_path, per_class=60)
    features = tmp_path / "features"
    project.run("bottleneck_extract", features, tmp_path / "features-cache")
    options = ["--bottlenecks", features, "--tensorboard", tmp_path / "tensorboard"]
    kill_again_and_again(project, tmp_path, "finetune", *options)
