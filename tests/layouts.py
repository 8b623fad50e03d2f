"""Small archives in the layouts in which data sets are published: tar members, and pickles as Python 2 wrote them."""

import io
import struct
import tarfile

import numpy as np

from stages.library.common.artifacts import sha256_file
from stages.library.sources import contract as datasets
from stages.library.sources.contract import Params


def params(name, archive=None, sha256=None):
    """Section `dataset`, with an archive and its hash."""
    if archive is not None:
        sha256 = sha256 or sha256_file(archive)
    return Params(name=name, folder="-", archive=archive and str(archive), archive_sha256=sha256)


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


def python2_pickle(value):
    """Protocol 2 as Python 2 and NumPy 1 wrote it, opcode by opcode: byte strings, memo, NumPy's old module path."""
    return b"\x80\2" + _Python2().save(value) + b"."


class _Python2:
    def __init__(self):
        self._memo = 0

    def save(self, value):
        match value:
            case dict():
                start, items = self._put(b"}"), [self.save(part) for item in value.items() for part in item]
                return start + b"(" + b"".join(items) + b"u"
            case list():
                return self._put(b"]") + b"(" + b"".join(map(self.save, value)) + b"e"
            case str():
                return self._string(value.encode("latin1"))
            case bytes():
                return self._string(value)
            case int():
                sizes = ((1 << 8, b"K", "<B"), (1 << 16, b"M", "<H"), (1 << 31, b"J", "<i"))
                code, form = next((code, form) for limit, code, form in sizes if 0 <= value < limit)
                return code + struct.pack(form, value)
            case np.ndarray():
                return self._array(value)
        raise TypeError(type(value))

    def _put(self, opcodes):
        self._memo += 1
        index = struct.pack("<B", self._memo) if self._memo < 256 else struct.pack("<I", self._memo)
        return opcodes + (b"q" if self._memo < 256 else b"r") + index

    def _string(self, raw):
        length = b"U" + struct.pack("<B", len(raw)) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))
        return self._put(length + raw)

    def _array(self, value):
        is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        start = self._put(b"cnumpy.core.multiarray\n_reconstruct\n") + self._put(b"cnumpy\nndarray\n")
        start += self._put(b"K\0\x85") + self._string(b"b") + self._put(b"\x87") + self._put(b"R")
        shape = self._put(b"(" + b"".join(map(self.save, value.shape)) + b"t")
        dtype = self._put(b"cnumpy\ndtype\n") + self._string(value.dtype.str[1:].encode()) + b"K\0K\1"
        dtype += self._put(b"\x87") + self._put(b"R") + b"(K\3" + self._string(value.dtype.str[:1].encode())
        dtype += self._put(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t") + b"b"
        content = self._string(value.tobytes("A"))
        return start + b"(K\1" + shape + dtype + (b"\x88" if is_fortran else b"\x89") + content + self._put(b"t") + b"b"
