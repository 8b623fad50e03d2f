"""app.tune: scores are those of training, and a search goes on where it was stopped."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
from conftest import ROOT, changed_params

from app import train
from app.tuning import Search
from stages.library.common.console import UserError
from stages.library.heads import search_space
from stages.library.settings import load_params
from tests import processes
from tests.stages.test_train_heads import QUICK, write_bottlenecks

LITE0 = "efficientnet_lite0"
SMALL = {key.replace("__", "."): value for key, value in QUICK.items()} | {"logistic.penalties": [1.0, 100.0]}


@pytest.fixture
def project(tmp_path):
    """A checkout with cached features of training and validation; those of the test images are unreadable."""
    features = write_bottlenecks_in(tmp_path)
    (features / "test-00000-of-00001.parquet").write_bytes(b"not to be read")
    changed_params(tmp_path, SMALL)
    return tmp_path


def write_bottlenecks_in(folder):
    (folder / "artifacts" / "bottlenecks").mkdir(parents=True)
    return write_bottlenecks(folder / "artifacts" / "bottlenecks" / LITE0)


def search(project, head="ridge", **changes):
    params = changed_params(project, SMALL | {key.replace("__", "."): value for key, value in changes.items()})
    artifacts = project / "artifacts"
    return Search(head, load_params(params), artifacts / "bottlenecks" / LITE0, artifacts / "tuning" / LITE0)


def trials(project, head="ridge"):
    """What is kept of the only search of a head, without the seconds."""
    (path,) = (project / "artifacts" / "tuning" / LITE0).glob(f"{head}-*.json")
    return [{key: trial[key] for key in ("values", "scores", "error")} for trial in json.loads(path.read_text())]


def command(out):
    """The words of the line that a search ends with."""
    return shlex.split(out.splitlines()[-1].partition("Next: ")[2])


@pytest.mark.parametrize(
    ("head", "metric"),
    [
        ("ridge", "top1_accuracy"),
        ("softmax", "log_loss"),
        pytest.param("logistic", "macro_f1", marks=pytest.mark.slow),
        pytest.param("xgboost", "top1_accuracy", marks=pytest.mark.slow),
    ],
)
def test_trials_score_as_training_does_first_params_yaml_and_at_the_end_the_line_that_is_printed(
    project, run_app, run_stage, head, metric
):
    worst = {f"{head}.features": "probabilities"}  # so that there is something to gain
    params = changed_params(project, SMALL | worst | {"evaluate.selection_metric": metric})

    def trained():
        files = "--bottlenecks", project / "artifacts" / "bottlenecks" / LITE0, "--out", project / "head"
        run_stage("train_heads", "--params", params, "--head", head, *files)
        return json.loads((project / "head" / "cross_validation.json").read_text())[metric]

    status, out, _ = run_app("tune", head, "--trials", 6, "--project", project)
    assert status == 0
    first, *others = trials(project, head)
    assert first["values"].items() <= json.loads(json.dumps(asdict(load_params(params)[head]))).items()
    assert trained() == pytest.approx({"mean": np.mean(first["scores"]), "std": np.std(first["scores"], ddof=1)})
    assert f"params.yaml  {np.mean(first['scores']):.4f} ± {np.std(first['scores'], ddof=1):.4f}" in out
    sign = -1 if metric == "log_loss" else 1
    best = max([first, *others], key=lambda trial: sign * np.mean(trial["scores"]))
    assert best is not first
    assert command(out)[:3] == ["dvc", "exp", "run"]
    params.write_bytes(train.changed(params, [word for word in command(out)[3:] if word != "-S"], {}))
    assert trained() == pytest.approx({"mean": np.mean(best["scores"]), "std": np.std(best["scores"], ddof=1)})


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(project, run_app, monkeypatch):
    count = 12  # of which the sampler draws the first 10 at random
    scores = Search.scores

    def failing(self, values):
        if values["power"] < 0.5 and self.trials:
            raise UserError("it diverged")
        return scores(self, values)

    monkeypatch.setattr(Search, "scores", failing)
    run_app("tune", "ridge", "--trials", count, "--project", project)
    whole = trials(project)
    assert len({json.dumps(trial["values"]) for trial in whole}) == count
    (project / "artifacts" / "tuning" / LITE0).rename(project / "whole")

    def stopped(self, values):
        if len(self.trials) % 5 == 4 and not stops.pop():
            raise KeyboardInterrupt
        return failing(self, values)

    stops = [True, True, False, False]
    monkeypatch.setattr(Search, "scores", stopped)
    done = [run_app("tune", "ridge", "--trials", count, "--project", project) for _ in range(3)]
    assert [status for status, *_ in done] == [130, 130, 0]
    assert "What is finished is kept; run it again to go on" in done[0][2]
    assert trials(project) == whole
    failed = sum(trial["error"] == "it diverged" for trial in whole)
    assert 0 < failed < count
    assert f"{failed} trials failed, the last one: it diverged" in done[-1][1]


@pytest.mark.slow
def test_a_signal_ends_it_in_a_line_and_leaves_finished_trials(project):
    command = [sys.executable, "-m", "app.tune", "softmax", "--trials", "5000", "--project", str(project)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    folder, end = project / "artifacts" / "tuning" / LITE0, time.monotonic() + 120
    while not list(folder.glob("softmax-*.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.terminate()  # SIGINT is ignored by what a shell runs beside it
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "stopped by SIGTERM. What is finished is kept; run it again to go on\n")
    assert trials(project, "softmax")
    assert {path.suffix for path in folder.iterdir()} == {".json"}


def test_other_settings_images_and_folds_are_another_search_and_the_first_one_stays(project):
    names = {search(project).path.name}
    for changes in (
        {"ridge__power": 0.7},
        {"cross_validation__seed": 1},
        {"class_weights": "balanced"},
        {"evaluate__selection_metric": "log_loss"},
    ):
        names.add(search(project, **changes).path.name)
    (project / "other").mkdir()
    (project / "artifacts").rename(project / "first")
    write_bottlenecks(project / "features", n=119)
    (project / "artifacts" / "bottlenecks").mkdir(parents=True)
    (project / "features").rename(project / "artifacts" / "bottlenecks" / LITE0)
    names.add(search(project).path.name)
    assert len(names) == 6
    assert search(project, dnn__epochs=9).path.name in names


def test_the_sampler_learns(project, monkeypatch):
    found = search(project)
    monkeypatch.setattr(found, "scores", lambda values: [-abs(values["power"] - 0.33)])
    while len(found.trials) < 30:
        found.step()
    errors = [abs(trial["values"]["power"] - 0.33) for trial in found.trials]
    assert errors[0] == pytest.approx(0.17), "params.yaml"
    assert np.median(errors[-10:]) < np.median(errors[1:11]) / 2
    assert errors[found.best()] == min(errors) < 0.02


def test_what_fails_with_params_yaml_itself_is_the_error(project, run_app, monkeypatch):
    def failing(self, values):
        raise UserError("it diverged")

    monkeypatch.setattr(Search, "scores", failing)
    assert run_app("tune", "ridge", "--project", project)[0] == "error: it diverged"
    assert not list((project / "artifacts" / "tuning" / LITE0).iterdir())


def test_of_equal_trials_params_yaml_is_the_best(project, run_app, monkeypatch):
    monkeypatch.setattr(Search, "scores", lambda self, values: [0.5, 0.7])
    _, out, _ = run_app("tune", "ridge", "--trials", 3, "--project", project)
    assert "params.yaml  0.6000 ± 0.1414" in out
    assert out.splitlines()[-1].startswith("tune: ridge, none of 3 trials is better than params.yaml. More trials: ")


def test_joined_backbones_are_searched_as_they_are_trained(project, run_app, run_stage):
    features, joint = project / "artifacts" / "bottlenecks", f"{LITE0}+xception"
    shutil.copytree(features / LITE0, features / "xception")
    params = changed_params(project, SMALL | {"backbones": [LITE0, "xception"], "joined": [joint]})
    assert run_app("tune", "ridge", "--backbone", joint, "--trials", 2, "--project", project)[0] == 0
    places = "--bottlenecks", features / joint, "--out", features / "x"
    run_stage("train_heads", "--params", params, "--head", "ridge", *places)
    (path,) = (project / "artifacts" / "tuning" / joint).glob("ridge-*.json")
    trained = json.loads((features / "x" / "cross_validation.json").read_text())["top1_accuracy"]["mean"]
    assert np.mean(json.loads(path.read_text())[0]["scores"]) == pytest.approx(trained)
    status, *_ = run_app("tune", "ridge", "--backbone", "vgg", "--project", project)
    known = f"{LITE0}, xception, {joint}"
    assert status == f"error: --backbone must be among `backbones` and `joined` of params.yaml: {known}. Received: vgg"


@pytest.mark.parametrize(
    ("head", "features", "message"),
    [
        ("forest", True, "HEAD must be among `heads` of params.yaml: ridge, logistic, .* Received: forest"),
        ("ridge", False, "shards of 'train' are missing. Run: dvc repro bottleneck-extract"),
    ],
)
def test_what_is_missing_is_a_line(project, run_app, head, features, message):
    if not features:
        (project / "artifacts").rename(project / "elsewhere")
    status, out, _ = run_app("tune", head, "--project", project)
    assert out == ""
    assert re.search(rf"^error: .*{message}$", status)


def test_without_optuna_the_remedy_is_named(project, run_app, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "optuna" else find(name, *more)
    )
    status, _, _ = run_app("tune", "ridge", "--project", project)
    assert status == "error: the Python package optuna is missing. Run: pip install -r requirements-tune.txt"


def test_nothing_else_imports_optuna():
    code = "import sys, app.predict, app.train, stages.train_heads, stages.report; assert 'optuna' not in sys.modules"
    processes.run(sys.executable, "-c", code)


DRAWN = {"features": "logits", "scaling": "none", "power": 0.5}
TRIAL = {"values": DRAWN, "scores": [0.5] * 5, "error": "", "seconds": 1.5}


@pytest.mark.parametrize(
    "content",
    [
        {},
        [TRIAL | {"values": {}}],
        [TRIAL | {"values": DRAWN | {"power": 7.0}}],
        [TRIAL | {"values": DRAWN | {"features": "x"}}],
        [TRIAL | {"scores": [], "error": "the first one failed"}],
        [TRIAL, TRIAL | {"scores": [0.5] * 4}],
        [TRIAL | {"scores": [float("nan")] * 5}],
        [TRIAL | {"seconds": "1"}],
    ],
)
def test_trials_that_were_damaged_are_a_line_with_the_remedy(project, content):
    path = search(project).path
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([TRIAL]))
    assert search(project).trials == [TRIAL]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"\A[^\n]*ridge-[^\n]*Delete it\Z"):
        search(project)


def test_a_head_that_says_of_no_key_what_may_be_tried(project, monkeypatch):
    monkeypatch.setattr(search_space, "of", lambda params: {})
    with pytest.raises(UserError, match=r"^the head ridge says of no key what may be tried. Give one a Range"):
        search(project)
