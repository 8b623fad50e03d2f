"""What people add: data sets, backbones and heads, a file, a folder or a table's row each in stages/plugins."""

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PLUGINS = {kind: ROOT / "stages" / "plugins" / kind for kind in ("datasets", "backbones", "heads")}


def plugin_names(folder: Path) -> tuple[str, ...]:
    """Returns the sorted names of the plug-ins of a folder: NAME.py, NAME/ with a head.py, or a row of `families`."""
    found = [*folder.glob("[!_]*.py"), *(path.parent for path in folder.glob("[!_]*/head.py"))]
    return tuple(sorted({*(path.stem for path in found), *members(folder)}))


@functools.cache
def members(folder: Path) -> Mapping[str, Any]:
    """Returns name -> plug-in of those that are no file of their own: `MEMBERS` of each module in folder/families."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "families").glob("[!_]*.py")):
        found |= importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)).MEMBERS
    return found
