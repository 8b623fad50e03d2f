"""Files that a parameter names: from the home folder, and from the checkout in whose copy an experiment runs."""

import contextlib
from pathlib import Path

EXPERIMENTS = ".dvc", "tmp", "exps"  # where `dvc exp run --temp` and `--queue` copy what Git has, and nothing else


def is_there(path: Path) -> bool:
    """Tells whether a path is a file, or a folder with more than a .gitignore, which Git has where it has no images."""
    return path.is_file() or (path.is_dir() and any(entry.name != ".gitignore" for entry in path.iterdir()))


def named(value: str) -> Path:
    """Returns the path that a parameter names, whether or not it is there.

    A relative path starts from the current folder. In a copy for an experiment, which lacks what Git ignores, it starts
    from the checkout, unless it is there in the copy.
    """
    path = Path(value)
    with contextlib.suppress(RuntimeError):  # nobody's home
        path = path.expanduser()
    if is_there(path):
        return path
    here = Path.cwd()
    inside = (folder for folder in here.parents if folder.parts[-3:] == EXPERIMENTS)
    return next((folder.parents[2] / path for folder in inside), path)
