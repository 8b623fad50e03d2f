"""dvc.yaml against the code: what a stage depends on is what it imports, and what it reads of params.yaml exists.

A dep is a folder of the code or a file; that all files it imports are below one, and none is there for nothing, is
tested here. Where what may import what is settled is test_layout.py.
"""

import ast
import functools

import pytest
from conftest import ROOT, read_yaml

from stages.library.common import source_code

PLUGINS = ROOT / "stages" / "plugins"
EXTRACTION = ROOT / "stages" / "library" / "extraction"
NOTED = "data/backbones/${item.backbone}.json"  # stands for a file or a row: the stage inputs writes what defines it
ALL_NOTED = "data/backbones"
# Stage -> families of plug-ins that it looks up by name, with the pattern that stands for the one looked up; *: all.
FAMILIES = {
    "inputs": {"backbones": "*"},
    "fetch": {"datasets": "${dataset.name}"},
    "tfrecord": {"datasets": "${dataset.name}"},
    "bottleneck-extract": {"backbones": NOTED, "runtimes": "*", "engines": "*"},
    "train-heads": {"heads": "${item.head}"},
    "train-joined": {"heads": "${item.head}"},
    "fewshot": {"heads": "${item.head}"},
    "fewshot-joined": {"heads": "${item.head}"},
    "finetune": {"backbones": NOTED},
    "train-scratch": {},
    "evaluate": {"backbones": NOTED, "heads": "${item.head}"},
    "evaluate-joined": {"backbones": ALL_NOTED, "heads": "${item.head}"},
    "combine": {"backbones": ALL_NOTED, "heads": "*"},
    "combine-finetuned": {"backbones": ALL_NOTED, "heads": "*"},
    "audit": {},
    "map": {},
    "evaluate-finetuned": {"backbones": NOTED},
    "evaluate-scratch": {},
    "report": {},
}
STAGES = read_yaml("dvc.yaml")["stages"]


def is_empty(path):
    """Tells whether a module holds a docstring and nothing else, so that no change of it matters."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def closure(path):
    """The paths, relative to the project, of a script and all that it imports from this project."""
    return {str(file.relative_to(ROOT)) for file in source_code.closure([path]) if not is_empty(file)}


def plugins(family):
    """Name -> the files of each plug-in of a family: NAME.py, a table of several, or all of the folder NAME."""
    folder = (EXTRACTION if family in {"runtimes", "engines"} else PLUGINS) / family
    found = {path.stem: [path] for path in [*folder.glob("[!_]*.py"), *folder.glob("families/[!_]*.py")]}
    return found | {path.parent.name: sorted(path.parent.glob("[!_]*.py")) for path in folder.glob("*/head.py")}


def imported_by_plugins(family):
    """What any plug-in of a family imports beside itself: a stage may look up each of them."""
    found = set()
    for files in plugins(family).values():
        found |= set().union(*map(closure, files)) - {str(path.relative_to(ROOT)) for path in files}
    return found


def looked_up(family, pattern):
    """The files of the plug-ins that a stage looks up, or what dvc.yaml calls the one that it does."""
    if pattern == "*":
        return {str(path.relative_to(ROOT)) for files in plugins(family).values() for path in files}
    if pattern in (NOTED, ALL_NOTED):
        return {pattern}
    return {f"stages/plugins/{family}/{pattern}" + ("" if family == "heads" else ".py")}


def needed(stage):
    """The files that a stage depends on: what its script imports, and what the plug-ins import that it looks up."""
    expected = closure(script(stage))
    for family, pattern in FAMILIES[stage].items():
        expected |= imported_by_plugins(family) | looked_up(family, pattern)
    return expected


def holds(dep, file):
    """Tells whether a dep is a file or a folder that it is in."""
    return file == dep or file.startswith(f"{dep}/")


def wrong_deps(declared, expected):
    """Returns files that no dep holds, and deps that hold none of the files."""
    missing = {file for file in expected if not any(holds(dep, file) for dep in declared)}
    return missing, {dep for dep in declared if not any(holds(dep, file) for file in expected)}


def script(stage):
    return ROOT / "stages" / f"{STAGES[stage]['cmd'].split()[2].removeprefix('stages.')}.py"


def test_every_stage_is_covered():
    assert set(STAGES) == set(FAMILIES)
    assert {script(stage) for stage in STAGES} == set((ROOT / "stages").glob("[a-z]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", FAMILIES)
def test_deps_are_what_the_code_imports(stage):
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("stages/", ALL_NOTED))}
    assert wrong_deps(declared, needed(stage)) == (set(), set())


def test_a_dep_that_is_missing_or_superfluous_is_seen():
    expected = {"stages/a.py", "stages/library/heads/dense.py"}
    assert wrong_deps({"stages/a.py", "stages/library/heads"}, expected) == (set(), set())
    missing = {"stages/library/heads/dense.py"}
    assert wrong_deps({"stages/a.py"}, expected) == (missing, set())
    assert wrong_deps({"stages/a.py", "stages/library/head"}, expected) == (missing, {"stages/library/head"})


@pytest.mark.parametrize("stage", STAGES)
def test_rooms_are_deps_as_a_whole(stage):
    """A new file of a room needs no new dep; settings.py and what else stands beside the rooms are deps by name."""
    whole = [dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/library/")]
    assert {dep for dep in whole if dep.count("/") > 2} == set()


def test_what_python_leaves_in_folders_is_no_dep():
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()


def test_params_exist_and_none_of_a_head_is_left_out(default_params):
    for stage in STAGES.values():
        for key in stage.get("params", []):
            if key != "${item.head}":
                functools.reduce(lambda part, name: part[name], key.split("."), default_params)
    assert {f"{head}.features" for head in plugins("heads")} < set(STAGES["report"]["params"])
    # What its first head takes of the softmax head:
    listed = {key.removeprefix("softmax.") for key in STAGES["finetune"]["params"] if key.startswith("softmax.")}
    assert listed == set(default_params["softmax"]) - {"features", "epochs"}


@pytest.mark.parametrize(
    "stage", ["train-heads", "evaluate", "combine", "audit", "map", "fewshot", "report", "inputs", "fetch", "tfrecord"]
)
def test_stages_that_run_no_network_name_no_tensorflow(stage):
    """TensorFlow may be imported in the functions that run a network, never when a module of theirs is imported."""
    for name in closure(script(stage)):
        for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                assert not {"tensorflow", "keras"} & {alias.name.split(".")[0] for alias in node.names}, name
            if isinstance(node, ast.ImportFrom):
                assert str(node.module).split(".")[0] not in {"tensorflow", "keras"}, name
