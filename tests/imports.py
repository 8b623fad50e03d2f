"""The files of this project that a script imports, transitively, found by reading the code."""

import ast
from pathlib import Path

from stages.library.common import source_code

ROOT = Path(__file__).parents[1]


def _is_empty(path):
    """Tells whether a module holds a docstring and nothing else, so that no change of it matters."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def closure(path):
    """Returns the paths, relative to the project, of a script and all that it imports from this project."""
    return {str(file.relative_to(ROOT)) for file in source_code.closure([path]) if not _is_empty(file)}
