"""The single archive that a data set is published as: downloaded, or the user's own copy of it."""

import zipfile
from pathlib import Path

from stages.library.common import downloads
from stages.library.common.downloads import RemoteFile
from stages.library.sources.contract import Params


def fetch(published: RemoteFile, params: Params, raw: Path, cache: Path, unzipped: str = "") -> str:
    """Puts `dataset.archive`, or else the published archive, into `raw`, verified; returns one phrase on which it was.

    It has its published name there, or the name `unzipped`, where that is given and the archive is no zip.

    Raises:
      UserError: the hash is not as promised, or no mirror had the archive.
    """
    if params.archive is not None:
        archive = downloads.verified_local(params.archive, params.archive_sha256 or "")
    else:
        remedy = "or give its path as `dataset.archive`, with `dataset.archive_sha256`"
        archive = downloads.obtain(published, cache, remedy)
    name = unzipped if unzipped and not zipfile.is_zipfile(archive) else published.filename
    downloads.link(archive, raw / name)
    return name if params.archive is None else f"{name} from `dataset.archive`"
