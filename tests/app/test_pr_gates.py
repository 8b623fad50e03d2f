"""Gates of app.pr_report on a real repository with two branches: what fails them, and what they may name."""

import pytest
from repository import DVC_YAML, PARAMS, RIDGE, SOFTMAX, tables

# DVC's own, where it reads plots: an error there would be taken for one of the repository.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise AttributeError:DeprecationWarning")

GATE = "--max-drop", "top1_accuracy=0.01"


def test_a_gate_that_fails_names_model_metric_and_values(branches, pr_report, capsys):
    key = "cross_validation.top1_accuracy.mean"
    # Exactly what the first fell by, in decimals and not in floats.
    text = pr_report("--max-drop", "top1_accuracy=0.1", "--max-drop", f"{key}=0.2", "--max-rise", "log_loss=0.1")
    assert "**Gate passed:**" in text
    assert [RIDGE, key, "0.9", "0.95", "0.05"] in tables(text)[0]  # among those shown first
    text = pr_report(*GATE, "--max-rise", "log_loss=0.05", broken="2 gates were broken")
    expected = [
        f"{SOFTMAX}: top1_accuracy fell from 0.8 to 0.7, by 0.1; allowed: 0.01",
        f"{SOFTMAX}: log_loss rose from 0.2 to 0.3, by 0.1; allowed: 0.05",
    ]
    assert capsys.readouterr().err.splitlines() == [f"gate: {line}" for line in expected]
    assert all(f"- `{line}`" in text for line in expected)
    # A metric that is no number any more fails it, too.
    branches.metrics(RIDGE, top1_accuracy=float("nan"))
    branches.metrics(SOFTMAX, top1_accuracy="good")
    pr_report("--max-drop", "top1_accuracy=1", broken="2 gates were broken")
    errors = capsys.readouterr().err
    assert f"{RIDGE}: top1_accuracy fell from 0.9 to nan" in errors
    assert f"{SOFTMAX}: top1_accuracy was 0.8 and is gone" in errors


def test_a_model_that_vanished_fails_the_gate_unless_params_no_longer_lists_it(branches, pr_report, capsys):
    (branches.path / SOFTMAX).unlink()
    branches.write("dvc.yaml", DVC_YAML.replace("head: ${heads}", "head: [ridge]"))
    assert [SOFTMAX, "top1_accuracy", "0.8", "-", "-"] in tables(pr_report())[0]
    pr_report(*GATE, broken="a gate was broken")
    assert f"gate: {SOFTMAX}: its metrics are gone, and params.yaml still lists" in capsys.readouterr().err
    branches.write("params.yaml", PARAMS.replace("[ridge, softmax]", "[ridge]"))
    passed = f"may fall by at most 0.01`. Not compared, for the pipeline no longer makes them: `{SOFTMAX}`."
    assert passed in pr_report(*GATE)
    assert f"{SOFTMAX} is not compared" in capsys.readouterr().out
    branches.write("params.yaml", PARAMS.replace("[tiny]", "[other]"))
    branches.write("metrics/other/ridge.json", '{"top1_accuracy": 0.1}')
    pr_report(*GATE, broken="a gate was broken")
    assert f"top1_accuracy: nothing is left to compare; the pipeline no longer makes {RIDGE}" in capsys.readouterr().err


def test_a_stage_deleted_from_dvc_yaml_takes_its_model_along(branches, pr_report):
    """As `scratch` and `finetuned`, which stand in no list of params.yaml."""
    stage = "cmd: touch metrics/scratch.json, metrics: [{metrics/scratch.json: {cache: false}}]"
    branches.write("dvc.yaml", f"{DVC_YAML}  evaluate-scratch: {{{stage}}}\n")
    branches.write("metrics/scratch.json", '{"top1_accuracy": 0.5}')
    branches.commit("a stage more")
    branches.git("branch", "with-scratch")
    branches.write("dvc.yaml", DVC_YAML)
    (branches.path / "metrics" / "scratch.json").unlink()
    assert "no longer makes them: `metrics/scratch.json`" in pr_report(*GATE, base="with-scratch")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max-drop", "top1_accuracy"], r"--max-drop must be METRIC=AMOUNT .*Received: 'top1_accuracy'"),
        (["--max-drop", "=0.1"], "must be METRIC=AMOUNT"),
        (["--max-drop", "top1_accuracy=-0.1"], "must be METRIC=AMOUNT"),
        (["--max-drop", "top1_accuracy=nan"], "must be METRIC=AMOUNT"),
        (["--max-rise", "log_loss=1%"], r"e.g. --max-rise log_loss=0.01. Received: 'log_loss=1%'"),
        (["--max-drop", "log_loss=0.1"], r"forbid that log_loss gets better. Write: --max-rise log_loss=0.1"),
        (["--max-rise", "top1_accuracy=0.1"], r"Write: --max-drop top1_accuracy=0.1"),
        (["--max-rise", "classes.a cat.recall=0.1"], r"Write: --max-drop classes.a cat.recall=0.1"),
        (["--max-drop", "num_examples=0", "--max-rise", "num_examples=0"], "once. Received twice: num_examples"),
        (["--max-drop", "top1_acuracy=0.1"], r"must name a numeric metric of main.*'top1_acuracy'.*top1_accuracy"),
        (["--max-drop", "mean_class_accuracy=0.01"], "`mean_class_accuracy` is now `balanced_accuracy`"),
    ],
)
def test_gates_are_validated(branches, pr_report, arguments, reason):
    pr_report(*arguments, broken=reason)
