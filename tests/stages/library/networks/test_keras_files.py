"""Keras' weight files, of each layout, into a small network: every variable once, with a top, without, or another."""

import io
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras_layouts import write_legacy_h5

from stages.library.common.console import UserError
from stages.library.networks import hdf5, keras_files

ARCHIVED = keras_files.ARCHIVED


def network(classes=3, top=True):
    """A network with what those of keras.applications have: sums, pooling, layers in layers, statistics, no weights."""
    pixels = keras.Input((8, 8, 3))
    x = layers.Normalization(name="own")(layers.Rescaling(1 / 255)(pixels))
    x = keras.Sequential([layers.Conv2D(4, 3), layers.LayerNormalization()], name="stem")(x)
    y = layers.BatchNormalization()(layers.SeparableConv2D(4, 3, padding="same")(x))
    x = layers.Dropout(0.5)(layers.Conv2D(5, 1)(layers.Add()([x, y])))
    bottleneck = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    if not top:
        return keras.Model(pixels, bottleneck)
    return keras.Model(pixels, {"bottleneck": bottleneck, "logits": layers.Dense(classes)(bottleneck)}, name="small")


def randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape).astype(variable.dtype))
    return model


def values(model):
    kept = [variable for variable in model.variables if "seed_generator" not in variable.path]
    return [variable.numpy() for variable in kept]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def archive(path, content, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr(ARCHIVED, content)
    return path


def write(path, model):
    """Writes a network in the layout that the path's name asks for."""
    if path.name == "legacy.h5":
        write_legacy_h5(path, model)
    elif path.suffix == ".keras" or path.name == "whole.h5":
        model.save(path)
    else:
        model.save_weights(path)
    return path


LAYOUTS = "legacy.h5", "whole.h5", "w.weights.h5", "w.keras"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_fills_every_variable(tmp_path, layout):
    theirs, ours = randomized(network()), randomized(network(), seed=1)
    assert keras_files.load(ours, write(tmp_path / layout, theirs)) is ours
    assert same(values(ours), values(theirs))
    pixels = np.random.default_rng(2).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    theirs.get_layer("own").finalize_state()  # for its variables were set one by one
    np.testing.assert_array_equal(ours(pixels)["logits"], theirs(pixels)["logits"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("classes", [0, 7])
def test_without_its_top_a_network_gives_features(tmp_path, layout, classes, capsys):
    theirs, ours = randomized(network(classes, top=bool(classes))), network()
    found = keras_files.load(ours, write(tmp_path / layout, theirs))
    assert set(found.output) == {"bottleneck"}
    assert same(values(found), values(theirs)[: len(values(found))])
    assert ("2 arrays are of another top than that of small" in capsys.readouterr().out) == bool(classes)


@pytest.mark.parametrize("layout", ["w.weights.h5", "w.keras"])
def test_a_network_inside_of_another_is_found_and_what_trained_it_passed_over(tmp_path, layout, capsys):
    inner = randomized(network(top=False))
    outer = keras.Sequential([layers.Conv2D(3, 1), inner, layers.Dense(9)])
    outer.compile("adam", "mse", metrics=["mae"])
    outer.train_on_batch(np.ones((1, 8, 8, 3)), np.ones((1, 9)))
    found = keras_files.load(network(), write(tmp_path / layout, outer))
    assert same(values(found), values(inner))
    assert "4 arrays are of another top" in capsys.readouterr().out  # the convolution before it and the layer behind it


def test_names_that_are_too_many_for_one_attribute_are_read(tmp_path):
    model = randomized(network())
    path = write(tmp_path / "legacy.h5", model)
    with h5py.File(path, "a") as file:
        names = list(file.attrs.pop("layer_names"))
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:4], names[4:]
    ours = network()
    assert keras_files.load(ours, path) is ours
    assert same(values(ours), values(model))


def rejected(path, reason):
    kinds = rf"{path.name} must be a \.h5, \.weights\.h5 or \.keras weight file of small, with its top or without: "
    with pytest.raises(UserError, match=kinds + reason) as error:
        keras_files.load(network(), path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_network_is_rejected(tmp_path, layout):
    reason = r"(it lacks own/mean|own/mean must have the shape \(3,\)\. Received: .*); [0-9]+ more do not fit"
    wider = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(9, 3), layers.Conv2D(4, 3)])
    rejected(write(tmp_path / layout, wider), reason)
    rejected(write(tmp_path / layout, keras.Sequential([keras.Input((8,)), layers.Dense(2)])), reason)


def test_of_an_archive_nothing_else_is_read(tmp_path):
    """Its configuration would run code when Keras loads the model."""
    model = randomized(network())
    model.save_weights(tmp_path / "w.weights.h5")
    path = archive(tmp_path / "w.keras", (tmp_path / "w.weights.h5").read_bytes(), compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", b"{ no JSON")
        file.writestr("../outside", b"never written")
    ours = network()
    assert keras_files.load(ours, path) is ours
    assert same(values(ours), values(model))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["w.keras", "w.weights.h5"]


def test_hostile_archives_are_rejected(tmp_path, monkeypatch):
    path = tmp_path / "w.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", b"{}")
    rejected(path, r".*There is no item named 'model\.weights\.h5' in the archive")
    rejected(archive(path, pickle.dumps(print)), ".*file signature not found")
    path.write_bytes(pickle.dumps(print))
    rejected(path, ".*file signature not found")
    monkeypatch.setattr(keras_files, "SMALL_BYTES", 1000)
    archive(path, bytes(1 << 20), compression=zipfile.ZIP_DEFLATED)
    rejected(path, r"model\.weights\.h5 says that it unpacks to 1048576 bytes, more than 3[0-9]{3}")
    whole = bytearray(path.read_bytes())
    for at in (whole.index(b"PK\x03\x04") + 22, whole.index(b"PK\x01\x02") + 24):  # a size that it does not have
        whole[at : at + 4] = (64).to_bytes(4, "little")
    path.write_bytes(whole)
    rejected(path, ".*(Bad CRC-32|file signature not found)")


def test_links_out_of_a_file_are_rejected(tmp_path):
    randomized(network()).save_weights(tmp_path / "other.weights.h5")
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "other.weights.h5"), "layers")
    (tmp_path / "w.weights.h5").write_bytes(content.getvalue())
    rejected(tmp_path / "w.weights.h5", ".*has a link, perhaps out of the file")
    rejected(archive(tmp_path / "w.keras", content.getvalue()), ".*has a link, perhaps out of the file")
    with pytest.raises(ValueError, match="has a link"):
        hdf5.check(tmp_path / "w.weights.h5")
