"""A copy of the project in a git and DVC repository of its own, small enough that all stages run in a minute."""

import json
import re
import shutil
from pathlib import Path

from conftest import ROOT, change, write_images
from ruamel.yaml import YAML

from tests import processes

CORRECTIONS = "data/corrections.csv"
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
}


class Project:
    """A copy of the project in a git and DVC repository of its own, with a cache of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        files = "dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", CORRECTIONS
        for name in ("stages", ".dvc/plots", *files):
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
        done = processes.run(*command, cwd=self.folder, DECANT_CACHE=self.folder / ".decant-cache", **processes.GIT)
        return done.stdout + done.stderr

    def git(self, *arguments):
        return self.run("git", *arguments)

    def commit(self):
        self.git("add", "-A", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def repro(self, *arguments):
        """Runs `dvc repro` (or another command of DVC) and returns the stages that ran; inputs runs each time."""
        return set(re.findall(r"Running stage '([^']+)'", self.run("dvc", *(arguments or ("repro",))))) - {"inputs"}

    def changed(self):
        """Returns the stages that DVC would run, as `repro` does."""
        return set(json.loads(self.run("dvc", "status", "--json"))) - {"inputs"}

    def outs(self):
        """Returns path -> hash of every out in dvc.lock."""
        stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
