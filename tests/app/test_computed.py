"""app.computed: metrics of another data set or of other parameters than a revision has are not that revision's."""

import copy
from typing import Any

import pytest
from conftest import read_yaml
from repository import made

from app import computed
from stages.library.common.console import UserError

STAGES: dict[str, Any] = {
    "fetch": {"outs": [{"path": "data/raw", "md5": "r"}], "deps": [{"path": "stages/fetch.py", "md5": "f"}]},
    "tfrecord": {
        "params": {"params.yaml": {"split": {"seed": 0}}},
        "deps": [{"path": "data/raw", "md5": "r"}, {"path": "../images", "md5": "i"}],
        "outs": [{"path": "data/tfrecord", "md5": "t"}],
    },
    "head": {
        "params": {"params.yaml": {"ridge.power": 0.5}},
        "deps": [{"path": "data/tfrecord", "md5": "t"}],
        "outs": [{"path": "heads/ridge", "md5": "h"}],
    },
    "evaluate": {
        "deps": [{"path": "heads/ridge/curve.csv", "md5": "c"}],
        "outs": [{"path": "metrics/ridge.json", "md5": "m"}],
    },
    "scratch": {
        "deps": [{"path": "data/tfrecord", "md5": "t"}],
        "outs": [{"path": "metrics/scratch.json", "md5": "s"}],
    },
}
PARAMS = {"split": {"seed": 0}, "ridge": {"power": 0.5}}


def metrics(stages, params):
    return {path for path in computed.computed(stages, {"params.yaml": params}) if path.startswith("metrics")}


def test_a_metric_counts_where_it_and_all_before_it_ran_on_what_is_there():
    assert metrics(STAGES, PARAMS) == {"metrics/ridge.json", "metrics/scratch.json"}
    assert metrics(STAGES, PARAMS | {"ridge": {"power": 1.0}}) == {"metrics/scratch.json"}  # by a file in its folder
    assert metrics(STAGES, PARAMS | {"ridge": {}}) == {"metrics/scratch.json"}
    assert metrics(STAGES, PARAMS | {"split": {"seed": 1}}) == set()
    other = copy.deepcopy(STAGES)
    other["tfrecord"]["outs"][0]["md5"] = "u"
    other["head"]["deps"][0]["md5"] = "u"
    assert metrics(other, PARAMS) == {"metrics/ridge.json"}  # the network from scratch is of the images before


def test_other_images_are_told_apart_and_other_code_is_not():
    other = copy.deepcopy(STAGES)
    other["fetch"]["deps"][0]["md5"] = "g"
    assert computed.images(other) == computed.images(STAGES)
    other["tfrecord"]["deps"][1]["md5"] = "j"
    assert computed.images(other) != computed.images(STAGES)


def test_all_metrics_of_the_project_were_computed_by_its_lock():
    stages, params = read_yaml("dvc.lock")["stages"], read_yaml("params.yaml")
    names = {path for path in computed.computed(stages, {"params.yaml": params}) if path.startswith("metrics/")}
    assert names == {out["path"] for stage in stages.values() for out in stage["outs"] if "metrics/" in out["path"]}


def test_what_a_run_left_as_it_was_is_not_shown_and_a_lock_with_conflicts_is_one_line(tmp_path, monkeypatch):
    repository = made(tmp_path / "repository")
    repository.write(
        "params.yaml", repository.git("show", "HEAD:params.yaml").replace("0.9", "0.7").replace("0.8", "0.6")
    )
    repository.dvc("repro", "--quiet", "evaluate@tiny-ridge")
    files: dict[str, Any] = {f"metrics/tiny/{head}.json": {"data": {}} for head in ("ridge", "softmax")}
    monkeypatch.chdir(repository.path)
    params = read_yaml(repository.path / "params.yaml")

    def kept(rev, content):
        state = {"rev": rev, "data": {"params": {"params.yaml": {"data": content}}, "metrics": files}}
        return set(computed.alone([state])[0]["data"]["metrics"])

    assert kept("workspace", params) == {"metrics/tiny/ridge.json"}
    head = repository.git("rev-parse", "HEAD")
    assert kept(head, {"ridge": {"accuracy": 0.9}, "softmax": {"accuracy": 0.8}}) == set(files)
    assert computed.lock_of("0" * 40) == ""
    (repository.path / "dvc.lock").write_text("<<<<<<< ours\nstages: {}\n=======\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"dvc.lock of workspace can't be read, as after a merge with conflicts. .*dvc repro"
    ):
        kept("workspace", params)
