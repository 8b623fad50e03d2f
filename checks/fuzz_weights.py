"""The readers of weights and of trained heads, as the fuzzer sees them."""

import json
import pickle
import struct
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from checks.fuzz_documents import SEPARATOR, of_files
from checks.fuzz_readers import ROOT, SOURCE, Reader, written
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

HEAD = "ridge"


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


def torch_seeds(folder: Path) -> list[bytes]:
    """A state dict of two tensors in torch's old format; made without torch, which is no requirement."""
    items = [b"X\x01\0\0\0w" + _tensor("1", (2, 3)), b"X\x01\0\0\0b" + _tensor("2", (2,))]
    state = b"\x80\x02ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u."
    system = {"protocol_version": torch_weights.PROTOCOL, "little_endian": True}
    before = (torch_weights.MAGIC_NUMBER, torch_weights.PROTOCOL, system)
    storages = [struct.pack("<q", count) + np.arange(count, dtype="<f4").tobytes() for count in (6, 2)]
    content = b"".join([*(pickle.dumps(value, 2) for value in before), state, pickle.dumps(["1", "2"], 2), *storages])
    found = torch_weights.read(written(folder / "seed.pth", content))
    assert {name: array.shape for name, array in found.items()} == {"w": (2, 3), "b": (2,)}, "the seed is valid"
    return [content]


def read_torch(content: bytes, folder: Path) -> None:
    """A weight file of torch's old format."""
    for array in torch_weights.read(written(folder / "weights.pth", content)).values():
        array.sum()  # every element can be read


def slim_seeds(folder: Path) -> list[bytes]:
    """A checkpoint of TensorFlow's second format, its index and data after each other; and one of the first format."""
    import tensorflow as tf

    names = ["conv/weights", "conv/biases", "global_step"]
    values = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(3, np.float32), np.int64(7)]
    tf.raw_ops.SaveV2(prefix=str(folder / "m"), tensor_names=names, shape_and_slices=[""] * 3, tensors=values)
    tf.raw_ops.Save(filename=str(folder / "old"), tensor_names=names, data=values)
    index = (folder / "m.index").read_bytes() + SEPARATOR + (folder / "m.data-00000-of-00001").read_bytes()
    return [index, (folder / "old").read_bytes()]


def read_slim(content: bytes, folder: Path) -> None:
    """A TF-slim checkpoint: the two files of the second format, or one of the first."""
    first, separator, second = content.partition(SEPARATOR)
    if separator:
        written(folder / "model.data-00000-of-00001", second)
        slim_checkpoint.read(written(folder / "model.index", first))
    else:
        slim_checkpoint.read(written(folder / "model.ckpt", content))


@cache
def _network() -> "keras.Model":
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])


def keras_seeds(folder: Path) -> list[bytes]:
    """An .h5 file of weights as keras.applications publishes them."""
    import h5py

    path = folder / "seed.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for name, shape in (("a", (4, 3)), ("b", (3, 2))):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel".encode(), f"{name}/bias".encode()]
            group.create_dataset(f"{name}/kernel", data=np.ones(shape, np.float32))
            group.create_dataset(f"{name}/bias", data=np.ones(shape[1], np.float32))
    keras_weights.load_h5(_network(), path, "tiny")
    return [path.read_bytes()]


def read_keras(content: bytes, folder: Path) -> None:
    """Published weights of Keras."""
    keras_weights.load_h5(_network(), written(folder / "weights.h5", content), "tiny")


def head_seeds(folder: Path) -> Sequence[bytes]:
    """The files of a head after each other: head.json, config.json and the weights."""
    shapes = (4, 3), (3, 2)
    layers = tuple(Dense(np.ones(shape, np.float32), np.zeros(shape[1], np.float32)) for shape in shapes)
    for count in (1, 2):
        trained = trained_head.TrainedHead(
            HEAD, DenseNetwork(layers[-count:]), "bottleneck", shapes[-count][0], SOURCE, {}, 1.5
        )
        (folder / str(count)).mkdir()
        trained.save(folder / str(count))
    files = "head.json", "config.json", WEIGHTS
    return [SEPARATOR.join((folder / str(count) / name).read_bytes() for name in files) for count in (1, 2)]


def read_head(content: bytes, folder: Path) -> None:
    """A trained head."""
    parts = content.split(SEPARATOR, 2)
    for name, part in zip(("head.json", "config.json", WEIGHTS), [*parts, b"", b""], strict=False):
        written(folder / name, part)
    trained = trained_head.load(folder)
    json.dumps(trained.best_params)


def network_seeds(folder: Path) -> list[bytes]:
    """The files of a small trained network after each other: config.json and the weights."""
    settings = replace(
        load_params(ROOT / "params.yaml")["scratch"], input_size_px=16, channels=(2,), kernels_px=(1,), hidden_units=()
    )
    scratch.build(2, settings).save_weights(folder / "best.weights.h5")
    config = {
        "kind": "scratch",
        "classes": ["cat", "dog"],
        "preprocessing": asdict(Preprocessing(settings.input_size_px)),
        "scratch": asdict(settings),
    }
    return [SEPARATOR.join((canonical_json(config).encode(), (folder / "best.weights.h5").read_bytes()))]


def read_network(content: bytes, folder: Path) -> None:
    """A network that was trained whole."""
    config, _, weights = content.partition(SEPARATOR)
    written(folder / "config.json", config)
    written(folder / "best.weights.h5", weights)
    network = trained_network.load(folder)
    assert all(isinstance(name, str) for name in network.classes), "classes are names"


def readers() -> dict[str, Reader]:
    """Returns the readers by name."""
    return {
        "torch": Reader(torch_seeds, read_torch),
        "slim": Reader(slim_seeds, read_slim),
        "keras-h5": Reader(keras_seeds, read_keras, alone=False),  # which reads in a process of its own
        "head": Reader(head_seeds, read_head, structural=of_files(change_json, change_json, None)),
        "network": Reader(network_seeds, read_network, structural=of_files(change_json, None), alone=False),
    }
