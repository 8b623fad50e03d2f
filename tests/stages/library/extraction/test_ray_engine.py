"""The Ray engine on a cluster of two processes of this machine, against one process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import contents
import insects
import pytest
from conftest import ROOT

from stages.library.common import store_location
from stages.library.common.console import UserError
from stages.library.extraction import extraction, feature_store, ray_engine

IMAGES = 64


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    counts = {"train": [IMAGES - 8], "validation": [4], "test": [4]}
    return insects.shards(tmp_path_factory.mktemp("tfrecord"), counts, seed=1)


@pytest.fixture(scope="module")
def cluster():
    import ray

    # In tests the Ray of this machine is started with what the actors need to import the project and its helpers.
    environment = {"env_vars": {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}}
    ray.init(num_cpus=2, runtime_env=environment, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def extract(shards, out, cache, **changes):
    os.environ["DECANT_CACHE"] = str(cache)  # conftest sets it back
    out.mkdir()
    options = insects.options(4, input_size_px=64, **changes)
    return extraction.extract("efficientnet_lite0", options, shards, insects.DATASET, out).computed


@pytest.fixture(scope="module")
def alone(shards, tmp_path_factory):
    """What one process wrote, a new one as a stage has.

    In this one TensorFlow's threads are as the first test left them, and the last bits of features depend on them.
    """
    folder = tmp_path_factory.mktemp("local")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(extract, shards, folder / "out", folder / "cache").result() == IMAGES
    return contents.of(folder / "out")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the actors by their command lines")
@pytest.mark.parametrize(("rows_per_part", "kills"), [(8, 0), (4, 1)])
def test_ray_gives_the_bytes_of_one_process_even_if_an_actor_is_killed(
    shards, alone, cluster, tmp_path, monkeypatch, rows_per_part, kills
):
    monkeypatch.setattr(feature_store, "ROWS_PER_PART", rows_per_part)
    killed = []

    def kill_after_the_first_part():
        while not list(tmp_path.glob("other/features/*/*.parquet")):
            time.sleep(0.01)
        found = subprocess.run(["pgrep", "-f", "^ray::Actor"], capture_output=True, text=True).stdout.split()
        for process in found[:kills]:
            os.kill(int(process), signal.SIGKILL)
            killed.append(process)

    killer = threading.Thread(target=kill_after_the_first_part, daemon=True)
    killer.start()
    assert extract(shards, tmp_path / "ray", tmp_path / "other", engine="ray") == IMAGES
    killer.join()
    assert len(killed) == kills
    assert contents.of(tmp_path / "ray") == alone
    assert len(list(tmp_path.glob("other/features/*/*.parquet"))) > 2


@pytest.mark.slow
def test_what_fails_in_an_actor_is_one_line(shards, cluster, tmp_path):
    with pytest.raises(UserError, match=r"a task failed on Ray .*float32 without a GPU"):
        extract(shards, tmp_path / "ray", tmp_path, engine="ray", precision="float16")
    assert not list(store_location.root().glob("*/*.parquet"))


def test_a_cluster_without_room_says_what_is_missing():
    assert ray_engine.room({"CPU": 7.0}, 2, 0.0) == 3
    assert ray_engine.room({"CPU": 7.0, "GPU": 1.0}, 2, 0.5) == 2
    with pytest.raises(UserError, match=r"7 CPUs, 0 GPUs.*0\.5 GPUs \(`extract\.ray_gpus`"):
        ray_engine.room({"CPU": 7.0}, 2, 0.5)


@pytest.mark.parametrize(("chosen", "expected"), [(None, False), ("0", False), ("1", True)])
def test_ray_reports_to_its_makers_only_where_the_user_says_so(monkeypatch, chosen, expected):
    import ray
    from ray._common.usage import usage_lib

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", chosen or "set back afterwards")
    if chosen is None:
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    ray_engine._connected()
    assert usage_lib.usage_stats_enabled() == expected


def test_without_ray_the_remedy_is_named(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-ray\.txt"):
        extract(shards, tmp_path / "none", tmp_path, engine="ray")
