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
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from stages.library.common.console import UserError
from stages.library.common.params import CONFIG
from stages.library.records.dataset_file import SPLITS as SPLITS

HEADER_BYTES, FOOTER_BYTES = 12, 4  # before and after each example
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES

# Where a record's fields stand in the example: the feature and the kind of its list.
FEATURES = {name: (f"image/{name}", "bytes_list") for name in ("key", "encoded", "format", "filename")}
FEATURES |= {name: (f"image/{name}", "int64_list") for name in ("height", "width")}
FEATURES |= {"label": ("image/class/label", "int64_list"), "text": ("image/class/text", "bytes_list")}
# What stands in bytes as it is, or as UTF-8; only a file's name may have bytes that are none.
ERRORS = {"key": "strict", "format": "strict", "text": "strict", "filename": "surrogateescape"}
# What is used of tf.train.Example, by its published field numbers; a field without a label is optional.
EXAMPLE_PROTO = """
name: "decant/example.proto" package: "decant" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 type: TYPE_BYTES label: LABEL_REPEATED } }
message_type { name: "Int64List" field { name: "value" number: 1 type: TYPE_INT64 label: LABEL_REPEATED } }
message_type {
  name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type_name: ".decant.BytesList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type_name: ".decant.Int64List" oneof_index: 0 }
}
message_type {
  name: "Features" field { name: "feature" number: 1 label: LABEL_REPEATED type_name: ".decant.Features.FeatureEntry" }
  nested_type {
    name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING } field { name: "value" number: 2 type_name: ".decant.Feature" }
  }
}
message_type { name: "Example" field { name: "features" number: 1 type_name: ".decant.Features" } }
"""
_pool = descriptor_pool.DescriptorPool()  # of its own, for TensorFlow's may have the same names
_pool.Add(text_format.Parse(EXAMPLE_PROTO, descriptor_pb2.FileDescriptorProto()))
_Example: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("decant.Example"))


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
    """One example: an encoded image and its class."""

    key: str  # hex sha256 of the source bytes: a file's content, or an array's shape and pixels
    encoded: bytes  # JPEG or PNG, 8 bits a channel, upright
    format: str  # "jpeg" or "png"
    height: int  # in pixels
    width: int
    label: int  # the rank of `text` among the sorted classes
    text: str  # the class
    filename: str  # where the data set had it, with forward slashes


def shard_paths(folder: Path, split: str, shards: int) -> list[Path]:
    """Returns `folder/split-00000-of-00008.tfrecord` and so on."""
    return [folder / f"{split}-{index:05d}-of-{shards:05d}.tfrecord" for index in range(shards)]


def find_shards(folder: Path, split: str) -> list[Path]:
    """Returns the shards of a split, in order; UserError: there are none, or one is missing."""
    found = sorted(folder.glob(f"{split}-*-of-*.tfrecord"))
    if not found:
        raise UserError(f"{folder} holds no shard of split {split!r}. Run the tfrecord stage: dvc repro tfrecord")
    expected = shard_paths(folder, split, int(found[0].stem.rsplit("-", 1)[1]))
    if found != expected:
        missing = sorted({path.name for path in expected} ^ {path.name for path in found})
        raise UserError(f"{folder}: shards missing or left over: {', '.join(missing)}. Run: dvc repro -f tfrecord")
    return found


def write_shard(path: Path, records: Iterable[Record]) -> list[int]:
    """Writes records to a new TFRecord file, and returns the length of each example."""
    lengths = []
    with path.open("wb") as file:
        for content in map(_serialize, records):
            file.write(framed(content))
            lengths.append(len(content))
    return lengths


def read_shard(path: Path) -> Iterator[Record]:
    """Yields the records of a shard, each verified against its checksums; UserError: the file is damaged."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size_bytes:
            yield parse(path, _read_frame(path, file, range(size_bytes)))


def read_at(file: BinaryIO, path: Path, offset: int, length: int) -> bytes:
    """Returns the serialized example at some byte of a shard, verified; UserError: none of that length is there."""
    file.seek(max(offset - HEADER_BYTES, 0))
    return _read_frame(path, file, range(length, length + 1))


def framed(content: bytes) -> bytes:
    """Returns an example as it stands in a shard."""
    return _with_crc(struct.pack("<Q", len(content))) + _with_crc(content)


def _with_crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return content + struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _read_frame(path: Path, file: BinaryIO, sizes: range) -> bytes:
    header = file.read(HEADER_BYTES)
    if header == _with_crc(header[:-FOOTER_BYTES]):
        (size,) = struct.unpack("<Q", header[:-FOOTER_BYTES])
        if size in sizes:  # a hostile length, its checksum right, would take all memory
            frame = file.read(size + FOOTER_BYTES)
            if frame == _with_crc(frame[:size]):
                return frame[:size]
    raise UserError(f"{path} is damaged (checksum or length). Run: dvc repro -f tfrecord")


def _serialize(record: Record) -> bytes:
    example = _Example()
    for name, (feature, kind) in FEATURES.items():
        value = getattr(record, name)
        value = value.encode(errors=ERRORS[name]) if name in ERRORS else value
        getattr(example.features.feature[feature], kind).value.append(value)
    return bytes(example.SerializeToString(deterministic=True))


def parse(path: Path, content: bytes) -> Record:
    """Returns the record that a tf.train.Example of a shard holds; UserError, which names `path`, for anything else."""
    found = {}
    try:
        example = _Example.FromString(content)
        for name, (feature, kind) in FEATURES.items():
            values = getattr(example.features.feature[feature], kind).value
            if len(values) != 1:
                raise ValueError(f"a record has {len(values)} values of {feature}, not 1")
            found[name] = values[0].decode(errors=ERRORS[name]) if name in ERRORS else values[0]
    except (DecodeError, ValueError) as error:
        raise UserError(f"{path} is not a shard of Decant: {error}. Run: dvc repro -f tfrecord") from error
    return Record(**found)
