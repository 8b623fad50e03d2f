"""The single archive that a data set is published as: downloaded, or the user's own copy of it."""

from pathlib import Path

from stages.library.common import downloads
from stages.library.common.downloads import RemoteFile
from stages.library.sources.contract import Params


def fetch(published: RemoteFile, params: Params, raw: Path, cache: Path) -> str:
    """Puts the archive into `raw` under its published name, verified; returns one phrase on where it came from."""
    downloads.link(obtain(published, params, cache), raw / published.filename)
    return phrase(published.filename, params)


def obtain(published: RemoteFile, params: Params, cache: Path) -> Path:
    """Returns the path of `dataset.archive` where that is given, else of the published archive in the cache.

    Raises:
      UserError: the hash is not as promised, or no mirror had the archive.
    """
    if params.archive is not None:
        return downloads.verified_local(params.archive, params.archive_sha256 or "")
    return downloads.obtain(published, cache, "or give its path as `dataset.archive`, with `dataset.archive_sha256`")


def phrase(filename: str, params: Params) -> str:
    """Returns what a stage's closing line says of an archive."""
    return filename if params.archive is None else f"{filename} from `dataset.archive`"
