"""The readers of bytes from outside, as the fuzzer sees them: valid files to start from, and what reading one means.

Reading returns (the bytes were accepted), raises one of the reader's rejections, or anything else, which is a defect;
that what was accepted is damaged is an AssertionError.
"""

import gzip
import io
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from checks import fuzz_images, fuzz_mutations
from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.extraction.feature_store import FeatureStore, Rows
from stages.library.features import cache
from stages.library.features.cache import ShardWriter
from stages.library.features.source import Source
from stages.library.preparation import corrections
from stages.library.preparation.corrections import Correction, Corrections
from stages.library.preparation.normalisation import ImageError
from stages.library.records import tfrecord
from stages.library.records.preprocessing import Preprocessing
from stages.library.sources import archives, image_trees, label_rows, label_tables, restricted_pickle
from stages.plugins.datasets import caltech101, fashion_mnist

ROOT = Path(__file__).parents[1]
SEPARATOR = b"\0--- next file ---\0"
SOURCE = Source("tiny", Preprocessing(32), False, "a" * 64, "f" * 64, ("cat", "dog"))
PNG = fuzz_images.image("PNG")
NAMES = ["a/1.jpg", "a/2.jpg", "3.png"]
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24))
BATCH = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1], b"filenames": [b"a.png", b"b.png"]}  # of CIFAR
KEYS, WIDTHS = [f"{n:064x}" for n in range(5)], (4, 3)
RECORDS = [tfrecord.Record(KEYS[n], PNG, "png", 9, 12, n % 2, "cat", f"cat/{n}.png") for n in range(3)]
EXAMPLES = [tfrecord._serialize(record) for record in RECORDS]
BOTTLENECK = np.arange(5, dtype=np.float16)[:, None] + np.zeros(WIDTHS[0], np.float16)
ROWS = Rows(np.array(KEYS, "S64"), BOTTLENECK, BOTTLENECK[:, : WIDTHS[1]])


@dataclass(frozen=True)
class Reader:
    """A reader of bytes."""

    seeds: Callable[[Path], Iterable[bytes]]  # given an empty folder, returns the valid files
    read: Callable[[bytes, Path], object]  # given a variant and a folder of this process, reads it
    rejections: tuple[type[Exception], ...] = (UserError,)  # what it is documented to raise
    structural: fuzz_mutations.Structural | None = None  # where more is known of such files than that they are bytes
    hostile: Callable[[], Iterable[bytes]] = tuple  # files that are read before any variant
    alone: bool = True  # reading starts no other program


def written(content: bytes, folder: Path, *names: str | Path) -> Path:
    """Writes the files that stand after each other in some bytes, and returns the path of the first one."""
    parts = content.split(SEPARATOR, len(names) - 1)
    for name, part in zip(names, [*parts, *[b""] * len(names)], strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(part)
    return folder / names[0]


def joined(folder: Path, *names: str) -> bytes:
    """Returns some files after each other."""
    return SEPARATOR.join((folder / name).read_bytes() for name in names)


def of_files(*changes: fuzz_mutations.Structural | None) -> fuzz_mutations.Structural:
    """Returns a change of one of several files that stand after each other."""

    def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        files = content.split(SEPARATOR)
        at, one = rng.choice([(index, one) for index, one in enumerate(changes) if one])
        if at < len(files):
            files[at] = one(files[at], [files[at]], rng)
        return SEPARATOR.join(files)

    return change


def _read_records(content: bytes, folder: Path, hostile: bool = False) -> None:
    """A TFRecord shard: what is accepted is a run of our records, unless a hostile writer gave right checksums."""
    shard = written(tfrecord.framed(content) if hostile else content, folder, "shard")
    for record in tfrecord.read_shard(shard):
        assert isinstance(record.label, int), "a record has its types"
        assert hostile or record in RECORDS, "a changed record passed its checksum"


def _bottleneck_seeds(folder: Path) -> Iterator[bytes]:
    for blocks in (1, 0):
        writer = ShardWriter(folder / "shard", SOURCE, *WIDTHS)
        for _ in range(blocks):
            writer.write(KEYS, np.arange(5) % 2, ROWS.bottleneck, ROWS.logits)
        writer.close()
        yield joined(folder, "shard")


def _read_bottlenecks(content: bytes, folder: Path) -> None:
    written(content, folder, "train-00000-of-00001.parquet")
    for kind in cache.COLUMNS:
        found = cache.load(folder, ["train"], kind)
        assert len(found.keys) == len(found.labels) == len(found.values), "as many keys as labels as rows"


def _part_seeds(folder: Path) -> list[bytes]:
    store = FeatureStore(folder, {"backbone": "tiny"}, *WIDTHS)
    store.put(ROWS, "digits")
    return [path.read_bytes() for path in store.parts()]


def _read_part(content: bytes, folder: Path) -> None:
    """A part of a feature store that others can write to: it has the name that its bytes ask for."""
    path, store = folder / f"{artifacts.sha256_bytes(content)}.parquet", FeatureStore(folder, {}, *WIDTHS)
    path.write_bytes(content)
    try:
        store.keys([path])
        found = list(store.read([path]))
        if not found:
            raise UserError("counted as damaged")
        for rows in found:
            assert (rows.bottleneck.shape[1], rows.logits.shape[1]) == WIDTHS, "rows of the right widths"
    finally:
        path.unlink(missing_ok=True)


def _read_idx(content: bytes, folder: Path) -> None:
    path = written(gzip.compress(content, 1), folder, "idx.gz")
    assert fashion_mnist.read_idx(path, 3).ndim == 3, "three dimensions"


def _tar() -> bytes:
    file, long_name = io.BytesIO(), "101_ObjectCategories/犬/" + "x" * 200
    kinds = {"101_ObjectCategories/cat/1.jpg": tarfile.REGTYPE, long_name: tarfile.REGTYPE}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in (kinds | {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../etc/passwd" if name == "link" else ""
            info.size = 700 * info.isreg()
            tar.addfile(info, io.BytesIO(b"p" * 700))
    return file.getvalue()


def _read_tar(content: bytes, folder: Path) -> None:
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


def _zip_seeds(folder: Path) -> Iterator[bytes]:
    """A zip with a tar.gz in it, as Caltech-101 is published; people's own zips are read by `image_trees`."""
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            archive.writestr(f"caltech-101/{caltech101.IMAGES}.tar.gz", gzip.compress(_tar(), mtime=0))
        yield file.getvalue()


def _read_zip(content: bytes, folder: Path) -> None:
    path = written(content, folder, caltech101.ARCHIVE.filename)
    for member in image_trees.members(path, contents=True):
        assert member.is_folder or bool(member.rejected) == (member.content is None), "an image or a reason"
    for item in caltech101.read(None, folder):  # type: ignore[arg-type]  # its parameters are not looked at
        assert item.name, "each entry has a name"


def _table_seeds(folder: Path) -> Iterator[bytes]:
    """A table of labels as CSV, JSON Lines and parquet, with what is wrong in some rows."""
    frame = pd.DataFrame({"filename": [*NAMES, "x", ""], "label": [*"abab", ""], "weight": [1, 2.5, None, -1, 1]})
    frame["split"], frame["group"] = ["train", "Valid", "", "y", "test"], ["p1", "p1", None, "p2", "p2"]
    yield frame.to_csv(index=False).encode()
    yield frame.to_json(orient="records", lines=True).encode()
    yield frame.to_parquet(compression=None)


def _read_table(content: bytes, folder: Path) -> None:
    suffix = {b"PAR1": ".parquet"}.get(content[:4], ".jsonl" if content[:1] == b"{" else ".csv")
    table = label_tables.read(written(content, folder, f"labels{suffix}"), {})
    labels = label_rows.check(table, pa.chunked_array([NAMES]), {1: "damaged"}, ["/images"])
    assert len(labels.files) + len(labels.wrong) == len(table.rows) + len(table.wrong), "each row is used or listed"


def _corrections_seeds(folder: Path) -> Iterator[bytes]:
    """Rows of each action, one twice."""
    actions = (("keep", ""), ("relabel", "a\n<b>"), ("drop", ""), ("relabel", "=1"))
    rows = [
        Correction(f"{number % 3:064x}", action, label, "2026-01-31T23:59:59Z", "x")
        for number, (action, label) in enumerate(actions)
    ]
    corrections.write(folder / "seed.csv", rows)
    yield (folder / "seed.csv").read_bytes()


def _read_corrections(content: bytes, folder: Path) -> None:
    found = Corrections.load(written(content, folder, "corrections.csv"))
    assert len(found.kept([f"{number:064x}" for number in range(3)])) == 3


def readers() -> dict[str, Reader]:
    """Returns all readers by name."""
    from checks import fuzz_documents

    images = fuzz_images.seeds, fuzz_images.read, (ImageError,), fuzz_images.change
    batches = [pickle.dumps(BATCH, protocol) for protocol in range(5)]
    return {
        "image": Reader(*images, hostile=lambda: (make() for make in fuzz_images.hostile().values())),
        "tfrecord": Reader(lambda _: [b"".join(map(tfrecord.framed, EXAMPLES)), b""], _read_records),
        "example": Reader(lambda _: EXAMPLES, partial(_read_records, hostile=True)),
        "bottlenecks": Reader(_bottleneck_seeds, _read_bottlenecks),
        "feature-part": Reader(_part_seeds, _read_part),
        "cifar": Reader(lambda _: batches, lambda content, folder: restricted_pickle.load(content, "batch")),
        "idx": Reader(lambda _: [IDX], _read_idx),
        "tar": Reader(lambda _: [_tar()], _read_tar),
        "zip": Reader(_zip_seeds, _read_zip),
        "table": Reader(_table_seeds, _read_table),
        "corrections": Reader(_corrections_seeds, _read_corrections),
        **fuzz_documents.readers(),
    }
