"""The folder of a trained network, damaged or made by a stranger: used, or rejected in one line."""

import json
from dataclasses import asdict

import h5py
import hostile_documents
import numpy as np
import pytest
from section import section

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.networks import hdf5
from stages.library.records.preprocessing import Preprocessing
from stages.library.training import scratch, trained_network

CLASSES = ("ant", "bee", "cat")
SIDE_PX = 16
SETTINGS = section("scratch", input_size_px=SIDE_PX, channels=[2], kernels_px=[3], hidden_units=[4])
CONFIG = {"kind": "scratch", "classes": CLASSES, "scratch": asdict(SETTINGS)}
CONFIG |= {"preprocessing": asdict(Preprocessing(SIDE_PX))}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights of a network from scratch."""
    path = tmp_path_factory.mktemp("network") / trained_network.WEIGHTS
    scratch.build(len(CLASSES), SETTINGS).save_weights(path)
    return path.read_bytes()


@pytest.fixture
def copy(weights, tmp_path):
    """The network, as train-scratch leaves it."""
    write(tmp_path, weights)
    return tmp_path


def write(folder, content, **changes):
    """Writes weights and a config.json with their hash and with changes."""
    (folder / trained_network.WEIGHTS).write_bytes(content)
    config = CONFIG | {"sha256": artifacts.sha256_bytes(bytes(content))} | changes
    artifacts.write_json(folder / "config.json", {key: value for key, value in config.items() if value})


def rejected(folder):
    """Returns the message; None where the network was read and predicts."""
    try:
        logits = trained_network.load(folder).logits(np.zeros((1, SIDE_PX, SIDE_PX, 3), np.float32))
    except UserError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert str(folder) in message
        return message
    assert logits.shape == (1, len(CLASSES))
    return None


def flipped(weights, seed, flips, size=None):
    """Returns the weights with some bytes changed."""
    rng = np.random.default_rng(seed)
    content = bytearray(weights)
    for position in rng.integers(0, size or len(content), flips):
        content[position] ^= int(rng.integers(1, 256))
    return content


def test_the_network_is_read(copy, weights):
    assert rejected(copy) is None
    write(copy, weights, sha256=None)  # as it was written before there was one
    assert rejected(copy) is None


def test_every_variant_of_config_json_is_used_or_rejected_in_one_line(copy):
    variants = hostile_documents.variants(json.loads((copy / "config.json").read_text()))
    found = []
    for content in variants:
        (copy / "config.json").write_bytes(content)
        try:
            trained_network.describe(copy)
        except UserError as error:
            found.append(str(error))
    assert all(len(message.splitlines()) == 1 and str(copy) in message for message in found)
    assert len(found) > 0.8 * len(variants) > 300


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"kind": "imagenet"}, "'finetuned', 'scratch'"),
        ({"kind": "finetuned"}, "`finetuned.backbone` is missing"),
        ({"classes": ["ant", "bee"]}, "can't be read"),
        ({"classes": ["ant", "ant", "bee"]}, "must not name a class twice"),
        ({"preprocessing": {"input_size_px": 32, "central_crop": 1.0, "resize": "bilinear"}}, "must be"),
        ({"preprocessing": {"input_size_px": 10**9, "central_crop": 1.0, "resize": "bilinear"}}, "less than or equal"),
    ],
)
def test_a_config_of_another_network_is_rejected(tmp_path, weights, changes, rule):
    write(tmp_path, weights, **changes)
    assert rule in rejected(tmp_path)


def test_a_network_larger_than_its_file_is_rejected_before_it_is_built(tmp_path, weights, monkeypatch):
    write(tmp_path, weights, scratch=asdict(SETTINGS) | {"channels": [65536, 65536], "kernels_px": [31, 31]})
    monkeypatch.setattr(scratch, "build", lambda *arguments: pytest.fail("it would take all memory"))
    assert "too small for the network" in rejected(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_of_the_weights_are_rejected(copy, weights, seed):
    (copy / trained_network.WEIGHTS).write_bytes(flipped(weights, seed, 1))
    assert "does not have the sha256 in config.json" in rejected(copy)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_hostile_weights_with_their_own_hash_are_used_or_rejected(tmp_path, weights, seed):
    write(tmp_path, flipped(weights, seed, 3, 4096))
    rejected(tmp_path)


def test_missing_and_cut_files_are_rejected(copy, weights):
    for damaged in (weights[: len(weights) // 2], b"", b"text"):
        write(copy, damaged)
        assert rejected(copy)
    for name, message in ((trained_network.WEIGHTS, "can't be read"), ("config.json", "can't be read: No such file")):
        (copy / name).unlink()
        assert message in rejected(copy)


def test_weights_that_stand_elsewhere_are_rejected(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("x", data=np.ones(3))
    for link in (h5py.ExternalLink("other.h5", "x"), h5py.SoftLink("/y")):
        with h5py.File(tmp_path / "linked.h5", "w") as file:
            file.create_dataset("y", data=np.ones(3))
            file["x"] = link
        with pytest.raises(ValueError, match="has a link"):
            hdf5.check(tmp_path / "linked.h5")
    with h5py.File(tmp_path / "stored.h5", "w") as file:
        file.create_dataset("x", (3,), "f4", external=[(str(tmp_path / "other.h5"), 0, 12)])
    with pytest.raises(ValueError, match="stands in another file"):
        hdf5.check(tmp_path / "stored.h5")
