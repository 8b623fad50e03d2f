"""The Ray engine on a cluster of two processes of this machine, against the local engine."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import contents
import insects
import numpy as np
import pytest
import sharded
from ruamel.yaml import YAML

from stages.library.common import artifacts, params, store_location
from stages.library.common.console import UserError
from stages.library.extraction import extraction, feature_parts
from stages.library.extraction.engine import Resources
from stages.library.extraction.engines import ray

IMAGES = 64
SMALL = {"input_size_px": 64, "batch_size": 4}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfrecord")
    rng = np.random.default_rng(1)
    counts = {"train": IMAGES - 8, "validation": 4, "test": 4}
    sharded.write(folder, {split: [[insects.record(rng) for _ in range(n)]] for split, n in counts.items()})
    artifacts.write_json(folder / "dataset.json", insects.DATASET)
    return folder


@pytest.fixture(scope="module")
def cluster():
    import ray

    # In tests the Ray of this machine is started with what the actors need to import the project and its helpers.
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[4]), "TF_CPP_MIN_LOG_LEVEL": "3"}}
    ray.init(num_cpus=2, runtime_env=environment, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def extract(default_params, shards, out, **changes):
    section = default_params["extract"] | SMALL | changes
    out.mkdir()
    parsed = params.parse("extract", section, extraction.Params)
    return extraction.extract("efficientnet_lite0", parsed, shards, insects.DATASET, out)


def extract_alone(section, shards, out, cache):
    """Extracts in a process of its own, as a stage does.

    In this one TensorFlow's threads are as the first test left them, and the last bits of features depend on them.
    """
    os.environ["DECANT_CACHE"] = str(cache)
    parsed = params.parse("extract", section, extraction.Params)
    out.mkdir()
    return extraction.extract("efficientnet_lite0", parsed, shards, insects.DATASET, out)


@pytest.fixture(scope="module")
def local(shards, tmp_path_factory):
    """The folder that the local engine wrote."""
    folder = tmp_path_factory.mktemp("local")
    section = YAML(typ="safe").load((Path(__file__).parents[4] / "params.yaml").read_text())["extract"] | SMALL
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        done = pool.submit(extract_alone, section, shards, folder / "out", folder / "cache").result()
    assert done.computed == IMAGES
    return folder / "out"


@pytest.mark.slow
def test_ray_gives_the_bytes_of_the_local_engine(default_params, shards, local, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_parts, "ROWS_PER_PART", 8)
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path / "other"))
    assert extract(default_params, shards, tmp_path / "ray", engine="ray").computed == IMAGES
    assert contents.of(local) == contents.of(tmp_path / "ray")
    assert len(list((tmp_path / "other").glob("features/*/*.parquet"))) > 2


def actor_processes():
    """Returns the process ids of the actors on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::Actor"):
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the actors in /proc")
def test_an_actor_killed_in_mid_run_loses_nothing(default_params, shards, local, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_parts, "ROWS_PER_PART", 4)
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path / "other"))
    killed = []

    def kill_after_the_first_part():
        while not list((tmp_path / "other").glob("features/*/*.parquet")):
            time.sleep(0.01)
        for process in actor_processes()[:1]:
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    killer = threading.Thread(target=kill_after_the_first_part, daemon=True)
    killer.start()
    assert extract(default_params, shards, tmp_path / "ray", engine="ray").computed == IMAGES
    killer.join()
    assert killed
    assert contents.of(local) == contents.of(tmp_path / "ray")


@pytest.mark.slow
def test_what_fails_in_an_actor_is_one_line(default_params, shards, cluster, tmp_path):
    with pytest.raises(UserError, match=r"a task failed on Ray .*float32 without a GPU"):
        extract(default_params, shards, tmp_path / "ray", engine="ray", precision="float16")
    assert not list(store_location.root().glob("*/*.parquet"))


def test_a_cluster_without_room_says_what_is_missing():
    assert ray.room({"CPU": 7.0}, Resources(None, 2, 0.0)) == 3
    assert ray.room({"CPU": 7.0, "GPU": 1.0}, Resources(None, 2, 0.5)) == 2
    with pytest.raises(UserError, match=r"7 CPUs, 0 GPUs.*0\.5 GPUs \(`extract\.ray_gpus`"):
        ray.room({"CPU": 7.0}, Resources(None, 2, 0.5))


def test_without_ray_the_remedy_is_named(default_params, shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-ray\.txt"):
        extract(default_params, shards, tmp_path / "none", engine="ray")
