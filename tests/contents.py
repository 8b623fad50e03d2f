"""What a folder holds, to compare runs by."""

from stages.library.common.artifacts import sha256_file


def of(folder):
    """Returns {relative path: sha256 hex}; hashes, for pytest explains how long bytes differ for hours."""
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
