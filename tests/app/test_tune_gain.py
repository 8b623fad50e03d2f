"""app.tune: what it says of a gain, and the line that sets what was found."""

import json
import re
from dataclasses import asdict

import pytest
from conftest import changed_params

from app import train, tune
from app.tune import Moments
from app.tuning import Search
from stages.library.settings import load_params
from tests.app.test_tune import project as project


def test_a_gain_is_that_of_each_fold():
    # Gains of 0.02, 0.03 and 0.04: their mean is 0.03, their sample deviation 0.01.
    before, after = [0.5, 0.7, 0.9], [0.52, 0.73, 0.94]
    assert tune.gain("top1_accuracy", before, after) == pytest.approx((0.03, 0.01))
    assert tune.gain("log_loss", after, before) == pytest.approx((0.03, 0.01)), "less is better"
    assert tune.gain("macro_f1", [0.5], [0.75]) == Moments(0.25, None)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([[0.5, 0.7, 0.9], [0.52, 0.73, 0.94]], r"gain         \+0.0300 ± 0.0100  beyond the deviation of the folds'"),
        ([[0.5, 0.7, 0.9], [0.40, 0.90, 0.95]], r"gain         \+0.0500 ± 0.1500  within the deviation .* chance"),
        ([[0.5], [0.6]], r"gain         \+0.1000  of one fold, so there is no deviation"),
    ],
)
def test_a_gain_within_the_deviation_is_said_to_be(project, run_app, monkeypatch, scores, said):
    monkeypatch.setattr(Search, "scores", lambda self, values: scores[len(self.trials)])
    _, out, _ = run_app("tune", "ridge", "--trials", 2, "--project", project)
    assert re.search(rf"^{said}", out, re.MULTILINE)


def test_one_fold_has_no_deviation():
    assert Moments.of([0.25]).shown() == "0.2500"
    assert Moments.of([0.2, 0.4]).shown("+") == "+0.3000 ± 0.1414"


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("dnn", {"hidden_units": [512, 64], "learning_rate": 0.000123, "features": "logits", "dropout": 0.2}),
        ("softmax", {"weight_decay": 1e-05, "epochs": 33}),
    ],
)
def test_the_line_sets_what_was_tried_and_nothing_else(tmp_path, head, values):
    path = changed_params(tmp_path, {})
    present = json.loads(json.dumps(asdict(load_params(path)[head])))
    words = tune.overrides(head, present, values)
    changed = {key for key, value in values.items() if value != present[key]}
    assert {word.partition("=")[0] for word in words if word != "-S"} == {f"{head}.{key}" for key in changed}
    path.write_bytes(train.changed(path, [word for word in words if word != "-S"], {}))
    assert json.loads(json.dumps(asdict(load_params(path)[head]))) == present | values
