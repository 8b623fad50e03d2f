"""Some faults in every run of CI; `python -m checks.faults` injects hundreds of all kinds (docs/reliability.md)."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checks.faults.project import Stage
from checks.faults.trials import Outcome, Trial, Undisturbed
from stages.library.common import artifacts
from tests import processes

STAGES = ("fetch", "tfrecord", "train-scratch")
KINDS = ("kill-at-change", "stop", "full-outs", "read-only-cache", "two")


@pytest.mark.slow
def test_faults_lose_nothing():
    done = processes.run("python", "-m", "checks.faults", "--faults", 1, "--stages", *STAGES, "--kinds", *KINDS)
    found = re.search(r"(\d+) faults, (\d+) met the stage while it ran, 0 with", done.stdout)
    assert found
    injected, met = found.groups()
    assert int(injected) >= 6  # more where file systems can be mounted
    assert int(met) >= int(injected) - 3


@pytest.fixture
def trial(tmp_path):
    """A trial whose stage has written all that it should, and that was rerun."""
    project: Any = SimpleNamespace(folder=tmp_path / "project", archive={"size_bytes": 100}, starts=[0])
    made = Trial(project, Stage("s", (), (), (Path("deep/out"),)), tmp_path / "trial", "kill")
    made.outcome.recovered = True
    for name in ("a", "b"):
        artifacts.write_bytes(made.disk / "deep" / "out" / name, name.encode())
    made.undisturbed = Undisturbed(1.0, 1, made.entries(), {})
    return made


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("disk/deep/out/a", {"different": True, "lost": ["half of deep/out"]}),
        ("disk/deep/.out.partial", {"stale": ["disk/deep/.out.partial"]}),
        ("disk/artifacts/tensorboard/events", {"stale": ["disk/artifacts"]}),
        ("cache/checkpoints/x.lock", {"stale": ["cache/checkpoints", "cache/checkpoints/x.lock"]}),
        ("tmp/decant-1", {"stale": ["tmp/decant-1"]}),
        ("cache/downloads/a.partial", {"stale": ["cache/downloads", "cache/downloads/a.partial"]}),
    ],
)
def test_other_bytes_are_a_difference_and_what_an_undisturbed_run_does_not_leave_is_stale(trial, name, expected):
    trial.compare()
    assert trial.outcome.good
    (trial.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (trial.folder / name).write_text("other")
    trial.compare()
    trial.outcome.lost += trial.half_outs()
    assert not trial.outcome.good
    assert trial.outcome == Outcome("s", "kill", "", recovered=True, **expected)


def test_parts_of_features_are_not_stale_and_half_of_an_out_is_a_loss_and_a_missing_one_is_not(trial):
    part, out = trial.cache / "features" / "0" / "1.parquet", trial.disk / "deep" / "out"
    part.parent.mkdir(parents=True)
    before = trial.entries()
    part.touch()
    assert trial.entries() == before
    assert trial.kept() == ({"1.parquet"}, 0, 0)
    assert trial.half_outs() == []
    (out / "a").unlink()
    assert trial.half_outs() == ["half of deep/out"]
    (out / "b").unlink()
    out.rmdir()
    assert trial.half_outs() == []
