"""A project of few images and short trainings on which the commands of README and docs are run."""

import csv
import functools
import itertools
import json
import re
import shlex
import shutil

from checkout import Project
from conftest import ROOT
from dvc.utils.hydra import get_hydra_sweeps  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from stages.library.common.artifacts import sha256_file
from tests.stages.plugins.datasets.test_cifar import CIFAR10, archive, members

LITE0 = "efficientnet_lite0"
SIZES = {
    "heads": ["ridge", "dnn"],
    "softmax.epochs": 2,
    "dnn.hidden_units": [16],
    "dnn.epochs": 2,
    "cross_validation.folds": 2,
    "fewshot.heads": ["ridge"],
    "fewshot.shots": [2],
    "fewshot.folds": 2,
    "finetune.unfrozen_blocks": 1,
    "finetune.head_epochs": 2,
    "evaluate.images": 2,
    "audit.images": 2,
}


class Place:
    """A project, and what stands in the place of PATH, HEX and IMAGE."""

    def __init__(self, folder):
        self.project = Project(folder)
        self.folder = folder
        shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copytree(ROOT / "docs" / "recipes", folder / "docs" / "recipes")
        shutil.copy(folder / "data" / "pictures" / "cat" / "0.png", folder / "new.jpg")
        shutil.make_archive(str(folder / "train_images"), "zip", folder / "data" / "pictures")
        rows = [f"{text}/{index},{text}" for text in ("cat", "dog", "emu") for index in range(25)]
        (folder / "train.csv").write_text("\n".join(["filename,label", *rows]), encoding="utf-8")
        self.project.set(SIZES)
        self.project.commit()
        self.cifar10 = archive(folder.parent, members(CIFAR10, size=20))
        self.experiments: list[list[str]] = []

    def restore(self):
        """As it was after the first run."""
        self.project.git("checkout", "-q", ".")
        self.project.git("clean", "-fdq", "metrics")
        self.project.run("dvc", "checkout", "--force", "-q", "--allow-missing")
        self.project.run("dvc", "exp", "remove", "--all-commits", "-q")
        self.experiments = []

    def type(self, line):
        """Runs a line and returns what it prints."""
        filled = line.replace("=PATH", f"={self.cifar10}").replace("=HEX", f"={sha256_file(self.cifar10)}")
        filled = re.sub(r"^make ", "make --old-file .venv/bin/.installed ", filled)
        filled = filled.replace("IMAGE...", "new.jpg").replace("predict FOLDER", "predict data/pictures/cat")
        if line.startswith(
            "dvc queue start"
        ):  # a worker that outlives its queue holds a pipe open, and nobody would end
            filled += f" > {self.folder.parent / 'queue.txt'} 2>&1"
        printed = self.project.run("bash", "-euo", "pipefail", "-c", f"export COLUMNS=400; {filled}")
        if line.startswith("dvc exp run") and "--run-all" not in line:
            words = shlex.split(line)
            overrides = [word for flag, word in itertools.pairwise(words) if flag == "-S"]
            points = get_hydra_sweeps({"params.yaml": overrides}) if overrides else [{"params.yaml": []}]
            self.experiments += [self.changes(point["params.yaml"]) for point in points]
        return printed

    def changes(self, overrides):
        """The words KEY=VALUE by which an experiment differs from the commit, as app.experiments writes them."""
        yaml = YAML(typ="safe")
        committed = yaml.load(self.project.git("show", "HEAD:params.yaml"))
        words = []
        for key, _, text in (word.partition("=") for word in overrides):
            section, _, name = key.partition(".")
            value = yaml.load(text)
            if value != (committed[section][name] if name else committed[section]):
                words.append(f"{key}={json.dumps(value, separators=(',', ':'))}")
        return sorted(words)

    def metrics(self, name):
        return json.loads((self.folder / "metrics" / f"{name}.json").read_text(encoding="utf-8"))

    def leaderboard(self):
        with (self.folder / "artifacts" / "report" / "leaderboard.csv").open(encoding="utf-8") as file:
            return [row["model"] for row in csv.DictReader(file)]

    def ran_with(self, stage, key):
        """The value of a parameter with which a stage last ran, by dvc.lock."""
        locked = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"][stage]["params"]["params.yaml"]
        return functools.reduce(lambda part, name: part[name], key.split("."), locked)
