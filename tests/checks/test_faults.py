"""Some faults in every run of CI; `python -m checks.faults` injects hundreds of all kinds (docs/reliability.md)."""

import re
import subprocess
import sys
from typing import Any

import contents
import pytest
from conftest import ROOT

from checks.faults.project import Stage
from checks.faults.trials import Outcome, Trial, Undisturbed

STAGES = ("fetch", "tfrecord", "train-scratch")
KINDS = ("kill-at-change", "stop", "full-outs", "read-only-cache", "two")


@pytest.mark.slow
def test_faults_lose_nothing():
    command = [sys.executable, "-m", "checks.faults", "--faults", "1", "--stages", *STAGES, "--kinds", *KINDS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) faults, (\d+) met the stage while it ran, 0 with", done.stdout)
    assert found
    injected, met = found.groups()
    assert int(injected) >= 6  # more where file systems can be mounted
    assert int(met) >= int(injected) - 3


class Written:
    """As much of a project as a trial's checks need."""

    def __init__(self, folder):
        self.folder = folder
        self.archive = {"size_bytes": 100}
        self.starts = [0]


@pytest.fixture
def trial(tmp_path):
    """A trial whose stage has written all that it should."""
    project: Any = Written(tmp_path / "project")
    made = Trial(
        project,
        Stage("s", "s", ("--out", "{outs}/deep/out")),
        tmp_path / "trial",
        None,
        Outcome("s", "kill", 0, recovered=True),
    )
    out = made.disk / "outs" / "deep" / "out"
    out.mkdir(parents=True)
    for name in ("a", "b"):
        (out / name).write_text(name)
    made.undisturbed = Undisturbed(1.0, 1, contents.of(made.disk / "outs"), made.entries(), {})
    return made


def judged(trial):
    trial.compare()
    trial.outcome.lost += trial.half_outs()
    return trial.outcome


def test_what_is_as_it_should_be_is_good(trial):
    assert judged(trial).good


def test_other_bytes_are_a_difference(trial):
    (trial.disk / "outs" / "deep" / "out" / "a").write_text("other")
    outcome = judged(trial)
    assert outcome.different
    assert not outcome.good


@pytest.mark.parametrize(
    "name", ["disk/outs/deep/.out.partial", "cache/checkpoints/x.lock", "tmp/decant-1", "cache/downloads/a.partial"]
)
def test_what_an_undisturbed_run_does_not_leave_is_stale(trial, name):
    path = trial.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    outcome = judged(trial)
    assert name in outcome.stale
    assert not outcome.good


def test_parts_of_features_are_not_stale(trial):
    part = trial.cache / "features" / "0" / "1.parquet"
    part.parent.mkdir(parents=True)
    before = trial.entries()
    part.touch()
    assert trial.entries() == before
    assert trial.kept()["parts"] == {"1.parquet"}


def test_half_of_an_out_is_a_loss_and_a_missing_one_is_not(trial):
    out = trial.disk / "outs" / "deep" / "out"
    (out / "a").unlink()
    assert trial.half_outs() == ["half of deep/out"]
    (out / "b").unlink()
    out.rmdir()
    assert trial.half_outs() == []
