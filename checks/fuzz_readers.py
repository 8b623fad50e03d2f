"""The readers of bytes from outside, as the fuzzer sees them: valid files to start from, and what reading one means.

A reader's function writes the bytes where the code of Decant looks for them and reads them. It returns normally (the
bytes were accepted), raises one of `REFUSALS` (they were rejected as documented) or anything else, which is a defect;
that what was accepted is damaged is an AssertionError.
"""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from checks import fuzz_images, fuzz_mutations
from checks.fuzz_images import image
from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.extraction.feature_store import FeatureStore, Rows
from stages.library.features import cache
from stages.library.features.cache import ShardWriter, Source
from stages.library.preparation.normalisation import ImageError
from stages.library.records import tfrecord
from stages.library.records.tfrecord import Record
from stages.library.sources import archives, restricted_pickle
from stages.plugins.datasets import caltech101, fashion_mnist

ROOT = Path(__file__).parents[1]
WIDTHS = 4, 3
SOURCE = Source("tiny", 32, 1.0, "bilinear", False, "a" * 64, "f" * 64, ("cat", "dog"))


@dataclass(frozen=True)
class Reader:
    """A reader of bytes.

    Attributes:
      seeds: given an empty folder, returns the valid files.
      read: given a variant and a folder of this process, reads it.
      rejections: what it is documented to raise.
      structural: changes the structure of such files, where more is known of it than that they are bytes.
      hostile: makes files that are read before any variant; they may be rejected.
      alone: whether reading starts no other program.
    """

    seeds: Callable[[Path], Sequence[bytes]]
    read: Callable[[bytes, Path], object]
    rejections: tuple[type[Exception], ...] = (UserError,)
    structural: fuzz_mutations.Structural | None = None
    hostile: Callable[[], Iterable[Callable[[], bytes]]] = tuple
    alone: bool = True


def written(path: Path, content: bytes) -> Path:
    """Writes a file and returns its path."""
    path.write_bytes(content)
    return path


RECORDS = [Record(f"{n:064x}", image("PNG"), "png", 9, 12, n % 2, "cat", f"cat/{n}.png") for n in range(3)]


def record_seeds(folder: Path) -> list[bytes]:
    """A shard of three records, and one without any."""
    path = folder / "shard"
    return [path.read_bytes() for some in (RECORDS, []) if len(tfrecord.write_shard(path, some)) == len(some)]


def read_records(content: bytes, folder: Path) -> None:
    """A TFRecord shard: whatever is accepted is a run of whole records, by their checksums."""
    path = written(folder / "shard", content)
    found = list(tfrecord.read_shard(path))
    assert all(record in RECORDS for record in found), "a changed record passed its checksum"


def read_framed(content: bytes, folder: Path) -> None:
    """A tf.train.Example that a hostile writer gave right checksums."""
    path = written(folder / "shard", tfrecord.framed(content))
    for record in tfrecord.read_shard(path):
        assert isinstance(record.label, int), "a record has its types"


def bottleneck_seeds(folder: Path) -> list[bytes]:
    """A shard of the feature cache with rows and one without."""
    found = []
    for rows in (5, 0):
        writer = ShardWriter(folder / "shard", SOURCE, *WIDTHS)
        values = np.arange(rows)[:, None] + np.zeros(WIDTHS[0])
        if rows:
            writer.write([f"{n:064x}" for n in range(rows)], np.arange(rows) % 2, values, values[:, : WIDTHS[1]])
        writer.close()
        found.append((folder / "shard").read_bytes())
    return found


def read_bottlenecks(content: bytes, folder: Path) -> None:
    """A shard of the feature cache, read as each kind of features."""
    written(folder / "train-00000-of-00001.parquet", content)
    for kind in cache.COLUMNS:
        found = cache.load(folder, ["train"], kind)
        assert len(found.keys) == len(found.labels) == len(found.values), "as many keys as labels as rows"


def _store(folder: Path) -> FeatureStore:
    return FeatureStore(folder / "store", {"backbone": "tiny"}, *WIDTHS)


def part_seeds(folder: Path) -> list[bytes]:
    """A part of the feature store."""
    values = np.arange(5, dtype=np.float16)[:, None] + np.zeros(WIDTHS[0], np.float16)
    rows = Rows(np.array([f"{n:064x}" for n in range(5)], "S64"), values, values[:, : WIDTHS[1]])
    _store(folder).put(rows, "digits")
    return [path.read_bytes() for path in _store(folder).parts()]


def read_part(content: bytes, folder: Path) -> None:
    """A part of a feature store that others can write to: it has the name that its bytes ask for."""
    (folder / "store").mkdir(exist_ok=True)
    path = written(folder / "store" / f"{artifacts.sha256_bytes(content)}.parquet", content)
    try:
        _store(folder).keys([path])
        found = list(_store(folder).read([path]))
        if not found:
            raise UserError("counted as damaged")
        for rows in found:
            assert (rows.bottleneck.shape[1], rows.logits.shape[1]) == WIDTHS, "rows of the right widths"
    finally:
        path.unlink(missing_ok=True)


def pickle_seeds(folder: Path) -> list[bytes]:
    """A batch as CIFAR's are, by NumPy of today and in the oldest protocol."""
    import pickle

    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1], b"filenames": [b"a.png", b"b.png"]}
    return [pickle.dumps(batch, protocol) for protocol in range(5)]


def idx_seeds(folder: Path) -> list[bytes]:
    """The content of an IDX file of two images."""
    return [bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24))]


def read_idx(content: bytes, folder: Path) -> None:
    """An IDX file of Fashion-MNIST within a whole gzip file, and as one that is damaged itself."""
    path = written(folder / "idx.gz", gzip.compress(content, 1))
    assert fashion_mnist.read_idx(path, 3).ndim == 3, "three dimensions"


def tar_seeds(folder: Path) -> list[bytes]:
    """A tar, with a folder, a link and long names."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("101_ObjectCategories/cat/1.jpg", "101_ObjectCategories/犬/" + "x" * 200):
            info = tarfile.TarInfo(name)
            info.size = 700
            tar.addfile(info, io.BytesIO(b"p" * 700))
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../etc/passwd"
            tar.addfile(info)
    return [file.getvalue()]


def read_tar(content: bytes, folder: Path) -> None:
    """The members of a tar, plain and within a whole gzip file."""
    rejected = None
    for members, stream in ((archives.tar_members, content), (archives.tar_gz_members, gzip.compress(content, 1))):
        try:
            for member in members(io.BytesIO(stream), "archive", 1 << 20):
                assert member.content is None or len(member.content) <= 1 << 20, "a member within its limit"
        except UserError as error:
            rejected = error
    if rejected:
        raise rejected


def zip_seeds(folder: Path) -> list[bytes]:
    """A zip with a tar.gz in it, as Caltech-101 is published."""
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            inner = gzip.compress(tar_seeds(folder)[0], mtime=0)
            archive.writestr(f"caltech-101/{caltech101.IMAGES}.tar.gz", inner)
        found.append(file.getvalue())
    return found


def read_zip(content: bytes, folder: Path) -> None:
    """The published archive of Caltech-101."""
    written(folder / caltech101.ARCHIVE.filename, content)
    for item in caltech101.read(None, folder):  # type: ignore[arg-type]  # its parameters are not looked at
        assert item.name, "each entry has a name"


def readers() -> dict[str, Reader]:
    """Returns all readers by name."""
    from checks import fuzz_documents, fuzz_weights

    return {
        "image": Reader(
            fuzz_images.seeds,
            fuzz_images.read,
            (ImageError,),
            fuzz_images.change,
            lambda: fuzz_images.hostile().values(),
        ),
        "tfrecord": Reader(record_seeds, read_records),
        "example": Reader(lambda folder: [tfrecord._serialize(record) for record in RECORDS], read_framed),
        "bottlenecks": Reader(bottleneck_seeds, read_bottlenecks),
        "feature-part": Reader(part_seeds, read_part),
        "cifar": Reader(pickle_seeds, lambda content, folder: restricted_pickle.load(content, "batch")),
        "idx": Reader(idx_seeds, read_idx),
        "tar": Reader(tar_seeds, read_tar),
        "zip": Reader(zip_seeds, read_zip),
        **fuzz_documents.readers(),
        **fuzz_weights.readers(),
    }
