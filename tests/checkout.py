"""A copy of the project in a git and DVC repository of its own, small enough that all stages run in a minute."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, change, write_images
from ruamel.yaml import YAML

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
    "fewshot.shots": [5],
    "fewshot.repeats": 2,
    "finetune.epochs": 2,
    "finetune.unfrozen_blocks": 2,
    "scratch.epochs": 2,
    "evaluate.bootstrap_samples": 1000,
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
        write_images(folder / "data" / "pictures", per_class=25)
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
