"""Lists the programs of this folder.

example: python -m app
"""

import ast
import textwrap
from pathlib import Path

from stages.library.common import console

FOLDER = Path(__file__).parent


def main() -> None:
    """Prints each program's name and the first line of its description, as wide as a screen."""
    found = programs()
    width = 4 + max(map(len, found))
    console.say("Run: python -m app.PROGRAM --help", "")
    for name, what in found.items():
        console.say(*textwrap.wrap(what, 80, initial_indent=f"  {name}".ljust(width), subsequent_indent=" " * width))


def programs() -> dict[str, str]:
    """Returns what each program does, by its name; none of them is imported, for some need optional packages."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path != Path(__file__) and any(
            isinstance(node, ast.If) and "__main__" in ast.dump(node) for node in tree.body
        ):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


if __name__ == "__main__":
    console.run(main)
