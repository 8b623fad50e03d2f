"""The files of this project that a script imports, transitively, found by reading the code."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


class _Imports(ast.NodeVisitor):
    """Collects the dotted names that a module imports when it runs; what only the type checker reads is left out."""

    def __init__(self):
        self.names = set()

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node):
        self.names.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node):
        assert node.level == 0, "relative imports are not used here"
        self.names.add(node.module)
        self.names.update(f"{node.module}.{alias.name}" for alias in node.names)


def _file(name):
    path = ROOT / Path(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _is_empty(path):
    """Tells whether a module holds a docstring and nothing else, so that no change of it matters."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def closure(path):
    """Returns the paths, relative to the project, of a script and all that it imports from this project."""
    found, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        visitor = _Imports()
        visitor.visit(ast.parse(current.read_text(encoding="utf-8")))
        for name in visitor.names:
            parts = name.split(".")
            packages = (_file(".".join(parts[:end])) for end in range(1, len(parts) + 1))
            waiting.extend(file for file in packages if file)
    return {str(file.relative_to(ROOT)) for file in found if not _is_empty(file)}
