"""What people type first in a fresh clone, whose cache is empty: the real dvc.yaml, with stages that write little."""

import json
import re
import shutil
from pathlib import Path

import pytest
from checkout import Project
from conftest import ROOT
from dvc.repo import Repo  # type: ignore[import-untyped]

from tests import processes

# DVC's own, where it reads stages.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

SMALL = {"heads": ["ridge"], "fewshot.heads": ["ridge"], "fewshot.shots": [2]}
STAGE = '''\
"""Stands for a stage: writes its outs, which differ with params.yaml."""
import json, sys, zlib
from pathlib import Path

mean = zlib.crc32(Path("params.yaml").read_bytes()) / 2**32
numbers = {"cross_validation": {"top1_accuracy": {"mean": mean}}}
columns = "accuracy", "actual", "class", "confidence", "predicted", "recall", "shots", "step", "top1_accuracy"
files = json.loads(Path("outs.json").read_text())[" ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])]
for path in map(Path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = "\\n".join([",".join(columns), ",".join([str(mean)] * len(columns)), ""])
    path.write_text(table if path.suffix == ".csv" else json.dumps(numbers))
'''


def outs(folder):
    """Returns command -> the files that its stage is to write, with those in a folder that others depend on."""
    with Repo(folder) as repo:
        stages = [(stage.cmd, [out.def_path for out in stage.outs], stage.deps) for stage in repo.index.stages]
    deps = {dep.def_path for *_, some in stages for dep in some}
    files = {}
    for command, paths, _ in stages:
        inside = [dep for dep in deps if any(dep.startswith(f"{path}/") for path in paths)]
        made = [path if Path(path).suffix else f"{path}/part" for path in paths]
        files[command.removeprefix("python -m stages.")] = sorted({*made, *inside})
    return files


def prepare(folder):
    """Returns a project in which all stages have run, committed."""
    project = Project(folder)
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "stages").glob("[a-z]*.py"):
        path.write_text(STAGE)
    project.set(SMALL)
    (folder / "outs.json").write_text(json.dumps(outs(folder)))
    project.commit()
    assert "report" in project.repro()
    project.commit()
    return project


class Clone:
    """A clone without a cache."""

    def __init__(self, origin, folder):
        self.folder = folder
        origin.git("clone", "-q", origin.folder, folder)

    def type(self, line):
        """Runs a line; returns what it prints."""
        done = processes.run(*line.split(), cwd=self.folder, COLUMNS=400, **processes.GIT)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def clone(origin, tmp_path):
    return Clone(origin, tmp_path / "clone")


@pytest.mark.parametrize("words", ["evaluate", "", "--temp evaluate", "--temp"])
def test_an_experiment_is_saved(clone, words):
    assert re.search(r"Ran experiment\(s\): \S+", clone.type(f"dvc exp run -S split.seed=1 {words}"))
    assert clone.type("git branch --show-current").strip()
    (name,) = clone.type("git for-each-ref --format=%(refname) refs/exps/*/*/*").split()
    tracked = clone.type(f"git ls-tree -r --name-only {name}")
    assert "dvc.lock" in tracked
    assert "artifacts/" not in tracked
    shown = clone.type("python -m app.experiments")
    assert "experiments: 1." in shown
    assert "split.seed=1" in shown


def test_queued_experiments_are_saved(clone):
    clone.type("dvc exp run --queue -S split.seed=1,2 evaluate")
    clone.type("dvc exp run --run-all")
    assert "experiments: 2." in clone.type("python -m app.experiments")


def test_the_report_is_written_after_the_stages_that_were_named(clone):
    clone.type("dvc repro evaluate")
    clone.type("dvc repro -s report")
    assert (clone.folder / "artifacts" / "report").is_dir()


@pytest.mark.parametrize("line", ["dvc metrics diff", "dvc plots show", "python -m app.experiments"])
def test_what_reads_results_works_before_any_run(clone, line):
    clone.type(line)
