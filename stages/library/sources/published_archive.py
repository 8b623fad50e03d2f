"""The single archive that a data set is published as: downloaded, or the user's own copy of it."""

import zipfile
from pathlib import Path, PurePosixPath

from stages.library.common import downloads
from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile
from stages.library.sources.archives import Member
from stages.library.sources.contract import Params, SourceImage, Stray


def fetch(published: RemoteFile, params: Params, raw: Path, cache: Path, unzipped: str = "") -> str:
    """Puts `dataset.archive`, or else the published one, into `raw`, verified; named `unzipped` if it is no zip."""
    if params.archive is not None:
        archive = downloads.verified_local(params.archive, params.archive_sha256 or "")
    else:
        remedy = "or give its path as `dataset.archive`, with `dataset.archive_sha256`"
        archive = downloads.obtain(published, cache, remedy)
    name = unzipped if unzipped and not zipfile.is_zipfile(archive) else published.filename
    downloads.link(archive, raw / name)
    return name if params.archive is None else f"{name} from `dataset.archive`"


def fetched(path: Path) -> Path:
    """Returns the path of what `fetch` has put there; UserError where it hasn't."""
    if not path.exists():
        raise UserError(f"{path} is missing. Run: dvc repro fetch")
    return path


def class_image(member: Member, top: str, suffix: str = "") -> SourceImage | Stray:
    """Returns the image that a member is, if it stands as top/CLASS/IMAGE and has the suffix."""
    folders = PurePosixPath(member.name).parts
    if member.content is None:
        return Stray(member.name, member.rejected)
    if folders[-1].startswith("."):
        return Stray(member.name, "hidden file")
    if len(folders) != 3 or folders[0] != top:
        return Stray(member.name, f"not {top}/CLASS/IMAGE")
    if not folders[-1].endswith(suffix):
        return Stray(member.name, f"not a {suffix}")
    return SourceImage("/".join(folders[1:]), folders[1], None, member.content)
