"""Our own documents, the web page's form, weights and trained models: their readers, as the fuzzer sees them."""

import asyncio
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app import web_upload
from checks.fuzz_readers import PNG, ROOT, SEPARATOR, SOURCE, Reader, joined, of_files, written
from checks.fuzz_text import change_csv, change_json, change_yaml, hostile_json, hostile_yaml
from stages.library.common import artifacts
from stages.library.heads import trained_head
from stages.library.heads.dense import WEIGHTS, Dense, DenseNetwork
from stages.library.networks import keras_files, slim_checkpoint, torch_weights
from stages.library.preparation.normalisation import Values
from stages.library.preparation.splits import Split
from stages.library.preparation.summary import Summary
from stages.library.records import dataset_file
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import SPLITS, Record
from stages.library.report import fewshot_results, leaderboard, page, published
from stages.library.settings import load_params
from stages.library.training import scratch, trained_network

SHORT = "backbones: [efficientnet_lite0]\nridge:\n  features: bottleneck\n  penalties: [1.0]\n"  # read quickly
MODEL, BACKBONE = "ridge", "efficientnet_lite0"
FEW = f"{BACKBONE}/{leaderboard.FEWSHOT}/{MODEL}/5"
SHA256 = "a" * 64
# The opcodes of a tensor of float32, as torch 1.5 wrote them, with its name, key, count, size and strides.
TENSOR = (
    b"X\1\0\0\0%bctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0%bX\3\0\0\0cpu"
    b"K%cNtQK\0(%bt(%bt\x89ccollections\nOrderedDict\n)RtR"
)
HEAD_FILES = "head.json", "config.json", WEIGHTS
NETWORK_FILES = "config.json", "best.weights.h5"
FORM_TYPE = b"multipart/form-data; boundary=--x"
FORM = (
    b'----x\r\nContent-Disposition: form-data; name="model"\r\n\r\nridge\r\n'
    b'----x\r\nContent-Disposition: form-data; name="label"\r\n\r\n3\r\n'
    b'----x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + PNG + b"\r\n----x--\r\n"
)


def _dataset() -> bytes:
    summary = Summary()
    for number, split in enumerate((*SPLITS, *SPLITS)):
        text = ("cat", "dog")[number % 2]
        record = Record(f"{number:064x}", b"", "png", 9, 12, 0, text, f"{text}/1.png")
        summary.add(record, Values(0, 255, 99, 3), split)
    drawn = Split(summary.images.decided, summary.images.numbers)
    return artifacts.canonical_json(summary.content("folder", drawn)).encode()


def _read_dataset(content: bytes, folder: Path) -> None:
    about = dataset_file.read(written(content, folder, "dataset.json"))
    assert all(isinstance(name, str) for name in about["classes"]), "classes are names"
    page.facts(about)


@cache
def _report() -> dict[str, bytes]:
    """The files of a report: metrics, what was evaluated, few-shot results with their table, and an audit."""
    about = {"dataset": {"name": "digits", "sha256": SHA256}}
    head = {"model": MODEL, "kind": "head", "backbone": BACKBONE}
    low = {"label_issues": 1, "near_duplicate_pairs": 2, "near_duplicate_pairs_across_splits": 0}
    accuracies = {key: {"mean": 0.5, "std": 0.01} for key in ("top1_accuracy", "balanced_accuracy")}
    documents: dict[str, dict[str, Any]] = {
        f"evaluations/{BACKBONE}/{MODEL}/evaluation.json": about | head,
        f"evaluations/{FEW}/fewshot.json": about | {"features": "bottleneck", "repeats": 2, "classes_left_out": []},
        f"metrics/{FEW}.json": accuracies | {"num_examples": 100},
        f"evaluations/{BACKBONE}/{leaderboard.AUDIT}/audit.json": about | low | {"images": 5, "all_images": 9},
    }
    metrics = f"metrics/{BACKBONE}/{MODEL}.json"
    table = b"head,shots,repeat,background,top1_accuracy,balanced_accuracy\nridge,5,0,with,0.5,0.5\n"
    made = {name: artifacts.canonical_json(each).encode() for name, each in documents.items()}
    return {metrics: joined(ROOT, metrics), **made, f"evaluations/{FEW}/repeats.csv": table}


def _read_report(content: bytes, folder: Path) -> None:
    """The documents of a report, to the text of its tables."""
    written(content, folder, *_report())
    metrics, evaluations = folder / "metrics", folder / "evaluations"
    results, _ = leaderboard.collect(metrics, evaluations, SHA256, {f"{BACKBONE}/{MODEL}"}, "log_loss")
    fewshots, _ = fewshot_results.collect(metrics, evaluations, SHA256, [(BACKBONE, MODEL, 5)])
    leaderboard.collect_audits(evaluations, SHA256, [BACKBONE])
    rows = [leaderboard.cells(result, "log_loss") for result in results]
    leaderboard.as_markdown(leaderboard.headings("log_loss"), rows)
    leaderboard.as_csv(results)
    leaderboard.as_markdown(fewshot_results.HEADINGS, map(fewshot_results.cells, fewshots))
    fewshot_results.as_csv(fewshots)
    ours = [*leaderboard.measured(results, {MODEL: "bottleneck"}), *fewshot_results.measured(fewshots)]
    published.compare(published.load("cifar10"), ours)


def _read_upload(content: bytes, folder: Path) -> None:
    """A form of the web page as the server reads it, in two blocks."""
    half = len(content) // 2
    blocks = [content[:half], content[half:]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": blocks.pop(0), "more_body": bool(blocks)}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", FORM_TYPE)]}
    upload = asyncio.run(web_upload.read(Request(scope, receive), 1 << 16))
    assert upload.label is None or 0 <= upload.label < 10**6, "a number as long as ours"
    if upload.file:
        upload.file.close()


def _torch_seeds(folder: Path) -> list[bytes]:
    """A state dict of two tensors in torch's old format; made without torch, which is no requirement."""
    tensors = TENSOR % (b"w", b"1", 6, b"K\2K\3", b"K\3K\1") + TENSOR % (b"b", b"2", 2, b"K\2", b"K\1")
    state = b"\x80\2ccollections\nOrderedDict\n)R(" + tensors + b"u."
    system = {"protocol_version": torch_weights.PROTOCOL, "little_endian": True}
    before = (torch_weights.MAGIC_NUMBER, torch_weights.PROTOCOL, system)
    storages = [struct.pack("<q", count) + np.arange(count, dtype="<f4").tobytes() for count in (6, 2)]
    return [b"".join([*(pickle.dumps(value, 2) for value in before), state, pickle.dumps(["1", "2"], 2), *storages])]


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
    names = ("model.index", "model.data-00000-of-00001") if SEPARATOR in content else ("model.ckpt",)
    slim_checkpoint.read(written(content, folder, *names))


@cache
def _network() -> Any:
    import keras

    pixels = keras.Input((4,))
    bottleneck = keras.layers.Dense(3, name="a")(pixels)
    logits = keras.layers.Dense(2, name="b")(bottleneck)
    return keras.Model(pixels, {"bottleneck": bottleneck, "logits": logits}, name="tiny")


def _keras_seeds(folder: Path) -> list[bytes]:
    import h5py

    with h5py.File(folder / "seed.h5", "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for name, shape in (("a", (4, 3)), ("b", (3, 2))):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel".encode(), f"{name}/bias".encode()]
            group.create_dataset(f"{name}/kernel", data=np.ones(shape, np.float32))
            group.create_dataset(f"{name}/bias", data=np.ones(shape[1], np.float32))
    _network().save_weights(folder / "seed.weights.h5")
    with zipfile.ZipFile(folder / "seed.keras", "w") as archive:
        archive.write(folder / "seed.weights.h5", keras_files.ARCHIVED)
    return [joined(folder, name) for name in ("seed.h5", "seed.weights.h5", "seed.keras")]


def _head_seeds(folder: Path) -> Iterator[bytes]:
    layers = tuple(Dense(np.ones(shape, np.float32), np.zeros(shape[1], np.float32)) for shape in ((4, 3), (3, 2)))
    for some in (layers[1:], layers):
        width = len(some[0].kernel)
        trained_head.TrainedHead("ridge", DenseNetwork(some), "bottleneck", width, SOURCE, {}, 1.5).save(folder)
        yield joined(folder, *HEAD_FILES)


def _read_head(content: bytes, folder: Path) -> None:
    written(content, folder, *HEAD_FILES)
    json.dumps(trained_head.load(folder).best_params)


def _network_seeds(folder: Path) -> list[bytes]:
    small = {"input_size_px": 16, "channels": (2,), "kernels_px": (1,), "hidden_units": ()}
    settings = replace(load_params(ROOT / "params.yaml")["scratch"], **small)
    scratch.build(2, settings).save_weights(folder / "best.weights.h5")
    preprocessing = asdict(Preprocessing(settings.input_size_px))
    config = {"kind": "scratch", "classes": ["cat", "dog"], "preprocessing": preprocessing, "scratch": asdict(settings)}
    artifacts.write_json(folder / "config.json", config)
    return [joined(folder, *NETWORK_FILES)]


def _read_network(content: bytes, folder: Path) -> None:
    written(content, folder, *NETWORK_FILES)
    network = trained_network.load(folder)
    assert all(isinstance(name, str) for name in network.classes), "classes are names"


def readers() -> dict[str, Reader]:
    """Returns the readers by name."""
    params, dataset, report = joined(ROOT, "params.yaml"), _dataset(), SEPARATOR.join(_report().values())
    return {
        "params": Reader(
            lambda _: [params],
            lambda content, folder: load_params(written(content, folder, "params.yaml")),
            structural=change_yaml,
            hostile=partial(hostile_yaml, SHORT, "backbones", "penalties"),
        ),
        "dataset": Reader(
            lambda _: [dataset], _read_dataset, structural=change_json, hostile=partial(hostile_json, dataset)
        ),
        "report": Reader(lambda _: [report], _read_report, structural=of_files(*[change_json] * 5, change_csv)),
        "upload": Reader(lambda _: [FORM], _read_upload, (web_upload.TooLargeError, HTTPException)),
        "torch": Reader(_torch_seeds, _read_torch),
        "slim": Reader(_slim_seeds, _read_slim),
        "keras-h5": Reader(
            _keras_seeds,
            lambda content, folder: keras_files.load(_network(), written(content, folder, "weights")),
            alone=False,  # it is read in a process of its own
        ),
        "head": Reader(_head_seeds, _read_head, structural=of_files(change_json, change_json, None)),
        "network": Reader(_network_seeds, _read_network, structural=of_files(change_json, None), alone=False),
    }
