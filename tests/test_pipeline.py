"""The pipeline in a real DVC repository: what runs again after which change, and that two runs give the same bytes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, change, write_pictures
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

BACKBONE = "efficientnet_lite0"
HEADS = ("ridge", "logistic", "xgboost")
# A data set and budgets that make a run of all stages a matter of a minute; every stage does its real work.
SMALL = {
    "heads": list(HEADS),
    "dataset.name": "folder",
    "dataset.folder": "data/pictures",
    "tfrecord.shards": 2,
    "extract.input_size_px": 32,
    "xgboost.num_trees": 5,
    "cross_validation.folds": 3,
    "fewshot.train_per_class": [5],
    "fewshot.draws": 2,
    "finetune.epochs": 2,
    "finetune.trained_blocks": 2,
    "scratch.epochs": 2,
    "evaluate.bootstrap_samples": 1000,
}
ALL_STAGES = {
    "fetch",
    "tfrecord",
    f"bottleneck-extract@{BACKBONE}",
    *(f"train-heads@{BACKBONE}-{head}" for head in HEADS),
    *(f"evaluate@{BACKBONE}-{head}" for head in HEADS),
    f"fewshot@{BACKBONE}",
    f"finetune@{BACKBONE}",
    f"evaluate-finetuned@{BACKBONE}",
    "train-scratch",
    "evaluate-scratch",
    "report",
}


class Project:
    """A copy of the project in a git and DVC repository of its own, with a cache of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in (
            "stages",
            ".dvc/config",
            ".dvc/.gitignore",
            ".dvc/plots",
            ".dvcignore",
            "dvc.yaml",
            "params.yaml",
            ".gitignore",
        ):
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, target)
        write_pictures(folder / "data" / "pictures", per_class=25)
        self.set(SMALL)
        self.git("init", "-q")
        self.commit()

    def set(self, changes):
        yaml, path = YAML(), self.folder / "params.yaml"
        content = change(yaml.load(path), changes)
        yaml.dump(content, path)

    def run(self, *command):
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DECANT_CACHE": str(self.folder / ".decant-cache"),
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout + done.stderr

    def git(self, *arguments):
        return self.run("git", *arguments)

    def commit(self):
        self.git("add", "-A", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def repro(self, *arguments):
        """Runs `dvc repro` (or another command of DVC) and returns the names of the stages that ran."""
        return set(re.findall(r"Running stage '([^']+)'", self.run("dvc", *(arguments or ("repro",)))))

    def outs(self):
        """Returns path -> hash of every out in dvc.lock."""
        stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which every stage has run."""
    project = Project(tmp_path_factory.mktemp("first"))
    assert project.repro() == ALL_STAGES
    project.commit()
    return project


@pytest.fixture
def restored(project):
    """The project as it was after its first run."""
    yield project
    project.git("checkout", "-q", ".")
    project.git("clean", "-fdq", "stages", "metrics", "data/pictures")
    project.run("dvc", "checkout", "--force", "-q")


def test_two_runs_from_nothing_give_the_same_bytes(project, tmp_path):
    other = Project(tmp_path / "second")
    assert other.repro() == ALL_STAGES
    assert other.outs() == project.outs()
    assert len(project.outs()) >= len(ALL_STAGES)


def test_nothing_changed_runs_nothing(restored):
    assert restored.repro() == set()


def test_a_heads_parameter_reruns_that_head_its_evaluation_and_the_report(restored):
    restored.set({"ridge.penalties": [5.0]})
    assert restored.repro() == {
        f"train-heads@{BACKBONE}-ridge",
        f"evaluate@{BACKBONE}-ridge",
        f"fewshot@{BACKBONE}",
        "report",
    }


def test_a_new_head_reruns_nothing_but_itself_and_the_report(restored):
    heads = restored.folder / "stages" / "library" / "heads"
    shutil.copy(heads / "ridge.py", heads / "ridge_again.py")
    restored.set({"heads": [*HEADS, "ridge_again"]})
    restored.set({"ridge_again": {"features": "logits", "scaling": "none", "power": 1.0, "penalties": [1.0, 10.0]}})
    assert restored.repro() == {f"train-heads@{BACKBONE}-ridge_again", f"evaluate@{BACKBONE}-ridge_again", "report"}


def test_editing_a_head_reruns_its_own_stages(restored):
    path = restored.folder / "stages" / "library" / "heads" / "xgboost.py"
    path.write_text(path.read_text() + "\n# edited\n")
    # The report does not run: the same code apart from a comment gives the same metrics.
    assert restored.repro() == {
        f"train-heads@{BACKBONE}-xgboost",
        f"evaluate@{BACKBONE}-xgboost",
        f"fewshot@{BACKBONE}",
    }


def test_editing_a_backbone_reruns_what_runs_it(restored):
    path = restored.folder / "stages" / "library" / "backbones" / f"{BACKBONE}.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert restored.repro() == {
        f"bottleneck-extract@{BACKBONE}",
        f"finetune@{BACKBONE}",
        f"evaluate-finetuned@{BACKBONE}",
    }


def test_a_new_picture_is_seen(restored):
    write_pictures(restored.folder / "data" / "pictures", per_class=26)
    assert "tfrecord" in restored.repro("repro", "tfrecord")


def test_exp_run_with_fewer_heads_runs_the_report_alone(restored):
    ran = restored.repro("exp", "run", "-S", "heads=[ridge,logistic]")
    assert ran == {"report"}
    table = (restored.folder / "artifacts" / "report" / "leaderboard.csv").read_text()
    assert "ridge" in table
    assert "xgboost" not in table
