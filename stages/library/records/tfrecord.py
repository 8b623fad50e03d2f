"""TFRecord shards, written and read without TensorFlow, whose import alone costs seconds.

Layout (https://www.tensorflow.org/tutorials/load_data/tfrecord): per record a little-endian uint64 length, its masked
CRC-32C, the serialized tf.train.Example, its masked CRC-32C. The keys are those of the classic image pipelines.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import google_crc32c
import numpy as np
import pydantic
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from stages.library.common.console import UserError
from stages.library.common.params import CONFIG
from stages.library.records.dataset_file import SPLITS as SPLITS

HEADER_BYTES, FOOTER_BYTES = 12, 4  # before and after each example
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `tfrecord` of params.yaml."""

    shards: Annotated[int, pydantic.Field(ge=1, le=10_000, description="shards per split")]
    max_rejected: Annotated[float, pydantic.Field(ge=0, lt=1, description="fraction of unreadable images allowed")]
    include: Annotated[
        tuple[str, ...], pydantic.Field(min_length=1, description="glob patterns of the names of the images used")
    ]


@dataclass(frozen=True)
class Record:
    """One example: an encoded image and its class.

    Attributes:
      key: hex sha256 of the source bytes (a file's content, or an array's shape and pixels).
      encoded: JPEG or PNG bytes, 8 bits a channel, upright.
      format: "jpeg" or "png".
      height, width: pixels.
      label: class id, the rank of `text` among the sorted classes.
      text: class name.
      filename: where the data set had it, with forward slashes.
    """

    key: str
    encoded: bytes
    format: str
    height: int
    width: int
    label: int
    text: str
    filename: str


def shard_paths(folder: Path, split: str, shards: int) -> list[Path]:
    """Returns `folder/split-00000-of-00008.tfrecord` and so on."""
    return [folder / f"{split}-{index:05d}-of-{shards:05d}.tfrecord" for index in range(shards)]


def find_shards(folder: Path, split: str) -> list[Path]:
    """Returns the existing shards of a split, in order.

    Raises:
      UserError: there are none, or one is missing.
    """
    found = sorted(folder.glob(f"{split}-*-of-*.tfrecord"))
    if not found:
        raise UserError(f"{folder} holds no shard of split {split!r}. Run the tfrecord stage: dvc repro tfrecord")
    expected = shard_paths(folder, split, int(found[0].stem.rsplit("-", 1)[1]))
    if found != expected:
        missing = sorted({path.name for path in expected} ^ {path.name for path in found})
        raise UserError(f"{folder}: shards missing or left over: {', '.join(missing)}. Run: dvc repro -f tfrecord")
    return found


def write_shard(path: Path, records: Iterable[Record], append: bool = False) -> list[int]:
    """Writes records to a TFRecord file, a new one or after what it holds, and returns the length of each example."""
    lengths = []
    with path.open("ab" if append else "wb") as file:
        for content in map(_serialize, records):
            _write_frame(file, content)
            lengths.append(len(content))
    return lengths


def ends(lengths: np.ndarray) -> np.ndarray:
    """Returns where in a shard the frame of each example ends, in bytes, given the lengths of all examples."""
    found: np.ndarray = np.cumsum(lengths + FRAME_BYTES)
    return found


def read_shard(path: Path) -> Iterator[Record]:
    """Yields the records of a shard, each verified against its checksums.

    Raises:
      UserError: the file is damaged.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size_bytes:
            yield parse(path, _read_frame(path, file, size_bytes))


def read_at(file: BinaryIO, path: Path, offset: int, length: int) -> bytes:
    """Returns the serialized example at some byte of a shard, verified against its checksums.

    Raises:
      UserError: there is none of that length, or it is damaged.
    """
    file.seek(max(offset - HEADER_BYTES, 0))
    content = _read_frame(path, file, length)
    if len(content) != length:
        raise _damaged(path)
    return content


def _read_frame(path: Path, file: BinaryIO, most_bytes: int) -> bytes:
    (size,) = struct.unpack("<Q", _checked(path, file.read(HEADER_BYTES), 8))
    # A hostile length, its checksum right, would take all memory.
    return _checked(path, file.read(size + FOOTER_BYTES) if size <= most_bytes else b"", size)


def _masked_crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _write_frame(file: BinaryIO, content: bytes) -> None:
    length = struct.pack("<Q", len(content))
    file.write(length + _masked_crc(length) + content + _masked_crc(content))


def _checked(path: Path, frame: bytes, size: int) -> bytes:
    content, crc = frame[:size], frame[size:]
    if len(frame) != size + FOOTER_BYTES or _masked_crc(content) != crc:
        raise _damaged(path)
    return content


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged (checksum or length). Run: dvc repro -f tfrecord")


def _example_class() -> Any:
    """Builds tf.train.Example from its published field numbers, in a descriptor pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="decant/example.proto", package="decant", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name: str) -> Any:
        return file.message_type.add(name=name)

    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        message(name).field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, kind in enumerate(("Bytes", "Float", "Int64"), start=1):
        feature.field.add(
            name=f"{kind.lower()}_list",
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".decant.{kind}List",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".decant.Feature", label=field.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".decant.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    message("Example").field.add(
        name="features", number=1, type=field.TYPE_MESSAGE, type_name=".decant.Features", label=field.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("decant.Example"))


_Example = _example_class()


def _serialize(record: Record) -> bytes:
    example = _Example()
    feature = example.features.feature
    for name, value in (
        ("image/encoded", record.encoded),
        ("image/format", record.format.encode()),
        ("image/key", record.key.encode()),
        ("image/class/text", record.text.encode()),
        ("image/filename", record.filename.encode(errors="surrogateescape")),
    ):
        feature[name].bytes_list.value.append(value)
    for name, number in (
        ("image/height", record.height),
        ("image/width", record.width),
        ("image/class/label", record.label),
    ):
        feature[name].int64_list.value.append(number)
    return bytes(example.SerializeToString(deterministic=True))


def parse(path: Path, content: bytes) -> Record:
    """Returns the record that a tf.train.Example of a shard holds; UserError, which names `path`, for anything else."""
    try:
        return _parsed(content)
    except (DecodeError, ValueError) as error:
        raise UserError(f"{path} is not a shard of Decant: {error}. Run: dvc repro -f tfrecord") from error


def _parsed(content: bytes) -> Record:
    example = _Example()
    example.ParseFromString(content)
    feature = example.features.feature

    def one(name: str, kind: str) -> Any:
        values = getattr(feature[name], kind).value
        if len(values) != 1:
            raise ValueError(f"a record has {len(values)} values of {name}, not 1")
        return values[0]

    return Record(
        key=one("image/key", "bytes_list").decode(),
        encoded=one("image/encoded", "bytes_list"),
        format=one("image/format", "bytes_list").decode(),
        height=one("image/height", "int64_list"),
        width=one("image/width", "int64_list"),
        label=one("image/class/label", "int64_list"),
        text=one("image/class/text", "bytes_list").decode(),
        filename=one("image/filename", "bytes_list").decode(errors="surrogateescape"),
    )
