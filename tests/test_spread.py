"""The spread over seeds, of experiments as DVC shows them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from app import spread
from stages.library.console import UserError

PARAMS = {
    "ridge": {"features": "bottleneck"},
    "heads": ["ridge"],
    **{name: {"seed": 0} for name in ("split", "extract", "cross_validation", "finetune", "scratch", "evaluate")},
}


def row(metrics, **changes):
    params = json.loads(json.dumps(PARAMS))
    for key, value in changes.items():
        section, name = key.split("__")
        params[section][name] = value
    files = {f"metrics/{name}.json": {"data": content} for name, content in metrics.items()}
    return {"rev": "a" * 40, "data": {"params": {"params.yaml": {"data": params}}, "metrics": files}}


def show(baseline, *rows):
    workspace = {"rev": "workspace", "data": baseline["data"], "experiments": None}
    experiments = [{"revs": [one], "name": "any"} for one in rows]
    return [workspace, baseline | {"experiments": experiments or None}]


def accuracy(value):
    return {"top1_accuracy": value, "calibration": {"temperature": 1 + value}}


def test_runs_that_differ_in_a_models_seeds_alone_are_one_row():
    shown = show(
        row({"b/ridge": accuracy(0.9), "b/finetuned": accuracy(0.8), "scratch": accuracy(0.5)}),
        row({"b/ridge": accuracy(0.9), "b/finetuned": accuracy(0.84), "scratch": accuracy(0.5)}, finetune__seed=1),
        row({"b/ridge": accuracy(0.9), "b/finetuned": accuracy(0.85), "scratch": accuracy(0.5)}, finetune__seed=2),
        row({"b/ridge": accuracy(0.92), "b/finetuned": accuracy(0.1)}, cross_validation__seed=3),
        {"rev": "b" * 40, "data": None, "error": {"msg": "failed"}},
    )
    finetuned, ridge = spread.spreads(spread.runs(shown), "top1_accuracy")
    std = np.std([0.8, 0.84, 0.85], ddof=1)
    expected = ("b/finetuned", "finetune.seed 0, 1, 2", "3", f"0.8300 ± {std:.4f}", "0.8000", "0.8500")
    assert finetuned.cells() == expected
    # Its three runs with another finetune.seed are the same run, and count once.
    assert ridge.cells() == ("b/ridge", "cross_validation.seed 0, 3", "2", "0.9100 ± 0.0141", "0.9000", "0.9200")
    (_, temperature) = spread.spreads(spread.runs(shown), "calibration.temperature")
    assert temperature.cells()[3] == "1.9100 ± 0.0141"
    assert spread.spreads(spread.runs(shown), "unknown") == []


def test_another_parameter_is_another_table_under_its_name():
    shown = show(
        row({"b/ridge": accuracy(0.9)}),
        row({"b/ridge": accuracy(0.8)}, split__seed=1),
        row({"b/ridge": accuracy(0.7)}, ridge__features="logits"),
        row({"b/ridge": accuracy(0.6)}, ridge__features="logits", split__seed=1, cross_validation__seed=1),
        row({"b/ridge": accuracy(0.1)}, ridge__features="joined"),
        row({"fewshot": accuracy(0.1)}, split__seed=2),
    )
    text = spread.tables(spread.spreads(spread.runs(shown), "top1_accuracy"))
    first, second = text.split("\n\n")
    assert first.splitlines()[0] == 'ridge.features: "bottleneck"'
    assert "| b/ridge | split.seed 0, 1 | 2    | 0.8500 ± 0.0707 | 0.8000 | 0.9000  |" in first
    assert second.splitlines()[0] == 'ridge.features: "logits"'
    assert "| cross_validation.seed 0, 1; split.seed 0, 1 | 2    | 0.6500 ± 0.0707 |" in second
    assert text.count("ridge.features") == 2


def test_one_table_has_no_title():
    shown = show(row({"scratch": accuracy(0.9)}), row({"scratch": accuracy(0.8)}, scratch__seed=1))
    assert spread.tables(spread.spreads(spread.runs(shown), "top1_accuracy")).startswith("| model ")


def test_without_two_seeds_it_says_what_to_run(monkeypatch, capsys):
    monkeypatch.setattr(spread, "experiments", lambda project: show(row({"scratch": accuracy(0.9)})))
    monkeypatch.setattr(sys, "argv", ["spread"])
    with pytest.raises(UserError, match=r"differ in seeds alone\. Run, for example: dvc exp run --queue -S"):
        spread.main()


def test_its_last_line_says_how_to_go_on(monkeypatch, capsys):
    shown = show(row({"scratch": accuracy(0.9)}), row({"scratch": accuracy(0.8)}, scratch__seed=1))
    monkeypatch.setattr(spread, "experiments", lambda project: shown)
    monkeypatch.setattr(sys, "argv", ["spread"])
    spread.main()
    assert "more runs make it surer: dvc exp run --queue -S" in capsys.readouterr().out.splitlines()[-1]


def test_a_folder_without_dvc_is_a_one_line_error(tmp_path):
    with pytest.raises(UserError, match=r"^dvc exp show fails: [^\n]*$"):
        spread.experiments(tmp_path)


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
def test_experiments_of_dvc_are_read(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / ".keep").touch()
    (tmp_path / "params.yaml").write_text("scratch: {seed: 1}\n")
    (tmp_path / "dvc.yaml").write_text(STAGE)
    dvc, git = [sys.executable, "-m", "dvc"], ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    commands = [["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"], [*git, "add", "-A"]]
    commands += [[*git, "commit", "-qm", "first"], [*dvc, "exp", "run", "-q", "-S", "scratch.seed=3"]]
    for command in commands:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    command = [sys.executable, "-m", "app.spread", "--project", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| scratch | scratch.seed 1, 3 | 2    | 0.2000 ± 0.1414 | 0.1000 | 0.3000  |" in done.stdout
