"""app.experiments: a table of experiments that fits a terminal, and the spread over seeds, as `dvc exp show` tells."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from repository import made

from app import experiments
from app.experiments import Row
from stages.library.common.console import UserError


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


PARAMS = {
    "ridge": {"features": "bottleneck"},
    "heads": ["ridge"],
    **{name: {"seed": 0} for name in ("split", "extract", "cross_validation", "finetune", "scratch", "evaluate")},
}


def run_of(metrics, **changes):
    params = json.loads(json.dumps(PARAMS))
    for key, value in changes.items():
        section, name = key.split("__")
        params[section][name] = value
    files = {f"metrics/{name}.json": {"data": content} for name, content in metrics.items()}
    return {"rev": "a" * 40, "data": {"params": {"params.yaml": {"data": params}}, "metrics": files}}


def exp_show(baseline, *rows):
    workspace = {"rev": "workspace", "data": baseline["data"], "experiments": None}
    found = [{"revs": [one], "name": "any"} for one in rows]
    return [workspace, baseline | {"experiments": found or None}]


def spreads(shown, metric):
    return experiments.spreads(list(experiments.read(shown, metric)))


def accuracy(value):
    return {"top1_accuracy": value, "calibration": {"temperature": 1 + value}}


def test_runs_that_differ_in_a_models_seeds_alone_are_one_row():
    shown = exp_show(
        run_of({"b/ridge": accuracy(0.9), "b/finetuned": accuracy(0.8), "scratch": accuracy(0.5)}),
        run_of({"b/ridge": accuracy(0.9), "b/finetuned": accuracy(0.84), "scratch": accuracy(0.5)}, finetune__seed=1),
        run_of({"b/ridge": accuracy(0.9), "b/finetuned": accuracy(0.85), "scratch": accuracy(0.5)}, finetune__seed=2),
        run_of({"b/ridge": accuracy(0.92), "b/finetuned": accuracy(0.1)}, cross_validation__seed=3),
        {"rev": "b" * 40, "data": None, "error": {"msg": "failed"}},
    )
    finetuned, ridge = spreads(shown, "top1_accuracy")
    std = np.std([0.8, 0.84, 0.85], ddof=1)
    expected = ("b/finetuned", "finetune.seed 0, 1, 2", "3", f"0.8300 ± {std:.4f}", "0.8000", "0.8500")
    assert finetuned.cells() == expected
    # Its three runs with another finetune.seed are the same run, and count once.
    assert ridge.cells() == ("b/ridge", "cross_validation.seed 0, 3", "2", "0.9100 ± 0.0141", "0.9000", "0.9200")
    (_, temperature) = spreads(shown, "calibration.temperature")
    assert temperature.cells()[3] == "1.9100 ± 0.0141"
    assert spreads(shown, "unknown") == []


def test_another_parameter_is_another_table_under_its_name():
    shown = exp_show(
        run_of({"b/ridge": accuracy(0.9)}),
        run_of({"b/ridge": accuracy(0.8)}, split__seed=1),
        run_of({"b/ridge": accuracy(0.7)}, ridge__features="logits"),
        run_of({"b/ridge": accuracy(0.6)}, ridge__features="logits", split__seed=1, cross_validation__seed=1),
        run_of({"b/ridge": accuracy(0.1)}, ridge__features="joined"),
        run_of({"fewshot/ridge/15": accuracy(0.1)}, split__seed=2),
    )
    text = experiments.spread_tables(spreads(shown, "top1_accuracy"))
    first, second = text.split("\n\n")
    assert first.splitlines()[0] == 'ridge.features: "bottleneck"'
    assert "| b/ridge | split.seed 0, 1 | 2    | 0.8500 ± 0.0707 | 0.8000 | 0.9000  |" in first
    assert second.splitlines()[0] == 'ridge.features: "logits"'
    assert "| cross_validation.seed 0, 1; split.seed 0, 1 | 2    | 0.6500 ± 0.0707 |" in second
    assert text.count("ridge.features") == 2


def test_one_table_has_no_title():
    shown = exp_show(run_of({"scratch": accuracy(0.9)}), run_of({"scratch": accuracy(0.8)}, scratch__seed=1))
    assert experiments.spread_tables(spreads(shown, "top1_accuracy")).startswith("| model ")


@pytest.fixture
def spread(monkeypatch, capsys):
    """Runs the program with --spread on what DVC is said to show."""

    def run(shown):
        monkeypatch.setattr(experiments, "show", lambda: shown)
        monkeypatch.setattr(sys, "argv", ["app.experiments", "--spread"])
        experiments.main()
        return capsys.readouterr().out.splitlines()

    return run


def test_without_two_seeds_it_says_what_to_run(spread):
    with pytest.raises(
        UserError, match=r"`top1_accuracy` and differ in seeds alone\. Run, for example: dvc exp run --q"
    ):
        spread(exp_show(run_of({"scratch": accuracy(0.9)})))


def test_a_run_that_failed_or_waits_counts_for_no_seed(spread):
    shown = exp_show(run_of({"scratch": accuracy(0.9)}), run_of({"scratch": accuracy(0.8)}, scratch__seed=1))
    shown[1]["experiments"][0]["executor"] = {"state": "failed"}
    with pytest.raises(UserError, match="no two experiments"):
        spread(shown)


def test_its_last_line_says_how_to_go_on(spread):
    shown = exp_show(run_of({"scratch": accuracy(0.9)}), run_of({"scratch": accuracy(0.8)}, scratch__seed=1))
    lines = spread(shown)
    assert lines[0].startswith("| model ")
    assert "more runs make it surer: dvc exp run --queue -S" in lines[-1]


STAGE = """\
stages:
  train:
    cmd: >-
      python -c "import json, re; seed = int(re.search('seed: (.)', open('params.yaml').read())[1]);
      json.dump({'top1_accuracy': seed / 10}, open('metrics/scratch.json', 'w'))"
    params: [scratch]
    metrics:
      - metrics/scratch.json: {cache: false}
"""


@pytest.mark.slow
def test_the_spread_of_experiments_of_dvc(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / ".keep").touch()
    (tmp_path / "params.yaml").write_text("scratch: {seed: 1}\n")
    (tmp_path / "dvc.yaml").write_text(STAGE)
    dvc, git = [sys.executable, "-m", "dvc"], ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    commands = [["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"], [*git, "add", "-A"]]
    commands += [[*git, "commit", "-qm", "first"], [*dvc, "exp", "run", "-q", "-S", "scratch.seed=3"]]
    for command in commands:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    command = [sys.executable, "-m", "app.experiments", "--spread"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "| scratch | scratch.seed 1, 3 | 2    | 0.2000 ± 0.1414 | 0.1000 | 0.3000  |" in done.stdout
