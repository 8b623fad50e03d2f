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
import pydantic
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from stages.library.common.console import UserError
from stages.library.common.params import CONFIG
from stages.library.records.dataset_file import SPLITS as SPLITS


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


def write_shard(path: Path, records: Iterable[Record], append: bool = False) -> int:
    """Writes records to a TFRecord file, a new one or after what it holds, and returns how many."""
    count = 0
    with path.open("ab" if append else "wb") as file:
        for record in records:
            _write_frame(file, _serialize(record))
            count += 1
    return count


def read_shard(path: Path) -> Iterator[Record]:
    """Yields the records of a shard, each verified against its checksums.

    Raises:
      UserError: the file is damaged.
    """
    for _, serialized in frames(path):
        yield parse(path, serialized)


def frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields where each serialized tf.train.Example of a shard begins, in bytes, and itself, verified.

    Raises:
      UserError: the file is damaged.
    """
    available = path.stat().st_size
    with path.open("rb") as file:
        while header := file.read(12):
            (size,) = struct.unpack("<Q", _checked(path, header, 8))
            # A hostile length, its checksum right, would take all memory.
            yield file.tell(), _checked(path, file.read(size + 4) if size < available else b"", size)


def count(paths: Iterable[Path]) -> int:
    """Returns the number of records in some shards, from the frames' lengths alone.

    Raises:
      UserError: a file is cut short.
    """
    total = 0
    for path in paths:
        end, size = 0, path.stat().st_size
        with path.open("rb") as file:
            while end < size:
                header = file.read(12)
                if len(header) < 12:
                    break
                end += 12 + struct.unpack("<Q4x", header)[0] + 4
                file.seek(min(end, size))
                total += 1
        if end != size:
            raise UserError(f"{path} is cut short. Run: dvc repro -f tfrecord")
    return total


def _masked_crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _write_frame(file: BinaryIO, content: bytes) -> None:
    length = struct.pack("<Q", len(content))
    file.write(length + _masked_crc(length) + content + _masked_crc(content))


def _checked(path: Path, frame: bytes, size: int) -> bytes:
    content, crc = frame[:size], frame[size:]
    if len(frame) != size + 4 or _masked_crc(content) != crc:
        raise UserError(f"{path} is damaged (checksum or length). Run: dvc repro -f tfrecord")
    return content


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
