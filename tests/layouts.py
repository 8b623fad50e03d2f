"""Small archives in the layouts in which data sets are published: tar members, and pickles as Python 2 wrote them."""

import io
import pickle
import struct
import tarfile
from typing import Any

from stages.library.common.artifacts import sha256_file
from stages.library.sources import contract as datasets
from stages.library.sources.contract import Params


def params(name, archive=None, sha256=None, folder="-", table=None, columns=None):
    """Section `dataset`, with an archive and its hash."""
    if archive is not None:
        sha256 = sha256 or sha256_file(archive)
    return Params(
        name=name,
        folder=str(folder),
        table=table and str(table),
        columns=columns or {},
        archive=archive and str(archive),
        archive_sha256=sha256,
    )


def fetch_and_read(name, archive, tmp_path):
    """What a data set's module yields from an archive."""
    chosen, module = params(name, archive), datasets.lookup(name)
    raw = tmp_path / "raw"
    raw.mkdir()
    module.fetch(chosen, raw, tmp_path / "cache")
    return list(module.read(chosen, raw))


def tar_bytes(files, extra=()):
    """A tar of (name, content), with None for the content of a folder, and of further headers after them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files:
            info = special(name, tarfile.DIRTYPE if content is None else tarfile.REGTYPE)
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
        for info in extra:
            tar.addfile(info)
    return out.getvalue()


def special(name, kind, target=""):
    """The header of a folder, a link or a device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def python2_pickle(value):
    """Protocol 2 as Python 2 and NumPy 1 wrote it: byte strings for all text, and the old path of a module of NumPy."""
    out = io.BytesIO()
    pickler: Any = pickle._Pickler(out, 2)
    pickler.dispatch = pickler.dispatch | {str: _save_string, bytes: _save_string}
    pickler.dump(value)
    return out.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


def _save_string(pickler, value):
    raw = value.encode("latin1") if isinstance(value, str) else value
    pickler.write((b"U%c" % len(raw) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw)
    pickler.memoize(value)
