"""dvc.yaml against the code: what a stage depends on is what it imports, and what it reads of params.yaml exists."""

from pathlib import Path

import pytest
from conftest import ROOT
from imports import closure
from ruamel.yaml import YAML

LIBRARY = ROOT / "stages" / "library"
# Stage -> families of plug-ins that it looks up by name, with the pattern that stands for the one looked up.
FAMILIES = {
    "fetch": {"datasets": "${dataset.name}"},
    "tfrecord": {"datasets": "${dataset.name}"},
    "bottleneck-extract": {
        "backbones": "${item.backbone}",
        "runtimes": "${extract.runtime}",
        "engines": "${extract.engine}",
    },
    "train-heads": {"heads": "${item.head}"},
    "fewshot": {"heads": "${item.head}"},
    "finetune": {"backbones": "${item.backbone}"},
    "train-scratch": {},
    "evaluate": {"backbones": "${item.backbone}", "heads": "${item.head}"},
    "audit": {},
    "evaluate-finetuned": {"backbones": "${item.backbone}"},
    "evaluate-scratch": {},
    "report": {},
}
STAGES = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def plugins(family):
    return [path for path in (LIBRARY / family).glob("*.py") if path.stem != "__init__"]


def imported_by_plugins(family):
    """What any plug-in of a family imports beside itself: a stage may look up each of them."""
    return set().union(*(closure(path) - {str(path.relative_to(ROOT))} for path in plugins(family)))


def tables(modules):
    """A module may read a table of the same name beside it."""
    paths = (Path(name).with_suffix(".csv") for name in modules)
    return {str(path) for path in paths if (ROOT / path).exists()}


def script(stage):
    return ROOT / "stages" / f"{STAGES[stage]['cmd'].split()[2].removeprefix('stages.')}.py"


def test_every_stage_is_covered():
    assert set(STAGES) == set(FAMILIES)
    assert {script(stage) for stage in STAGES} == set((ROOT / "stages").glob("[a-z]*.py"))


@pytest.mark.parametrize("stage", FAMILIES)
def test_deps_are_the_closure_of_imports(stage):
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")}
    expected = closure(script(stage))
    for family, pattern in FAMILIES[stage].items():
        expected |= imported_by_plugins(family) | {f"stages/library/{family}/{pattern}.py"}
    assert declared == expected | tables(expected)


@pytest.mark.parametrize("family", ["datasets", "backbones", "heads"])
def test_plugins_do_not_know_each_other(family):
    others = {str(path.relative_to(ROOT)) for name in ("datasets", "backbones", "heads") for path in plugins(name)}
    for path in plugins(family):
        assert closure(path) & others == {str(path.relative_to(ROOT))}


def test_the_library_imports_no_stage():
    scripts = {str(path.relative_to(ROOT)) for path in (ROOT / "stages").glob("*.py")}
    for path in LIBRARY.rglob("*.py"):
        assert not closure(path) & scripts


@pytest.mark.parametrize("stage", STAGES)
def test_params_exist(stage, default_params):
    for key in STAGES[stage].get("params", []):
        section = default_params
        for part in key.split("."):
            if part.startswith("${"):
                break
            section = section[part]


def test_stages_that_read_every_head_list_its_parameters():
    heads = {path.stem for path in plugins("heads")}
    assert {f"{head}.features" for head in heads} < set(STAGES["report"]["params"])


def test_finetune_lists_what_its_first_head_takes_of_the_softmax_head(default_params):
    listed = {key.removeprefix("softmax.") for key in STAGES["finetune"]["params"] if key.startswith("softmax.")}
    assert listed == set(default_params["softmax"]) - {"features", "epochs"}


@pytest.mark.parametrize("stage", ["train-heads", "evaluate", "audit", "fewshot", "report", "fetch", "tfrecord"])
def test_stages_that_run_no_network_name_no_tensorflow(stage):
    """TensorFlow may be imported in the functions that run a network, never when a module of theirs is imported."""
    import ast

    for name in closure(script(stage)):
        for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                assert not {"tensorflow", "keras"} & {alias.name.split(".")[0] for alias in node.names}, name
            if isinstance(node, ast.ImportFrom):
                assert str(node.module).split(".")[0] not in {"tensorflow", "keras"}, name
