"""Networks of KerasHub: features against PyTorch's transformers, and what is no file of theirs."""

import dataclasses
import functools
import json
import struct

import ml_dtypes
import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import load_file, save_file

from checks import hub_files
from checks.hub_files import small
from stages.library.common.console import UserError
from stages.library.extraction import runtime as runtimes
from stages.library.networks.hub import FAMILIES
from stages.library.settings import load_params
from stages.library.training import finetuning
from stages.plugins.backbones.families.hub import MEMBERS

pytest.importorskip("keras_hub", reason="requirements-hub.txt is not installed")

import keras_hub

from stages.library.networks import hub_networks, hub_weights

# Kind, side, blocks, some features of the first image: `python -m checks.compare_hub --expected`, by transformers.
EXPECTED: list[tuple[str, int, int, list[float]]] = [
    ("dinov2", 70, 1, [-1.54700, 0.63411, -1.38903, 0.75379]),
    ("dinov2", 70, 2, [-0.22708, -1.07807, 0.63411, 0.93083]),
    ("dinov2", 42, 1, [-1.52395, 1.90620, -1.19263, 2.02740]),
    ("dinov2", 42, 2, [-0.07130, -1.12084, 1.90620, 0.95467]),
    ("dinov2_with_registers", 70, 1, [-0.27625, -0.44308, -0.57041, -0.20053]),
    ("dinov2_with_registers", 70, 2, [0.20932, 0.33950, -0.44308, -0.33039]),
    ("dinov2_with_registers", 42, 1, [-0.21862, -0.36057, 0.15206, -0.34715]),
    ("dinov2_with_registers", 42, 2, [0.21882, 0.57360, -0.36057, -0.40826]),
    ("dinov3_vit", 64, 1, [-0.25214, -1.35512, -0.68891, -0.63499]),
    ("dinov3_vit", 64, 2, [-0.31452, -0.06928, -1.35512, 0.23034]),
    ("dinov3_vit", 96, 1, [0.14887, -1.93667, -0.31531, -0.98143]),
    ("dinov3_vit", 96, 2, [-0.62121, -0.46268, -1.93667, 0.05718]),
    ("siglip_vision_model", 64, 1, [0.90058, -0.21661, -0.83427, 1.33519]),
    ("siglip_vision_model", 96, 1, [1.17213, 0.75901, -0.78435, 1.36522]),
    ("vit", 64, 1, [-0.28756, -2.64146, -0.54321, -1.01378]),
    ("vit", 64, 2, [-0.36661, -0.73194, -2.64146, 1.55756]),
    ("vit", 96, 1, [0.06193, -2.40178, -0.08834, -0.65025]),
    ("vit", 96, 2, [-0.07600, -0.69536, -2.40178, 1.13728]),
    ("swin", 56, 1, [0.50374, 0.23297, 0.47512, 0.14618]),
    ("swin", 112, 1, [0.43927, 0.23821, 0.47814, 0.03504]),
]


def pixels(side):
    return np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype(np.float32)


def features(preset, path, side):
    model = preset.build(side)
    preset.load_weights(model, path)
    return np.asarray(model(pixels(side), training=False)["bottleneck"])


@functools.cache
def built(kind):
    return small(kind).build(small(kind).BACKBONE.min_input_px)


def rejected(preset, path, reason):
    model = built(preset.config["model_type"])
    with pytest.raises(UserError, match=reason) as error:
        preset.load_weights(model, path)
    assert len(str(error.value).splitlines()) == 1
    assert str(path.parent) in str(error.value)


@pytest.mark.parametrize(("kind", "side", "feature_blocks", "expected"), EXPECTED)
def test_features_are_those_of_transformers(kind, side, feature_blocks, expected, tmp_path):
    preset = small(kind).with_feature_blocks(feature_blocks)
    found = features(preset, hub_files.write(tmp_path, preset.config), side)
    assert found.shape == (2, preset.BACKBONE.feature_width)
    np.testing.assert_allclose(found[0, :: found.shape[1] // 4][:4], expected, atol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_keras_hubs_own_files_give_the_same(kind, tmp_path):
    preset = small(kind)
    side = preset.config["image_size"]
    path = hub_files.write(tmp_path, preset.config)
    network = hub_networks.published(preset.config)
    model = preset.build(side)
    preset.load_weights(model, path)
    hub_weights.load(network, hub_networks.KINDS[kind].converter, preset.config, path, "small")
    folder = tmp_path / "preset"
    if kind == "siglip_vision_model":  # published with its text encoder
        text = keras_hub.models.SigLIPTextEncoder(50, 32, 32, 1, 4, 64, projection_dim=32, max_sequence_length=4)
        network = keras_hub.models.SigLIPBackbone(network, text)
    network.save_to_preset(folder)
    assert {"config.json", "model.weights.h5"} <= {file.name for file in folder.iterdir()}
    np.testing.assert_array_equal(
        features(preset, folder / "model.weights.h5", side), model(pixels(side))["bottleneck"]
    )


def edited(path, **changes):
    """Writes the arrays again, some of them others or None: left out."""
    arrays = load_file(path) | changes
    save_file({name: value for name, value in arrays.items() if value is not None}, path)


def test_arrays_that_do_not_fit(tmp_path):
    preset = small("vit")
    path = hub_files.write(tmp_path, preset.config)
    name = "vit.encoder.layer.1.output.dense.bias"
    begun = r"^\S+ must be Hugging Face's model\.safetensors or KerasHub's model\.weights\.h5 of small: "
    edited(path, **{name: np.zeros(31, np.float32)})
    rejected(preset, path, rf"{begun}{name} must have the shape \(32,\) in Keras\. Received: \(31,\)$")
    edited(path, **{name: np.zeros(32, np.int32)})
    rejected(preset, path, rf"{begun}{name} must be one of F32, .*\. Received: I32$")
    edited(path, **{name: None})
    rejected(preset, path, rf"{begun}it lacks {name}$")
    edited(path, **{name: np.zeros(32, np.float32), "vit.encoder.layer.3.output.dense.bias": np.zeros(32, np.float32)})
    rejected(preset, path, rf"{begun}it has weights that the network lacks: encoder\.layer\.3\.output\.dense\.bias$")
    edited(path, **{"vit.encoder.layer.3.output.dense.bias": None, name[4:]: np.zeros(32, np.float32)})
    rejected(preset, path, rf"{begun}it has an array twice, with and without the network's name$")


def test_half_precision_is_read(tmp_path):
    preset = small("vit")
    path = hub_files.write(tmp_path, preset.config)
    whole = features(preset, path, 64)
    arrays = load_file(path)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        save_file({name: value.astype(dtype) for name, value in arrays.items()}, path)
        assert 0 < np.abs(features(preset, path, 64) - whole).max() < 0.1


def test_files_that_are_damaged(tmp_path):
    preset = small("dinov2")
    path = hub_files.write(tmp_path, preset.config)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], struct.pack("<Q", 1 << 62) + whole[8:], whole + b"\0"):
        path.write_bytes(damaged)
        rejected(preset, path, r"model\.safetensors must be Hugging Face's")
    path.with_name("model.weights.h5").write_bytes(whole)
    rejected(preset, path.with_name("model.weights.h5"), r"small: .*file signature not found")


def test_a_config_of_another_network(tmp_path):
    preset = small("dinov2")
    path = hub_files.write(tmp_path, preset.config)
    beside = tmp_path / "config.json"
    config = json.loads(beside.read_text())
    for key, value in {"num_attention_heads": 8, "hidden_act": "relu", "model_type": "vit"}.items():
        beside.write_text(json.dumps(config | {key: value}))
        rejected(preset, path, rf"config\.json: `{key}` must be .* for small\. Received: {value!r}\. Give the whole")
    del config["patch_size"]  # what is the same in all of them need not be there
    beside.write_text(json.dumps(config))
    assert np.isfinite(features(preset, path, 56)).all()
    for content in ("[]", "{", '{"class_name": 1, "config": []}'):
        beside.write_text(content)
        rejected(preset, path, r"config\.json")
    beside.unlink()
    assert np.isfinite(features(preset, path, 56)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MEMBERS])
def test_a_backbone_is_what_it_says(name):
    """As test_backbones.py has it for those that need no other package."""
    preset = MEMBERS[name]
    model = preset.build(preset.BACKBONE.input_size_px)
    assert model.output["bottleneck"].shape == (None, preset.BACKBONE.feature_width)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == preset.BACKBONE.num_parameters
    assert np.abs(model.get_layer("scaling")(np.array([[preset.BACKBONE.mean_rgb]], np.float32))).max() < 1e-6
    order = [layer.name for layer in model.layers]
    positions = [order.index(layer) for layer in preset.BACKBONE.blocks.values()]
    assert positions == sorted(positions)
    assert len(set(order)) == len(order)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_last_block_alone_can_be_trained(kind):
    preset = small(kind)
    backbone = preset.build(preset.config["image_size"])
    settings = load_params(ROOT / "params.yaml")["finetune"]
    model = finetuning.build(backbone, 3, settings)
    finetuning.freeze(model, preset.BACKBONE, dataclasses.replace(settings, unfrozen_blocks=1))
    trained = {layer.name for layer in model.layers if layer.trainable_variables}
    last = hub_networks.KINDS[kind].parts(hub_networks.published(preset.config))
    others = {part.name for part in (last.norm, last.pool) if part is not None}
    assert trained == {last.blocks[-1].name, finetuning.CLASSIFIER, *others}


def test_what_was_learnt_is_saved(tmp_path):
    """KerasHub's own layer of DINOv2 may leave out positions that were trained."""
    preset = small("dinov2")
    model, other = preset.build(56), preset.build(56)
    positions = model.get_layer("embedding").positions
    positions.assign(positions - 0.5)
    model.save_weights(tmp_path / "best.weights.h5")
    other.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_array_equal(other(pixels(56))["bottleneck"], model(pixels(56))["bottleneck"])


@pytest.mark.parametrize("antialias", [False, True])
def test_positions_are_interpolated_by_weights_that_add_up(antialias):
    for source, target in [(5, 5), (5, 9), (9, 4), (37, 16), (1, 3), (2, 7)]:
        matrix = hub_weights.cubic(source, target, antialias)
        assert matrix.shape == (target, source)
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(hub_weights.cubic(5, 5, antialias), np.eye(5), atol=1e-12)
    places = np.random.default_rng(0).random((26, 3), np.float32)
    assert np.array_equal(hub_weights.interpolated(places, 26, antialias)[0], places)
    larger = hub_weights.interpolated(places, 50, antialias)
    assert larger.shape == (1, 50, 3)
    np.testing.assert_array_equal(larger[0, 0], places[0])  # of the class token


@pytest.mark.slow
def test_openvino_says_what_it_lacks():
    pytest.importorskip("openvino", reason="requirements-openvino.txt is not installed")
    runtime, plan = runtimes.lookup("openvino"), runtimes.Plan(56, 1, False, "float32")
    message = r"^`extract\.runtime` must be tensorflow for small: OpenVINO lacks XlaDynamicUpdateSlice$"
    with pytest.raises(UserError, match=message):
        runtime.compile(small("swin").build(56), plan, [])
