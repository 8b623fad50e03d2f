"""Merge conflicts in what DVC reads, said before DVC calls these files corrupt, or shows them as empty."""

from pathlib import Path

from stages.library.common import guarded_files

FILES = "dvc.yaml", "params.yaml", "dvc.lock", "data/*.json", "metrics/**/*.json"


def reject(root: Path) -> None:
    """Raises FileError for the first file of a checkout that has the marks of a merge conflict, with the remedy."""
    for path in (path for pattern in FILES for path in sorted(root.glob(pattern))):
        if path.is_file():
            guarded_files.read_text(path)
