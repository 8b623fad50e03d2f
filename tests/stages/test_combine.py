"""The stage combine on trained heads: what it writes, and what it says of heads that don't belong together."""

import json
import shutil

import contents
import numpy as np
import pandas as pd
import pytest
import trained
from conftest import changed_params

from app.models import Project
from stages.library.combination import combined
from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.features import unlike
from stages.library.records import leakage
from stages.library.scoring import prediction_files

pytestmark = pytest.mark.slow


@pytest.fixture
def combine(trained_project, tmp_path, run_stage):
    def run(method="average", out="out", heads=trained_project / "artifacts" / "heads", **changes):
        params = changed_params(tmp_path, trained.CHANGES | {key.replace("__", "."): changes[key] for key in changes})
        places = ["--records", trained_project / "data" / "tfrecord", "--heads", heads]
        places += ["--bottlenecks", trained_project / "artifacts" / "bottlenecks"]
        outs = "--metrics", tmp_path / out / "metrics.json", "--figures", tmp_path / out / "figures"
        run_stage("combine", "--params", params, "--method", method, *places, "--out", tmp_path / out / "model", *outs)
        return tmp_path / out

    return run


@pytest.mark.parametrize("method", ["average", "stacking"])
def test_a_second_run_writes_the_same_bytes_and_all_that_other_models_have(combine, trained_project, method):
    out = combine(method)
    again = trained_project / "artifacts"
    assert contents.of(out / "model") == contents.of(again / "combined" / method)
    assert contents.of(out / "figures") == contents.of(again / "evaluation" / "combined" / method)
    beside = again / "evaluation" / trained.BACKBONE / "ridge"
    files = {path.name for path in (out / "figures").iterdir()}
    assert files | {unlike.FILE} == {path.name for path in beside.iterdir()}  # its members have that
    assert tables.read_csv(out / "figures" / "curve.csv", tables.CURVE)
    numbers = json.loads((out / "metrics.json").read_text())
    ridge = json.loads((trained_project / "metrics" / trained.BACKBONE / "ridge.json").read_text())
    assert numbers.keys() | {"unlike"} == ridge.keys()
    assert numbers["validation"]["num_examples"] == ridge["validation"]["num_examples"]
    keys = [prediction_files.read(path / leakage.OF_HEAD, "logits")[0] for path in
            (out / "model", again / "heads" / trained.BACKBONE / "ridge")]  # fmt: skip
    assert keys[0] == keys[1]


def test_the_average_is_that_of_the_heads_own_test_predictions(combine, trained_project):
    out = combine()
    found = combined.load(out / "model")

    def probabilities(folder):
        return np.array(pd.read_parquet(folder / "predictions.parquet")["probabilities"].to_list())

    evaluations = trained_project / "artifacts" / "evaluation"
    mean = sum(member["weight"] * probabilities(evaluations / member["name"]) for member in found.members)
    cooled = mean ** (1 / found.temperature)
    expected = cooled / cooled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(out / "figures"), expected, atol=1e-4)


def test_heads_are_compared_where_none_was_trained(combine, trained_project, tmp_path, run_stage, capsys):
    heads = tmp_path / "heads"
    shutil.copytree(trained_project / "artifacts" / "heads", heads)
    part = {"cross_validation__holdout_fraction": {"ridge": 0.5}}
    params = changed_params(tmp_path, trained.CHANGES | {"cross_validation.holdout_fraction": {"ridge": 0.5}})
    features = trained_project / "artifacts" / "bottlenecks" / trained.BACKBONE
    folder = heads / trained.BACKBONE / "ridge"
    given = "--head", "ridge", "--bottlenecks", features, "--out", folder
    run_stage("train_heads", "--params", params, *given)
    capsys.readouterr()
    out = combine(heads=heads, **part)
    _, logits = prediction_files.read(folder / leakage.OF_HEAD, "logits")
    _, ours = prediction_files.read(out / "model" / leakage.OF_HEAD, "logits")
    assert np.array_equal(np.isnan(ours), np.isnan(logits))
    rows, count = int(np.isfinite(ours[:, 0]).sum()), len(ours)
    assert 0 < rows < count
    assert f"combine: members are compared on the {rows} of {count} images that none" in capsys.readouterr().out


def test_a_head_on_other_images_is_an_error(combine, trained_project, tmp_path):
    heads = tmp_path / "heads"
    shutil.copytree(trained_project / "artifacts" / "heads", heads)
    path = heads / trained.BACKBONE / "dnn" / leakage.OF_HEAD
    pd.read_parquet(path).iloc[::-1].to_parquet(path)
    with pytest.raises(UserError, match=r"dnn/out_of_fold.parquet is of other images or classes than the .* Run: dvc"):
        combine(heads=heads)
    assert not (tmp_path / "out").exists()


def test_no_model_predicts_with_a_head_trained_since(trained_project, tmp_path):
    """Its weights were found for another one."""
    root = tmp_path / "project"
    shutil.copytree(trained_project, root, ignore=shutil.ignore_patterns("bottlenecks", "cache", "raw"))
    member = combined.load(root / "artifacts" / "combined" / "stacking").members[0]["name"]
    (root / "artifacts" / "heads" / member / "curve.csv").write_text("another")
    with pytest.raises(UserError, match=r"is another model than was combined, or none. Run: dvc repro"):
        Project.open(root).load("combined/stacking")
    assert "combined/stacking" not in [result.name for result in Project.open(root).results()]
