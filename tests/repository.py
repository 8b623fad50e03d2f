"""A small Git and DVC repository in the shape of this project: a matrix of backbones and heads, metrics and plots."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from conftest import ROOT
from markdown_it import MarkdownIt

from tests import processes

PARAMS = """\
backbones: [tiny]
heads: [ridge, softmax]
ridge: {accuracy: 0.9}
softmax: {accuracy: 0.8}
"""

DVC_YAML = """\
stages:
  features:
    cmd: python features.py
    deps: [features.py]
    outs: [artifacts/features.txt]
  evaluate:
    matrix:
      backbone: ${backbones}
      head: ${heads}
    cmd: python evaluate.py ${item.backbone} ${item.head}
    params: ["${item.head}"]
    deps: [evaluate.py, artifacts/features.txt]
    metrics:
      - metrics/${item.backbone}/${item.head}.json: {cache: false}
    plots:
      - artifacts/evaluation/${item.backbone}/${item.head}/confusion.csv:
          {template: confusion_counts, x: predicted, y: actual}
      - artifacts/evaluation/${item.backbone}/${item.head}/mistakes.png
"""

FEATURES = """\
from pathlib import Path

Path("artifacts").mkdir(exist_ok=True)
Path("artifacts/features.txt").write_text("features")
with open("runs.log", "a") as log:
    log.write("features\\n")
"""

EVALUATE = """\
import json, sys
from pathlib import Path
from PIL import Image
from ruamel.yaml import YAML

backbone, head = sys.argv[1:]
accuracy = YAML(typ="safe").load(Path("params.yaml"))[head]["accuracy"]
metrics = Path(f"metrics/{backbone}/{head}.json")
metrics.parent.mkdir(parents=True, exist_ok=True)
metrics.write_text(json.dumps({
    "top1_accuracy": accuracy,
    "top1_accuracy_interval": {"low": accuracy - 0.02, "high": accuracy + 0.02},
    "log_loss": round(1 - accuracy, 6),
    "cross_validation": {"top1_accuracy": {"mean": accuracy, "std": 0.06}},
    "num_examples": 100,
}))
folder = Path(f"artifacts/evaluation/{backbone}/{head}")
folder.mkdir(parents=True, exist_ok=True)
right = round(100 * accuracy)
(folder / "confusion.csv").write_text(f"actual,predicted,count\\ncat,cat,{right}\\ncat,dog,{100 - right}\\n")
Image.new("RGB", (40, 30), (right, 0, 0)).save(folder / "mistakes.png")
with open("runs.log", "a") as log:
    log.write(f"{backbone} {head}\\n")
"""

SOFTMAX, RIDGE = "metrics/tiny/softmax.json", "metrics/tiny/ridge.json"
IGNORED = "/artifacts/\n/runs.log\n/pr-report/\n"


@dataclass(frozen=True)
class Repository:
    """A checkout that commands can be run in."""

    path: Path

    def run(self, *command, check=True, **environment):
        """Runs a command here, with this project's code and no caches of DVC but in the folder above."""
        kinds = "GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE"
        ours = processes.GIT | {f"DVC_{kind}_DIR": self.path.parent / kind.lower() for kind in kinds}
        ours |= {"DVC_NO_ANALYTICS": "true", "PYTHONPATH": ROOT}
        return processes.run(*command, cwd=self.path, check=check, **ours | environment)

    def git(self, *arguments):
        return self.run("git", *arguments).stdout.strip()

    def dvc(self, *arguments, check=True, **environment):
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check, **environment)

    def write(self, path, text):
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def metrics(self, path, **values):
        """Replaces keys of a metrics file."""
        content = json.loads((self.path / path).read_text(encoding="utf-8"))
        self.write(path, json.dumps(content | values))

    def runs(self):
        """Names of the stages that ran here, in order."""
        log = self.path / "runs.log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def made(path):
    """Returns a repository whose branch main holds the pipeline, run and committed."""
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.git("init", "--quiet", "--initial-branch", "main")
    repository.dvc("init", "--quiet")
    shutil.copytree(ROOT / ".dvc" / "plots", path / ".dvc" / "plots", dirs_exist_ok=True)
    texts = {"params.yaml": PARAMS, "dvc.yaml": DVC_YAML, ".gitignore": IGNORED}
    for name, text in (texts | {"features.py": FEATURES, "evaluate.py": EVALUATE}).items():
        repository.write(name, text)
    repository.dvc("repro", "--quiet")
    repository.commit("pipeline")
    return repository


def changed(path):
    """Returns such a repository; its branch `change`, checked out, makes ridge better and softmax worse."""
    repository = made(path)
    repository.git("checkout", "--quiet", "-b", "change")
    repository.write("params.yaml", PARAMS.replace("0.9", "0.95").replace("0.8", "0.7"))
    repository.dvc("repro", "--quiet")
    repository.commit("other accuracies")
    return repository


def tables(text):
    """Returns the tables of a Markdown text as lists of rows of cells, as a reader of Markdown sees them."""
    page = ElementTree.fromstring(f"<page>{MarkdownIt('commonmark').enable('table').render(text)}</page>")
    return [[["".join(cell.itertext()) for cell in row] for row in table.iter("tr")] for table in page.iter("table")]
