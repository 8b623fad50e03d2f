"""The Inception family: its published weights can't be had offline, so files of their layouts are written here."""

import dataclasses
import functools
import tarfile
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import slim_networks
import tensorflow as tf
from safetensors.numpy import save_file

from stages.library.common.console import UserError
from stages.plugins.backbones import inception_resnet_v2, inception_v3, inception_v4

SIZE_PX = 139  # the last blocks are 3x3: the least at which every kernel reaches a neighbour
V3_BLOCKS = [*(f"Mixed_5{x}" for x in "bcd"), *(f"Mixed_6{x}" for x in "abcde"), *(f"Mixed_7{x}" for x in "abc")]
V3, V4 = "inception_v3", "inception_v4"
RESNET_V2 = pytest.param("inception_resnet_v2", marks=pytest.mark.slow)
MODULES = {module.BACKBONE.name: module for module in (inception_v3, inception_v4, inception_resnet_v2)}


@dataclasses.dataclass
class Case:
    """A backbone, and TF-slim's network with the outputs of all blocks for some pixels."""

    module: object
    model: keras.Model
    slim: slim_networks.Network
    pixels: np.ndarray
    features: np.ndarray
    logits: np.ndarray


def spoil(model):
    """Sets every variable to NaN, so that one that is not loaded shows."""
    for variable in model.variables:
        variable.assign(tf.fill(variable.shape, np.nan))


@functools.cache
def made(name):
    """Makes a case once, whatever the order of the tests."""
    slim = slim_networks.Network(slim_networks.SCOPES[name], getattr(slim_networks, name))
    pixels = np.random.default_rng(1).uniform(0, 255, (2, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    features, logits = slim(pixels)
    module = MODULES[name]
    return Case(module, module.build(SIZE_PX), slim, pixels, features.numpy(), logits.numpy())


@pytest.fixture(scope="module", autouse=True)
def _memory():
    yield
    made.cache_clear()


@pytest.fixture(params=[V3, V4, RESNET_V2])
def case(request):
    return made(request.param)


def only(*names):
    """Leaves out the other backbones."""
    return pytest.mark.parametrize("case", names, indirect=True)


def slim_block(name, block):
    """slim's name of what BACKBONE.blocks calls a block."""
    if name == "inception_v3" and block != "stem":
        return V3_BLOCKS[int(block.removeprefix("mixed_"))]
    repeats = {"block35": "Repeat", "block17": "Repeat_1", "block8": "Repeat_2"}
    if block == "block8_10":
        return "Block8"
    if (kind := block.partition("_")[0]) in repeats:
        return f"{repeats[kind]}/{block}"
    return {"stem": "stem", "conv_7b": "Conv2d_7b_1x1"}.get(block, block.capitalize())


def assert_close(ours, expected, name):
    np.testing.assert_allclose(ours, expected, atol=2e-4 * np.abs(expected).max(), rtol=0, err_msg=name)


def assert_same_network(case, ends=None):
    """Compares every block, the pooled features and the logits with slim's network."""
    backbone, ends = case.module.BACKBONE, ends or case.slim.ends
    layers = [case.model.get_layer(layer).output for layer in backbone.blocks.values()]
    *blocks, features, logits = keras.Model(case.model.input, [*layers, *case.model.output.values()])(case.pixels)
    assert len(blocks) == len(ends)
    for block, ours in zip(backbone.blocks, blocks, strict=True):
        assert_close(ours, ends[slim_block(backbone.name, block)], block)
    assert_close(features, case.features, "bottleneck")
    assert_close(logits, case.logits, "logits")


# TF-slim


def write_checkpoint(folder, name, variables):
    """Writes a bare file of the first format, but Inception-v4's in the second and InceptionV3's in an archive."""
    names, values = list(variables), list(variables.values())
    if name == "inception_v4":
        prefix = folder / "inception_v4.ckpt"
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
        return folder / "inception_v4.ckpt.index"
    file = folder / f"{name}.ckpt"
    tf.raw_ops.Save(filename=str(file), tensor_names=names, data=values)
    if name == "inception_v3":
        with tarfile.open(folder / "inception_v3.tar.gz", "w:gz", compresslevel=0) as archive:
            archive.add(file, "inception_v3.ckpt")
        file.unlink()
        return folder / "inception_v3.tar.gz"
    return file


@pytest.mark.slow
def test_a_slim_checkpoint_gives_slims_network(case):
    unused = np.full(2, np.nan, np.float32)
    scope = case.slim.scope
    extra = {"global_step": unused, f"{scope}/AuxLogits/Conv2d_2a_5x5/weights": unused}
    extra |= {f"{scope}/Conv2d_1a_3x3/weights/RMSProp": unused}
    spoil(case.model)
    with tempfile.TemporaryDirectory() as folder:
        path = write_checkpoint(Path(folder), case.module.BACKBONE.name, case.slim.variables | extra)
        case.module.load_weights(case.model, path)
    assert_same_network(case)


@only(V4)
def test_pixels_are_scaled_to_one(case):
    scaling = keras.Model(case.model.input, case.model.get_layer("scaling").output)
    pixels = np.broadcast_to(np.array([0, 127.5, 255], np.float32), (1, SIZE_PX, SIZE_PX, 3))
    np.testing.assert_allclose(scaling(pixels)[0, 0, 0], [-1, 0, 1], atol=1e-6)


def test_slim_has_the_same_parameters_and_those_of_the_background(case):
    background = case.module.BACKBONE.feature_width + 1
    assert sum(value.size for value in case.slim.variables.values()) == case.model.count_params() + background
    if case.module is inception_v4:  # timm's count has a scale for each of the statistics' channels, and no statistics
        statistics = case.model.count_params() - inception_v4.BACKBONE.num_parameters
        assert inception_v4.BACKBONE.num_parameters + statistics // 2 == 42_679_816


@pytest.mark.slow
@pytest.mark.parametrize("name", [V3, V4, RESNET_V2])
def test_smaller_inputs_than_the_least_do_not_fit(name):
    backbone = MODULES[name].BACKBONE
    side = backbone.min_input_px
    for kernel_px, stride in ((3, 2), (3, 1), (3, 2), (3, 1), (3, 2), (3, 2), (3, 2)):  # all that is not SAME
        side = (side - kernel_px) // stride + 1
    assert side == 1
    with pytest.raises(ValueError, match=r"size|negative|zero"):
        MODULES[name].build(backbone.min_input_px - 1)


# timm: names and order as its module has them, block by block.

TIMM_BLOCKS = ["Mixed_3a", "Mixed_4a", "Mixed_5a", *(f"Mixed_5{letter}" for letter in "bcde")]
TIMM_BLOCKS += [*(f"Mixed_6{letter}" for letter in "abcdefgh"), *(f"Mixed_7{letter}" for letter in "abcd")]
TIMM_STEM = {"Conv2d_1a_3x3": "features.0", "Conv2d_2a_3x3": "features.1", "Conv2d_2b_3x3": "features.2"}
TIMM_A = "0/0a_1x1=branch0 1/0a_1x1=branch1.0 1/0b_3x3=branch1.1 2/0a_1x1=branch2.0 2/0b_3x3=branch2.1"
TIMM_A += " 2/0c_3x3=branch2.2 3/0b_1x1=branch3.1"
TIMM_B = "0/0a_1x1=branch0 1/0a_1x1=branch1.0 1/0b_1x7=branch1.1 1/0c_7x1=branch1.2 2/0a_1x1=branch2.0"
TIMM_B += " 2/0b_7x1=branch2.1 2/0c_1x7=branch2.2 2/0d_7x1=branch2.3 2/0e_1x7=branch2.4 3/0b_1x1=branch3.1"
TIMM_C = "0/0a_1x1=branch0 1/0a_1x1=branch1_0 1/0b_1x3=branch1_1a 1/0c_3x1=branch1_1b 2/0a_1x1=branch2_0"
TIMM_C += " 2/0b_3x1=branch2_1 2/0c_1x3=branch2_2 2/0d_1x3=branch2_3a 2/0e_3x1=branch2_3b 3/0b_1x1=branch3.1"
TIMM_MODULES = {
    "Mixed_3a": "1/0a_3x3=conv",
    "Mixed_4a": "0/0a_1x1=branch0.0 0/1a_3x3=branch0.1 1/0a_1x1=branch1.0 1/0b_1x7=branch1.1 1/0c_7x1=branch1.2"
    " 1/1a_3x3=branch1.3",
    "Mixed_5a": "0/1a_3x3=conv",
    **{f"Mixed_5{letter}": TIMM_A for letter in "bcde"},
    "Mixed_6a": "0/1a_3x3=branch0 1/0a_1x1=branch1.0 1/0b_3x3=branch1.1 1/1a_3x3=branch1.2",
    **{f"Mixed_6{letter}": TIMM_B for letter in "bcdefgh"},
    "Mixed_7a": "0/0a_1x1=branch0.0 0/1a_3x3=branch0.1 1/0a_1x1=branch1.0 1/0b_1x7=branch1.1 1/0c_7x1=branch1.2"
    " 1/1a_3x3=branch1.3",
    **{f"Mixed_7{letter}": TIMM_C for letter in "bcd"},
}


def timm_modules():
    """slim's scope of each convolution -> timm's module."""
    modules = dict(TIMM_STEM)
    for number, block in enumerate(TIMM_BLOCKS, start=3):
        for pair in TIMM_MODULES[block].split():
            scope, module = pair.split("=")
            modules[f"{block}/Branch_{scope[:2]}Conv2d_{scope[2:]}"] = f"features.{number}.{module}"
    return modules


@pytest.fixture
def timm_state(case):
    """timm's names and layouts for the variables of slim's network, with scales that slim does not have."""
    rng, modules, state = np.random.default_rng(3), timm_modules(), {}
    published = {"beta": "bias", "gamma": "weight", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for scope, module in modules.items():
        name = f"InceptionV4/{scope}"
        weights = case.slim.variables[f"{name}/weights"]
        state[f"{module}.conv.weight"] = np.ascontiguousarray(weights.transpose(3, 2, 0, 1))
        case.slim.variables[f"{name}/BatchNorm/gamma"] = rng.uniform(0.5, 1.5, weights.shape[-1]).astype(np.float32)
        for ours, theirs in published.items():
            state[f"{module}.bn.{theirs}"] = case.slim.variables[f"{name}/BatchNorm/{ours}"]
        state[f"{module}.bn.num_batches_tracked"] = np.array(7)
    state["last_linear.weight"] = np.ascontiguousarray(
        case.slim.variables["InceptionV4/Logits/Logits/weights"][:, 1:].T
    )
    state["last_linear.bias"] = case.slim.variables["InceptionV4/Logits/Logits/biases"][1:]
    yield state
    for name in [name for name in case.slim.variables if name.endswith("gamma")]:
        del case.slim.variables[name]


@only(V4)
def test_timms_file_gives_the_same_network_with_its_scales(case, timm_state):
    trained = [value.size for name, value in timm_state.items() if not name.endswith(("_var", "_mean", "_tracked"))]
    assert sum(trained) == 42_679_816
    features, logits = case.slim(case.pixels)
    expected = dataclasses.replace(case, features=features.numpy(), logits=logits.numpy())
    spoil(case.model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(timm_state, path)
        inception_v4.load_weights(case.model, path)
    assert_same_network(expected)


@only(V4)
def test_timms_file_that_lacks_a_kernel_is_rejected(case, timm_state, monkeypatch):
    del timm_state["features.3.conv.conv.weight"]
    monkeypatch.setattr("safetensors.numpy.load_file", lambda path: timm_state)
    with pytest.raises(UserError, match=r"lacks .* features\.3\.conv\.conv\.weight$"):
        inception_v4.load_weights(case.model, Path("x.safetensors"))


@pytest.mark.parametrize(
    "name", ["garbage.h5", "garbage.bin", "garbage.safetensors", "absent.h5", "absent.safetensors"]
)
def test_other_files_are_rejected(case, tmp_path, name):
    if name.startswith("garbage"):
        (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(UserError, match=rf"{name} must be"):
        case.module.load_weights(case.model, tmp_path / name)
