"""What a folder holds, to compare runs by."""

import hashlib


def of(folder):
    """Returns {relative path: sha256 hex}; hashes, for pytest explains how long bytes differ for hours."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
