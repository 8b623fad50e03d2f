"""app.experiments: a table of experiments that fits a terminal, and the spread over seeds, as `dvc exp show` tells."""

import copy
import re

import numpy as np
import pytest
from conftest import change
from repository import PARAMS as OF_REPOSITORY
from repository import made

from app import experiments
from app.experiments import Row
from stages.library.common.console import UserError
from tests import processes


@pytest.fixture
def run(monkeypatch, run_app):
    """Runs the program on what DVC is said to show; returns its lines, or its error."""

    def run(shown, *arguments, columns=120):
        monkeypatch.setattr(experiments, "show", lambda: shown)
        monkeypatch.setenv("COLUMNS", str(columns))
        status, out, _ = run_app("experiments", *arguments)
        return status or out.splitlines()

    return run


@pytest.mark.slow
def test_each_experiment_of_a_repository_has_its_metrics_and_what_it_changed(run, tmp_path, monkeypatch):
    """Two have run, one with another seed, and one waits."""
    repository = made(tmp_path / "repository")
    repository.write("params.yaml", f"{OF_REPOSITORY}split: {{seed: 0}}\n")
    repository.commit("a seed")
    named = "exp", "run", "--quiet", "--name"
    repository.dvc(*named, "better", "--set-param", "ridge.accuracy=0.95")
    repository.dvc(*named, "later", "--queue", "--set-param", "softmax.accuracy=0.7")
    repository.git("checkout", "--quiet", ".")
    repository.dvc(*named, "other", "--set-param", "split.seed=3")
    monkeypatch.chdir(repository.path)
    shown = experiments.show()
    lines = [line.split() for line in run(shown)]
    assert lines[0] == ["cross_validation.top1_accuracy.mean"]
    assert lines[1] == ["experiment", "ridge", "changed"]  # softmax is the same everywhere
    assert lines[3] == ["main", "0.9000"]
    assert sorted(lines[4:7]) == [
        ["-", "better", "0.9500", "ridge.accuracy=0.95"],
        ["-", "later", "-", "queued"],
        ["-", "other", "0.9000", "split.seed=3"],
    ]
    assert lines[7][:2] == ["experiments:", "3."]
    table = "\n".join(run(shown, "--spread"))
    assert "| tiny/ridge   | split.seed 0, 3 | 2    | 0.9000 ± 0.0000 |" in table
    # Another metric, all models and a narrow terminal.
    lines = run(shown, "--metric", "log_loss", "--all", columns=40)
    assert lines[1].split() == ["experiment", "ridge", "softmax", "changed"]
    assert [line.split()[1:] for line in lines if line.startswith("main")] == [["0.1000", "0.2000"]]
    assert max(map(len, lines[1:-1])) <= 40
    assert re.search(r"error: --metric must be a key .*Received: 'nosuch'", run(shown, "--metric", "nosuch"))


def row(name, baseline, **params):
    return Row(name, baseline, "", {"a/ridge": 0.5, "b/ridge": 0.25}, params)


def test_names_of_models_are_full_and_what_changed_is_told_against_the_commit_above_and_cut_at_the_edge():
    lines = experiments.table([row("main", True)], ["a/ridge", "b/ridge"], 120)
    assert lines == ["experiment   a/ridge  b/ridge  changed", "main          0.5000   0.2500"]
    rows = [row("main", True, x=1, y=[1]), row("one", False, x=1, y=[1, 2])]
    rows += [row("v2", True, x=2), row("two", False, x="z" * 100)]
    lines = experiments.table(rows, ["a/ridge"], 60)
    assert [line.split()[-1] for line in lines[:-1]] == ["changed", "0.5000", "y=[1,2]", "0.5000"]
    assert 'x="zzz' in lines[-1]
    assert (len(lines[-1]), lines[-1][-1]) == (60, "…")


def test_outside_of_a_repository_dvc_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    processes.run("git", "init", "--quiet", cwd=tmp_path, **processes.GIT)
    with pytest.raises(UserError, match=r"dvc exp show failed: ERROR: .*DVC repository"):
        experiments.show()


PARAMS = {
    "ridge": {"features": "bottleneck"},
    "heads": ["ridge"],
    **{name: {"seed": 0} for name in ("split", "extract", "cross_validation", "finetune", "scratch", "evaluate")},
}


def state(accuracies, **changes):
    """What DVC shows of a run: its models' accuracies, and parameters that were changed, as section__key."""
    params = change(copy.deepcopy(PARAMS), {key.replace("__", "."): changes[key] for key in changes})
    files = {}
    for model, accuracy in accuracies.items():
        metrics = {"top1_accuracy": accuracy, "calibration": {"temperature": 1 + accuracy}}
        files[f"metrics/{model}.json"] = {"data": metrics}
    return {"rev": "a" * 40, "data": {"params": {"params.yaml": {"data": params}}, "metrics": files}}


def exp_show(baseline, *rows):
    workspace = {"rev": "workspace", "data": baseline["data"], "experiments": None}
    found = [{"revs": [one], "name": "any"} for one in rows]
    return [workspace, baseline | {"experiments": found or None}]


def test_a_combination_differs_by_the_seeds_of_all_that_its_members_were_trained_with():
    rows = [
        Row(name, False, "", dict.fromkeys(("combined/average", "combined/finetuned/average"), 0.5), {
            "finetune.seed": seed, "cross_validation.seed": 0, "split.seed": 0, "extract.seed": 0})
        for name, seed in (("one", 0), ("two", 1))
    ]  # fmt: skip
    (runs_of_models,) = experiments.spreads(rows).values()
    assert {model: len(runs) for model, runs in runs_of_models.items()} == {"combined/finetuned/average": 2}


def spread_cells(shown, metric):
    """The cells of the only table of spreads."""
    (runs_of_models,) = experiments.spreads(list(experiments.read(shown, metric))).values()
    return [experiments.cells(model, runs) for model, runs in runs_of_models.items()]


def test_runs_that_differ_in_a_models_seeds_alone_are_one_row():
    shown = exp_show(
        state({"b/ridge": 0.9, "b/finetuned": 0.8, "scratch": 0.5}),
        state({"b/ridge": 0.9, "b/finetuned": 0.84, "scratch": 0.5}, finetune__seed=1),
        state({"b/ridge": 0.9, "b/finetuned": 0.85, "scratch": 0.5}, finetune__seed=2),
        state({"b/ridge": 0.92, "b/finetuned": 0.1}, cross_validation__seed=3),
        {"rev": "b" * 40, "data": None, "error": {"msg": "failed"}},
    )
    finetuned, ridge = spread_cells(shown, "top1_accuracy")
    std = np.std([0.8, 0.84, 0.85], ddof=1)
    assert finetuned == ("b/finetuned", "finetune.seed 0, 1, 2", "3", f"0.8300 ± {std:.4f}", "0.8000", "0.8500")
    # Its three runs with another finetune.seed are the same run, and count once.
    assert ridge == ("b/ridge", "cross_validation.seed 0, 3", "2", "0.9100 ± 0.0141", "0.9000", "0.9200")
    _, temperature = spread_cells(shown, "calibration.temperature")
    assert temperature[3] == "1.9100 ± 0.0141"


def test_another_parameter_is_another_table_under_its_name(run):
    shown = exp_show(
        state({"b/ridge": 0.9}),
        state({"b/ridge": 0.8}, split__seed=1),
        state({"b/ridge": 0.7}, ridge__features="logits"),
        state({"b/ridge": 0.6}, ridge__features="logits", split__seed=1, cross_validation__seed=1),
        state({"b/ridge": 0.1}, ridge__features="joined"),
        state({"fewshot/ridge/15": 0.1}, split__seed=2),
    )
    first, second = "\n".join(run(shown, "--spread")).split("\n\n")
    assert first.splitlines()[0] == 'ridge.features: "bottleneck"'
    assert "| b/ridge | split.seed 0, 1 | 2    | 0.8500 ± 0.0707 | 0.8000 | 0.9000  |" in first
    assert second.splitlines()[0] == 'ridge.features: "logits"'
    assert "| cross_validation.seed 0, 1; split.seed 0, 1 | 2    | 0.6500 ± 0.0707 |" in second
    assert (first + second).count("ridge.features") == 2


def test_a_single_table_has_no_title_and_the_program_says_what_to_run(run):
    shown = exp_show(state({"scratch": 0.9}), state({"scratch": 0.8}, scratch__seed=1))
    lines = run(shown, "--spread")
    assert lines[0].startswith("| model ")
    assert "more runs make it surer: dvc exp run --queue -S" in lines[-1]
    shown[1]["experiments"][0]["executor"] = {"state": "failed"}  # which counts for no seed
    rule = "`top1_accuracy` and differ in seeds alone. Run, for example: dvc exp run --q"
    assert rule in run(shown, "--spread")
