"""How the code is laid out: floors, from the bottom up, and no import that runs upward or in a circle."""

import ast
import graphlib
from pathlib import Path

from conftest import ROOT

# The order of floors, here and nowhere else. A room imports what lies on a lower floor and what is in it, nothing else.
FLOORS = (
    {"stages/library/common"},
    {f"stages/library/{room}" for room in ("sources", "records", "networks", "scoring", "figures")},
    {
        f"stages/library/{room}"
        for room in ("preparation", "features", "training", "report", "duplicates", "mapping", "auditing.py")
    },
    {f"stages/library/{room}" for room in ("extraction", "heads")},
    {"stages/library/combination", "stages/library/evaluation", "stages/library/fewshot.py", "stages/plugins"},
    {"stages/library/settings.py"},
    {f"stages/{path.name}" for path in (ROOT / "stages").glob("[a-z]*.py")},
    {"app"},
    {"benchmarks"},
    {"checks"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TOPS = "stages", "app", "checks", "benchmarks"
FILES = sorted(path.relative_to(ROOT) for top in TOPS for path in (ROOT / top).rglob("*.py"))


def module(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def imported(path):
    """The files that a file imports anywhere in it, those that only the type checker reads too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        else:
            continue
        yield from (MODULES[name] for name in names if name in MODULES)


def room(path):
    """The room that a file is in; None for the docstrings of packages that hold rooms."""
    return next((str(part) for part in (path, *path.parents) if str(part) in FLOOR), None)


def upward(importer, target):
    """Tells whether an import of one room by another breaks the order."""
    return importer != target and FLOOR[target] >= FLOOR[importer]


def test_every_file_is_in_a_room():
    assert {str(path) for path in FILES if room(path) is None} == {"stages/__init__.py", "stages/library/__init__.py"}
    assert {room(path) for path in FILES} - {None} == set(FLOOR)


def test_no_import_runs_upward():
    found = {(str(path), str(other)) for path in FILES for other in imported(path) if room(path) and room(other)}
    assert len(found) > 500
    assert [pair for pair in sorted(found) if upward(*(room(Path(path)) for path in pair))] == []


def test_what_runs_upward():
    common, records, heads = (f"stages/library/{room}" for room in ("common", "records", "heads"))
    assert upward(common, records)
    assert upward(records, "stages/library/sources")  # side by side
    assert upward(heads, "stages/plugins")
    assert upward(heads, "stages/library/settings.py")
    assert not upward(records, common)
    assert not upward("app", "app")


def test_no_circle_between_folders():
    graph: dict[Path, set[Path]] = {}
    for path in FILES:
        if path.parts[0] == "stages":
            folders = {other.parent for other in imported(path)} - {path.parent}
            graph.setdefault(path.parent, set()).update(folders)
    order = [str(folder) for folder in graphlib.TopologicalSorter(graph).static_order()]  # raises at a circle
    assert order.index("stages/library/common") < order.index("stages/library/heads") < order.index("stages")


def test_scripts_are_never_imported():
    scripts = {path for path in FILES if path.parent == Path("stages") and path.name != "__init__.py"}
    assert len(scripts) >= 10
    importers = [path for path in FILES if path.parts[0] in {"stages", "app"}]
    assert [(str(path), str(other)) for path in importers for other in imported(path) if other in scripts] == []


def test_plugins_do_not_know_each_other():
    def plugin(path):
        return path.parts[:4] if path.parts[:2] == ("stages", "plugins") and len(path.parts) > 3 else None

    for path in FILES:
        if plugin(path):
            assert {plugin(other) for other in imported(path)} <= {None, plugin(path)}, path


def test_tests_stand_where_their_code_stands():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(folders) > 10
    assert {str(folder) for folder in folders if not (ROOT / folder).is_dir() and folder.name != "ci"} == set()
