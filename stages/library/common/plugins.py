"""What people add: data sets, backbones and heads, a file or folder each in stages/plugins, found by its name."""

from pathlib import Path

PLUGINS = {kind: Path(__file__).parents[2] / "plugins" / kind for kind in ("datasets", "backbones", "heads")}


def plugin_names(folder: Path) -> tuple[str, ...]:
    """Returns the sorted names of the plug-ins of a folder: NAME.py, or NAME/ with a head.py."""
    found = [*folder.glob("[!_]*.py"), *(path.parent for path in folder.glob("[!_]*/head.py"))]
    return tuple(sorted(path.stem for path in found))
