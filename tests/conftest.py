"""What the tests share: a small data set on disk, params.yaml with changes, stages run as a user runs them."""

import fcntl
import importlib
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the first import of TensorFlow, or it is too late
# Processes share the cores. XGBoost's threads that wait would take a fifth of the CPU time from the others; where each
# core has a process, second threads cost more than they bring: a fifth as well.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(pool, "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image
from ruamel.yaml import YAML

from stages.library.common import console
from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile
from tests import misbehaving

ROOT = Path(__file__).parents[1]

for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # under `make test`, a `make` of a test is no part of that one
    os.environ.pop(name, None)

# One slow call on a busy machine is no defect. In CI the same cases each time, elsewhere new ones in every run.
settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("shared machine")

# They take minutes each. Begun last, one of them is all that runs in the end, while the other processes wait.
LONGEST = (
    "test_docs_run.py",
    "test_systems_run.py",
    "test_pipeline.py",
    "test_docs.py",
    "test_export.py",
    "test_kills.py",
)


def pytest_collection_modifyitems(items):
    """Puts the longest files first and leaves everything else in its order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def read_yaml(path):
    return YAML(typ="safe", pure=True).load((ROOT / path).read_text(encoding="utf-8"))


def change(content, changes):
    """Sets dotted keys, e.g. {"dataset.name": "folder"}, in a nested dict."""
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[key] = value
    return content


def changed_params(folder, changes):
    """Writes the project's params.yaml with changed keys into a folder and returns its path."""
    path = folder / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(change(read_yaml("params.yaml"), changes), file)
    return path


def call_stage(name, *arguments):
    """Runs a stage's main function with command-line arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"stages.{name}", *map(str, arguments)])
        importlib.import_module(f"stages.{name}").main()


@pytest.fixture
def default_params():
    """The content of the project's params.yaml."""
    return read_yaml("params.yaml")


@pytest.fixture
def write_params(tmp_path):
    """Writes a params.yaml with changed keys, in which "__" stands for a dot, and returns its path."""
    return lambda **changes: changed_params(tmp_path, {key.replace("__", "."): changes[key] for key in changes})


@pytest.fixture
def run_stage():
    return call_stage


@pytest.fixture
def run_app(monkeypatch, capsys):
    """Runs a program of app/ by its name; returns its exit status or error, stdout and stderr."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"app.{name}", *map(str, arguments)])
        try:
            console.run(importlib.import_module(f"app.{name}").main)
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


@pytest.fixture
def make_records(tmp_path, write_params, run_stage):
    """Runs fetch and tfrecord with a params.yaml, and returns the folder of the records."""

    def make(**changes):
        params, raw, out = write_params(**changes), tmp_path / "raw", tmp_path / "out"
        run_stage("fetch", "--params", params, "--out", raw)
        run_stage("tfrecord", "--params", params, "--raw", raw, "--out", out, "--examples", tmp_path / "examples.png")
        return out

    return make


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    """Keeps tests out of the user's cache folder."""
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def server():
    """A server of `misbehaving`."""
    with misbehaving.running() as one:
        yield one


@pytest.fixture
def remote(server):
    """The file that the server has."""
    return RemoteFile("file.bin", (server.url(),), len(misbehaving.CONTENT), misbehaving.SHA256)


def write_images(folder, per_class=12, classes=("cat", "dog", "emu"), size_px=24, seed=0):
    """Writes a folder of small PNG images by class, each class with a colour of its own under noise."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            pixels = rng.integers(0, 128, (size_px, size_px, 3))
            pixels[..., label % 3] += 110
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def trained_project(tmp_path_factory):
    """A project with a model of each kind, to be read only; see trained.py. The processes of a run share it."""
    import trained

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "trained.done").exists():
            trained.build(folder / "trained")
            (folder / "trained.done").touch()
    return folder / "trained"


@pytest.fixture(scope="session")
def two_branches(tmp_path_factory):
    """A repository with two branches, see repository.py, to be read only."""
    import repository

    return repository.changed(tmp_path_factory.mktemp("two") / "branches")


@pytest.fixture
def branches(two_branches, tmp_path, monkeypatch):
    """A copy of it, as current folder."""
    copy = type(two_branches)(tmp_path / "copy")
    shutil.copytree(two_branches.path, copy.path, symlinks=True)
    monkeypatch.chdir(copy.path)
    return copy


@pytest.fixture
def pr_report(monkeypatch):
    """Runs app.pr_report as `pr_report(*arguments)`, without images unless asked for; returns the comment."""
    from app import pr_report as program

    def run(*arguments, base="main", plots=False, broken=""):
        options = ["--base", base] + ([] if plots else ["--no-plots"])
        monkeypatch.setattr(sys, "argv", ["app.pr_report", *options, *arguments])
        with pytest.raises(UserError, match=broken) if broken else nullcontext():
            program.main()
        return Path("pr-report", "comment.md").read_text(encoding="utf-8")

    return run
