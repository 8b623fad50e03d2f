"""The code that a result depends on: what a module imports, and a hash of syntax trees, the same under any Python."""

import ast
import importlib.util
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from stages.library.common import artifacts

ROOT = Path(__file__).parents[3]
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def file_of(module: str) -> Path:
    """Returns the file of a module of this project, without importing it; ModuleNotFoundError: there is none."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {module!r}", name=module)
    return Path(spec.origin)


def closure(paths: Iterable[Path], without: Collection[Path] = ()) -> set[Path]:
    """Returns some files and all that they import of this project, but those `without` and what these alone import.

    Imports inside of functions count; those for the type checker don't. What is looked up by a name isn't found.
    """
    found: set[Path] = set()
    waiting = [path for path in paths if path not in without]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for file in _imported(path) if file not in without]
    return found


def sha256(paths: Iterable[Path]) -> str:
    """Returns a hex sha256 over the names and the syntax of some Python files, in whatever order they are given."""
    hashes = sorted([path.name, artifacts.sha256_bytes(_syntax(path))] for path in paths)
    return artifacts.sha256_bytes(artifacts.canonical_json(hashes).encode())


def _syntax(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # half written; nothing that runs imports it
        return content
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return _described(tree).encode(errors="surrogatepass")


def _described(node: object) -> str:
    # `ast.dump` shows empty fields in some versions of Python only.
    if isinstance(node, list):
        return f"[{','.join(map(_described, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    shown = (f"{name}={_described(value)}" for name, value in fields if value is not None and value != [])
    return f"{type(node).__name__}({','.join(shown)})"


def _imported(path: Path) -> Iterator[Path]:
    for name in _names(ast.parse(path.read_bytes()), path):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            place = ROOT / Path(*parts[:end])
            yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _names(node: ast.AST, path: Path) -> Iterator[str]:
    """Yields the dotted names that the code below a node imports when it runs, in the file at a path."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
        module = ".".join([*package, *([node.module] if node.module else [])])
        yield from (f"{module}.{alias.name}" for alias in node.names)  # the module itself is found on the way
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for statement in node.orelse:
            yield from _names(statement, path)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _names(child, path)
