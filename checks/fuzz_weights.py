"""The readers of weights and of trained heads, as the fuzzer sees them."""

import json
import pickle
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from checks.fuzz_readers import ROOT, SEPARATOR, SOURCE, Reader, joined, of_files, written
from checks.fuzz_text import change_json
from stages.library.common.artifacts import canonical_json
from stages.library.heads import trained_head
from stages.library.heads.dense import WEIGHTS, Dense, DenseNetwork
from stages.library.networks import keras_weights, slim_checkpoint, torch_weights
from stages.library.records.preprocessing import Preprocessing
from stages.library.settings import load_params
from stages.library.training import scratch, trained_network

if TYPE_CHECKING:
    import keras

HEAD_FILES = "head.json", "config.json", WEIGHTS
NETWORK_FILES = "config.json", "best.weights.h5"


def _tensor(key: str, size: Sequence[int]) -> bytes:
    """Returns the opcodes of a tensor of float32, as torch 1.5 wrote them."""
    strides = [int(np.prod(size[axis + 1 :])) for axis in range(len(size))]

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values: Sequence[int]) -> bytes:
        return b"(" + b"".join(b"K" + bytes([value]) for value in values) + b"t"

    kind = text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"K" + bytes([int(np.prod(size))])
    view = b"(" + kind + b"NtQ" + b"K\0" + numbers(size) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"tR"


def _torch_seeds(folder: Path) -> list[bytes]:
    """A state dict of two tensors in torch's old format; made without torch, which is no requirement."""
    items = [b"X\x01\0\0\0w" + _tensor("1", (2, 3)), b"X\x01\0\0\0b" + _tensor("2", (2,))]
    state = b"\x80\x02ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u."
    system = {"protocol_version": torch_weights.PROTOCOL, "little_endian": True}
    before = (torch_weights.MAGIC_NUMBER, torch_weights.PROTOCOL, system)
    storages = [struct.pack("<q", count) + np.arange(count, dtype="<f4").tobytes() for count in (6, 2)]
    content = b"".join([*(pickle.dumps(value, 2) for value in before), state, pickle.dumps(["1", "2"], 2), *storages])
    found = torch_weights.read(written(content, folder, "seed.pth"))
    assert {name: array.shape for name, array in found.items()} == {"w": (2, 3), "b": (2,)}, "the seed is valid"
    return [content]


def _read_torch(content: bytes, folder: Path) -> None:
    for array in torch_weights.read(written(content, folder, "weights.pth")).values():
        array.sum()  # every element can be read


def _slim_seeds(folder: Path) -> list[bytes]:
    """A checkpoint of TensorFlow's second format, its index and data after each other; and one of the first format."""
    import tensorflow as tf

    names = ["conv/weights", "conv/biases", "global_step"]
    values = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(3, np.float32), np.int64(7)]
    tf.raw_ops.SaveV2(prefix=str(folder / "m"), tensor_names=names, shape_and_slices=[""] * 3, tensors=values)
    tf.raw_ops.Save(filename=str(folder / "old"), tensor_names=names, data=values)
    return [joined(folder, "m.index", "m.data-00000-of-00001"), joined(folder, "old")]


def _read_slim(content: bytes, folder: Path) -> None:
    """A TF-slim checkpoint: the two files of the second format, or one of the first."""
    names = ("model.index", "model.data-00000-of-00001") if SEPARATOR in content else ("model.ckpt",)
    slim_checkpoint.read(written(content, folder, *names))


@cache
def _network() -> "keras.Model":
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])


def _keras_seeds(folder: Path) -> list[bytes]:
    """An .h5 file of weights as keras.applications publishes them."""
    import h5py

    with h5py.File(folder / "seed.h5", "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for name, shape in (("a", (4, 3)), ("b", (3, 2))):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel".encode(), f"{name}/bias".encode()]
            group.create_dataset(f"{name}/kernel", data=np.ones(shape, np.float32))
            group.create_dataset(f"{name}/bias", data=np.ones(shape[1], np.float32))
    return [joined(folder, "seed.h5")]


def _read_keras(content: bytes, folder: Path) -> None:
    keras_weights.load_h5(_network(), written(content, folder, "weights.h5"), "tiny")


def _head_seeds(folder: Path) -> Iterator[bytes]:
    """The files of a head after each other: head.json, config.json and the weights."""
    layers = tuple(Dense(np.ones(shape, np.float32), np.zeros(shape[1], np.float32)) for shape in ((4, 3), (3, 2)))
    for some in (layers[1:], layers):
        width = len(some[0].kernel)
        trained_head.TrainedHead("ridge", DenseNetwork(some), "bottleneck", width, SOURCE, {}, 1.5).save(folder)
        yield joined(folder, *HEAD_FILES)


def _read_head(content: bytes, folder: Path) -> None:
    written(content, folder, *HEAD_FILES)
    json.dumps(trained_head.load(folder).best_params)


def _network_seeds(folder: Path) -> list[bytes]:
    """The files of a small trained network after each other: config.json and the weights."""
    small = {"input_size_px": 16, "channels": (2,), "kernels_px": (1,), "hidden_units": ()}
    settings = replace(load_params(ROOT / "params.yaml")["scratch"], **small)
    scratch.build(2, settings).save_weights(folder / "best.weights.h5")
    config = {
        "kind": "scratch",
        "classes": ["cat", "dog"],
        "preprocessing": asdict(Preprocessing(settings.input_size_px)),
        "scratch": asdict(settings),
    }
    (folder / "config.json").write_text(canonical_json(config), encoding="utf-8")
    return [joined(folder, *NETWORK_FILES)]


def _read_network(content: bytes, folder: Path) -> None:
    written(content, folder, *NETWORK_FILES)
    network = trained_network.load(folder)
    assert all(isinstance(name, str) for name in network.classes), "classes are names"


def readers() -> dict[str, Reader]:
    """Returns the readers by name."""
    return {
        "torch": Reader(_torch_seeds, _read_torch),
        "slim": Reader(_slim_seeds, _read_slim),
        "keras-h5": Reader(_keras_seeds, _read_keras, alone=False),  # which reads in a process of its own
        "head": Reader(_head_seeds, _read_head, structural=of_files(change_json, change_json, None)),
        "network": Reader(_network_seeds, _read_network, structural=of_files(change_json, None), alone=False),
    }
