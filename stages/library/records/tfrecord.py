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
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from stages.library.common.console import UserError
from stages.library.common.params import CONFIG
from stages.library.records.dataset_file import SPLITS as SPLITS

HEADER_BYTES, FOOTER_BYTES = 12, 4  # before and after each example
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES

# Where a record's fields stand in the example.
FEATURES = {
    "key": ("image/key", "bytes_list"),
    "encoded": ("image/encoded", "bytes_list"),
    "format": ("image/format", "bytes_list"),
    "height": ("image/height", "int64_list"),
    "width": ("image/width", "int64_list"),
    "label": ("image/class/label", "int64_list"),
    "text": ("image/class/text", "bytes_list"),
    "filename": ("image/filename", "bytes_list"),
}
# tf.train.Example by its published field numbers; a field without a label is optional.
EXAMPLE_PROTO = """
name: "decant/example.proto" package: "decant" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 type: TYPE_BYTES label: LABEL_REPEATED } }
message_type { name: "FloatList" field { name: "value" number: 1 type: TYPE_FLOAT label: LABEL_REPEATED } }
message_type { name: "Int64List" field { name: "value" number: 1 type: TYPE_INT64 label: LABEL_REPEATED } }
message_type {
  name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type: TYPE_MESSAGE type_name: ".decant.BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 type: TYPE_MESSAGE type_name: ".decant.FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type: TYPE_MESSAGE type_name: ".decant.Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE
          type_name: ".decant.Features.FeatureEntry" }
  nested_type {
    name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".decant.Feature" }
  }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".decant.Features" }
}
"""


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
    """Builds tf.train.Example, in a descriptor pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(EXAMPLE_PROTO, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("decant.Example"))


_Example = _example_class()


def _serialize(record: Record) -> bytes:
    example = _Example()
    for name, (feature, kind) in FEATURES.items():
        value = getattr(record, name)
        if isinstance(value, str):
            value = value.encode(errors=_errors(name))
        getattr(example.features.feature[feature], kind).value.append(value)
    return bytes(example.SerializeToString(deterministic=True))


def _errors(name: str) -> str:
    """How bytes that are no UTF-8 become text: only a file's name may have them."""
    return "surrogateescape" if name == "filename" else "strict"


def parse(path: Path, content: bytes) -> Record:
    """Returns the record that a tf.train.Example of a shard holds; UserError, which names `path`, for anything else."""
    try:
        return _parsed(content)
    except (DecodeError, ValueError) as error:
        raise UserError(f"{path} is not a shard of Decant: {error}. Run: dvc repro -f tfrecord") from error


def _parsed(content: bytes) -> Record:
    example = _Example()
    example.ParseFromString(content)
    found = {}
    for name, (feature, kind) in FEATURES.items():
        values = getattr(example.features.feature[feature], kind).value
        if len(values) != 1:
            raise ValueError(f"a record has {len(values)} values of {feature}, not 1")
        as_is = kind == "int64_list" or name == "encoded"
        found[name] = values[0] if as_is else values[0].decode(errors=_errors(name))
    return Record(**found)
