"""app.experiments: a table of experiments that fits a terminal, by what `dvc exp show` says of a real repository."""

import sys

import pytest
from repository import made

from app import experiments
from app.experiments import Row
from stages.library.console import UserError


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What DVC says of two experiments on the pipeline, one that has run and one that waits."""
    repository = made(tmp_path_factory.mktemp("experiments") / "repository")
    repository.dvc("exp", "run", "--quiet", "--name", "better", "--set-param", "ridge.accuracy=0.95")
    repository.dvc("exp", "run", "--queue", "--quiet", "--name", "later", "--set-param", "softmax.accuracy=0.7")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository.path)
        return experiments.show()


@pytest.fixture
def run(shown, monkeypatch, capsys):
    def run(*arguments, columns=120):
        monkeypatch.setattr(experiments, "show", lambda: shown)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["app.experiments", *arguments])
        experiments.main()
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.slow
def test_each_experiment_has_its_metrics_and_what_it_changed(run):
    lines = [line.split() for line in run()]
    assert lines[0] == ["cross_validation.top1_accuracy.mean"]
    assert lines[1] == ["experiment", "ridge", "changed"]  # softmax is the same everywhere
    assert lines[2] == ["workspace", "0.9500"]
    assert lines[3] == ["main", "0.9000"]
    assert sorted(lines[4:6]) == [["-", "better", "0.9500", "ridge.accuracy=0.95"], ["-", "later", "-", "queued"]]
    assert lines[6][:2] == ["experiments:", "2."]


@pytest.mark.slow
def test_another_metric_all_models_and_a_narrow_terminal(run):
    lines = run("--metric", "log_loss", "--all", columns=40)
    assert lines[1].split() == ["experiment", "ridge", "softmax", "changed"]
    assert [line.split()[1:] for line in lines if line.startswith("main")] == [["0.1000", "0.2000"]]
    assert max(map(len, lines[1:-1])) <= 40
    with pytest.raises(UserError, match=r"--metric must be a key .*Received: 'nosuch'"):
        run("--metric", "nosuch")


def row(name, baseline, **params):
    return Row(name, baseline, "", {"a/ridge": 0.5, "b/ridge": 0.25}, params)


def test_models_of_several_backbones_have_their_full_names():
    lines = experiments.table([row("main", True)], ["a/ridge", "b/ridge"], 120)
    assert lines == ["experiment   a/ridge  b/ridge  changed", "main          0.5000   0.2500"]


def test_what_changed_is_told_against_the_commit_above_and_cut_at_the_edge():
    rows = [
        row("main", True, x=1, y=[1]),
        row("one", False, x=1, y=[1, 2]),
        row("v2", True, x=2),
        row("two", False, x=3),
    ]
    lines = experiments.table(rows, ["a/ridge"], 60)
    assert [line.split()[-1] for line in lines] == ["changed", "0.5000", "y=[1,2]", "0.5000", "x=3"]
    long = experiments.table([row("main", True), row("one", False, x="z" * 100)], [], 60)[-1]
    assert (len(long), long[-1]) == (60, "…")


def test_outside_of_a_repository_dvc_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"dvc exp show failed: ERROR: .*DVC repository"):
        experiments.show()
