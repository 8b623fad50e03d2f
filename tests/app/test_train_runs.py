"""app.train: what it runs, and how it ends, with a pipeline of tiny stages."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, read_yaml

from tests import processes
from tests.app.test_train import NAMES, TEXT, lines_changed

GROUPS = r"""-S 'split.group="patient_(\d+)"'"""  # as docs/how-to.md has it, after the shell has read it
DVC_YAML = """\
stages:
  tfrecord:
    cmd: python stage.py tfrecord
    params: [dataset.folder]
    deps: ["${dataset.folder}"]
    outs: [data/tfrecord]
  evaluate:
    matrix: {backbone: "${backbones}", head: "${heads}"}
    cmd: python stage.py evaluate ${item.head}
    params: [split]
    deps: [data/tfrecord]
    outs: ["artifacts/evaluation/${item.head}"]
  audit:
    matrix: {backbone: "${backbones}"}
    cmd: python stage.py audit
    deps: ["artifacts/evaluation/${heads[0]}"]
    outs: [artifacts/evaluation/audit]
  map:
    matrix: {backbone: "${backbones}"}
    cmd: python stage.py map
    deps: [artifacts/evaluation/audit]
    outs: [artifacts/evaluation/map]
  report:
    cmd: python stage.py report
    deps: [artifacts/evaluation]
    outs: [artifacts/report]
"""
STAGE = """\
import json, sys, time
from pathlib import Path

what = sys.argv[1]
outs = {"tfrecord": "data/tfrecord/dataset.json", "report": "artifacts/report/leaderboard.md"}
out = Path(outs.get(what, "artifacts/evaluation/" + sys.argv[-1]))
out.parent.mkdir(parents=True, exist_ok=True)
if what == "evaluate" and Path("wait").exists():
    Path("waits").touch()
    try:
        time.sleep(60)
    finally:
        time.sleep(0.5)
        Path("cleaned").touch()
if what == "evaluate" and Path("fail").exists():
    sys.exit("this stage fails")
dataset = {
    "name": "folder", "images": 24, "classes": ["cat"],
    "counts": {split: {"cat": 8} for split in ("train", "validation", "test")},
    "shape": {"height_px": [1, 1], "width_px": [1, 1]}, "duplicates": {"across_official_split": 0}, "rejected": 0,
}
models = sorted(path.name for path in Path("artifacts/evaluation").iterdir()) if what == "report" else []
out.write_text(json.dumps(dataset) if what == "tfrecord" else " ".join(["models:", *models]))
"""


class Project:
    """A Git and DVC repository with the real params.yaml and Makefile, and tiny stages; no Git identity."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder.parent / "home").mkdir()
        for name in ("Makefile", "params.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / ".ci", folder / ".ci")
        shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
        (folder / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
        (folder / "stage.py").write_text(STAGE, encoding="utf-8")
        (folder / "data" / "pictures").mkdir(parents=True)
        self.environment = {"HOME": folder.parent / "home", "PYTHONPATH": ROOT}
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "x", **processes.GIT)

    def git(self, *words, **environment):
        return processes.run("git", *words, cwd=self.folder, **self.environment | environment).stdout.strip()

    def command(self, *words):
        return ["make", "--no-print-directory", "--old-file", ".venv/bin/.installed", *map(str, words)]

    def make(self, *words, check=True, **environment):
        return processes.run(*self.command(*words), cwd=self.folder, check=check, **self.environment | environment)

    def popen(self, command):
        """Starts a command in a session of its own; returns it when the first stage waits, or one has waited before."""
        added = {name: str(value) for name, value in self.environment.items()}
        environment = os.environ | added | {"PATH": f"{processes.BIN}:{os.environ['PATH']}"}
        command = ["env", "--default-signal=HUP,INT,TERM", *command]  # which whoever runs the tests may have ignored
        pipe, place = subprocess.PIPE, self.folder
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=pipe, stderr=pipe, start_new_session=True
        )
        while not (self.folder / "waits").exists():
            assert process.poll() is None
            time.sleep(0.1)
        return process

    def start(self, *words):
        return self.popen(self.command(*words))

    def changed(self):
        """Paths that Git calls changed or new."""
        return sorted(line.split(maxsplit=1)[1] for line in self.git("status", "--porcelain").splitlines())


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.mark.slow
def test_the_first_leaderboard_needs_the_quick_heads_alone_and_stays_on_the_branch(project, tmp_path):
    (tmp_path / "home" / "images" / "cat").mkdir(parents=True)
    (tmp_path / "home" / "images" / "cat" / "0.png").touch()
    before = project.git("rev-parse", "HEAD")
    shown = project.make("train", "PICTURES=~/images", f"SET=-S split.seed=3 {GROUPS}").stdout
    assert read_yaml(project.folder / "params.yaml")["split"]["group"] == r"patient_(\d+)"
    assert (
        "folder: 24 images in 1 classes. If all is new, the first leaderboard (ridge, logistic, softmax) takes" in shown
    )
    assert shown.index("24 images") < shown.index("Running stage 'evaluate@efficientnet_lite0-ridge'")
    assert "\nmodels: audit logistic map ridge softmax\n" in shown
    assert shown.splitlines()[-1].endswith("make train-all")
    assert (project.git("rev-parse", "HEAD"), project.git("branch", "--show-current")) == (before, "main")
    assert project.changed() == ["dvc.lock", "params.yaml"]
    assert project.git("diff", "--numstat", "params.yaml").split()[1] == "5"  # a long path takes a line more
    assert "The heads alone" not in shown
    shown = project.make("train-all").stdout
    (line,) = re.findall(r"New images make all of it new\. The heads alone: (.+)", shown)
    assert line.endswith("&& dvc repro evaluate")
    assert "models: audit dnn logistic map ridge softmax xgboost" in shown
    assert "Stage 'evaluate@efficientnet_lite0-ridge' didn't change, skipping" in shown
    assert "Data and pipelines are up to date." in project.make("repro").stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_is_trained_on(project, tmp_path, name):
    (tmp_path / name / "cat").mkdir(parents=True)
    project.make("train", f"PICTURES={tmp_path / name}")
    assert read_yaml(project.folder / "params.yaml")["dataset"]["folder"] == str(tmp_path / name)
    assert not list(tmp_path.rglob("pwned"))
    project.make("train", f"PICTURES=../{name}")  # from where it is typed


def test_a_failed_stage_leaves_params_yaml_as_it_was(project):
    (project.folder / "fail").touch()
    done = project.make("train", "PICTURES=data/pictures", check=False)
    assert done.returncode != 0
    assert "this stage fails" in done.stderr
    assert "error: `dvc repro evaluate@efficientnet_lite0-ridge" in done.stderr
    assert (project.folder / "params.yaml").read_text(encoding="utf-8") == TEXT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "ignored"),
    [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGINT, True)],
)
def test_a_stopped_run_ends_its_stage_first_and_leaves_params_yaml_as_it_was(project, number, ignored):
    """SIGTERM and SIGHUP as a supervisor and a terminal send them, to make; and Ctrl+C of what runs in a background."""
    (project.folder / "wait").touch()
    shell = ["bash", "-c", 'trap "" INT; exec "$@"', "_", sys.executable, "-m", "app.train", "--folder=data/pictures"]
    process = project.popen(shell) if ignored else project.start("train", "PICTURES=data/pictures")
    assert (project.folder / "params.yaml").read_text(encoding="utf-8") != TEXT
    if number == signal.SIGHUP:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    stderr = process.communicate(timeout=60)[1].decode()
    if number == signal.SIGHUP:  # make itself ends at once
        deadline = time.monotonic() + 30
        while (project.folder / "params.yaml").read_text(encoding="utf-8") != TEXT and time.monotonic() < deadline:
            time.sleep(0.1)
    assert (project.folder / "cleaned").exists()
    assert (project.folder / "params.yaml").read_text(encoding="utf-8") == TEXT
    assert "params.yaml is as it was before" in stderr
    assert project.git("branch", "--show-current") == "main"
    (project.folder / "wait").unlink()
    project.make("train", "PICTURES=data/pictures")  # no lock is left


@pytest.mark.slow
def test_the_settings_of_a_killed_run_stay_while_its_dvc_runs_and_are_taken_out_by_the_next_run(project):
    path = project.folder / "params.yaml"
    (project.folder / "wait").touch()
    killed = project.popen([sys.executable, "-m", "app.train", "--folder=data/pictures", "-S=split.seed=3"])
    dvc = int(processes.run("pgrep", "--parent", killed.pid).stdout)
    killed.kill()
    killed.wait(timeout=60)
    left = path.read_text(encoding="utf-8")
    assert "seed: 3" in left
    (project.folder / "wait").unlink()
    following = project.start("train")
    assert following.stdout.readline() == b"waiting for another training in this folder\n"
    os.kill(dvc, 0)  # it lives
    assert path.read_text(encoding="utf-8") == left  # which DVC and its stages still read
    os.killpg(following.pid, signal.SIGSTOP)  # until the system has done with the process, which DVC asks for by number
    os.killpg(dvc, signal.SIGKILL)  # and its stage
    killed.communicate(timeout=60)
    while Path("/proc", str(dvc)).exists():
        time.sleep(0.1)
    os.killpg(following.pid, signal.SIGCONT)
    stdout, stderr = (text.decode() for text in following.communicate(timeout=120))
    assert following.returncode == 0, stderr
    assert stdout.startswith("a training was killed here. params.yaml is as it was before it")
    assert path.read_text(encoding="utf-8") == TEXT
    assert "killed" not in project.make("repro").stdout


@pytest.mark.parametrize("target", ["train", "repro"])
def test_a_place_where_dvc_cannot_run_is_one_line(project, target):
    shutil.rmtree(project.folder / ".git")
    done = project.make(target, check=False)
    assert (done.stdout, done.stderr.count("\n"), done.stderr[:6]) == ("", 2, "error:")  # and make's own line
    project.git("init", "--quiet")  # as the line says
    project.make(target, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")


@pytest.mark.slow
def test_a_second_training_waits_for_the_first_and_neither_loses_its_settings(project):
    (project.folder / "wait").touch()
    first = project.start("train", "PICTURES=data/pictures", "SET=-S split.seed=3")
    second = project.start("train", "SET=-S ridge.power=1.0")
    time.sleep(3)
    assert "power: 0.5" in (project.folder / "params.yaml").read_text(encoding="utf-8")
    (project.folder / "wait").unlink()
    os.kill(first.pid, signal.SIGTERM)
    first.communicate(timeout=60)
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert lines_changed((project.folder / "params.yaml").read_text(encoding="utf-8"))[1].split()[:3] == [
        "+",
        "power:",
        "1.0",
    ]
