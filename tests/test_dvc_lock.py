"""dvc.lock and metrics/ in git against the code and params.yaml in git: they were made by this very commit."""

import hashlib
import json

import pytest
from conftest import ROOT, read_yaml

from stages.library.networks import contract

LOCK = read_yaml("dvc.lock")["stages"]


def md5(path):
    """The hash of a file, or that of a folder as DVC makes it: over the names and the hashes of its files."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    entries = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


@pytest.mark.parametrize("stage", LOCK)
def test_the_lock_was_made_with_this_code(stage):
    code = [dep for dep in LOCK[stage]["deps"] if dep["path"].startswith("stages/")]
    assert code
    for dep in code:
        assert md5(ROOT / dep["path"]) == dep["md5"], f"{dep['path']}: run dvc repro"


@pytest.mark.parametrize("stage", LOCK)
def test_the_lock_was_made_with_these_params(stage, default_params):
    for key, locked in LOCK[stage].get("params", {}).get("params.yaml", {}).items():
        value = default_params
        for part in key.split("."):
            value = value[part]
        assert value == locked, f"{key}: run dvc repro"


def test_the_notes_on_backbones_are_those_of_this_code(default_params):
    for name in default_params["backbones"]:
        note = json.loads((ROOT / "data" / "backbones" / f"{name}.json").read_text(encoding="utf-8"))
        assert note["definition"] == contract.definition(name), "run dvc repro inputs"


@pytest.mark.parametrize("stage", [stage for stage in LOCK if stage.startswith("evaluate")])
def test_the_metrics_in_git_are_those_of_the_lock(stage):
    [metrics] = [out for out in LOCK[stage]["outs"] if out["path"].startswith("metrics/")]
    content = (ROOT / metrics["path"]).read_bytes()
    assert hashlib.md5(content).hexdigest() == metrics["md5"]
    assert json.loads(content)["num_examples"] > 300
