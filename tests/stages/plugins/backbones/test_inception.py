"""The Inception family: its published weights can't be had offline, so files of their layouts are written here."""

import functools
import itertools

import keras
import numpy as np
import pytest
import slim_networks
import tensorflow as tf
from safetensors.numpy import save_file

from stages.library.common.console import UserError
from stages.plugins.backbones import inception_resnet_v2, inception_v3, inception_v4

SIZE_PX = 139  # the last blocks are 3x3: the least at which every kernel reaches a neighbour
PIXELS = np.random.default_rng(1).uniform(0, 255, (2, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
MODULES = [inception_v3, inception_v4, pytest.param(inception_resnet_v2, marks=pytest.mark.slow)]
every_module = pytest.mark.parametrize("module", MODULES, ids=["v3", "v4", "resnet_v2"])


@functools.cache
def made(module):
    """Makes a backbone and TF-slim's network once, whatever the order of the tests."""
    slim = slim_networks.Network(module.BACKBONE.name)
    slim(PIXELS)
    return module.build(SIZE_PX), slim


@pytest.fixture(scope="module", autouse=True)
def _memory():
    yield
    made.cache_clear()


def assert_loads_the_same_network(module, path):
    """Compares every block, the pooled features and the logits with slim's network."""
    model, slim = made(module)
    for variable in model.variables:
        variable.assign(tf.fill(variable.shape, np.nan))  # one that is not loaded shows
    module.load_weights(model, path)
    layers = {block: model.get_layer(layer).output for block, layer in module.BACKBONE.blocks.items()} | model.output
    features, logits = slim(PIXELS)
    expected = [*slim.ends.values(), features, logits]
    for block, ours, theirs in zip(layers, keras.Model(model.input, layers)(PIXELS).values(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max(), rtol=0, err_msg=block)


@pytest.mark.slow
@every_module
def test_a_slim_checkpoint_gives_slims_network(module, tmp_path):
    _, slim = made(module)
    names = "AuxLogits/Conv2d_2a_5x5/weights", "Conv2d_1a_3x3/weights/Adam"
    unused = ["global_step", *(f"{slim.scope}/{name}" for name in names)]
    variables = slim.variables | dict.fromkeys(unused, np.full(2, np.nan, np.float32))
    tf.raw_ops.Save(filename=str(tmp_path / "x.ckpt"), tensor_names=[*variables], data=[*variables.values()])
    assert_loads_the_same_network(module, tmp_path / "x.ckpt")


@pytest.mark.slow
@every_module
def test_smaller_inputs_than_the_least_do_not_fit(module):
    side = module.BACKBONE.min_input_px
    for kernel_px, stride in ((3, 2), (3, 1), (3, 2), (3, 1), (3, 2), (3, 2), (3, 2)):  # all that is not SAME
        side = (side - kernel_px) // stride + 1
    assert side == 1
    with pytest.raises(ValueError, match=r"size|negative|zero"):
        module.build(module.BACKBONE.min_input_px - 1)


# timm's modules in the order of slim's convolutions, and after "branch", by block.
TIMM_REDUCTION, TIMM_A = "0.0 0.1 1.0 1.1 1.2 1.3", "0 1.0 1.1 2.0 2.1 2.2 3.1"
TIMM_B, TIMM_C = "0 1.0 1.1 1.2 2.0 2.1 2.2 2.3 2.4 3.1", "0 1_0 1_1a 1_1b 2_0 2_1 2_2 2_3a 2_3b 3.1"
TIMM_BLOCKS = ["conv", TIMM_REDUCTION, "conv", *[TIMM_A] * 4, "0 1.0 1.1 1.2", *[TIMM_B] * 7, TIMM_REDUCTION]
TIMM_BLOCKS += [TIMM_C] * 3
TIMM_VARIABLES = {"beta": "bias", "gamma": "weight", "moving_mean": "running_mean", "moving_variance": "running_var"}


@pytest.fixture
def timm_state():
    """timm's names and layouts for the variables of slim's network, with scales that slim does not have."""
    rng, state, variables = np.random.default_rng(3), {}, made(inception_v4)[1].variables
    modules = [f"features.{number}" for number in range(3)]
    for number, branches in enumerate(TIMM_BLOCKS, start=3):
        names = (branch if branch == "conv" else f"branch{branch}" for branch in branches.split())
        modules += [f"features.{number}.{name}" for name in names]
    scopes = [name.removesuffix("/weights") for name in variables if name.endswith("weights") and "Logits" not in name]
    for scope, module in zip(scopes, modules, strict=True):
        weights = variables[f"{scope}/weights"]
        state[f"{module}.conv.weight"] = np.ascontiguousarray(weights.transpose(3, 2, 0, 1))
        variables[f"{scope}/BatchNorm/gamma"] = rng.uniform(0.5, 1.5, weights.shape[-1]).astype(np.float32)
        for ours, theirs in TIMM_VARIABLES.items():
            state[f"{module}.bn.{theirs}"] = variables[f"{scope}/BatchNorm/{ours}"]
        state[f"{module}.bn.num_batches_tracked"] = np.array(7)
    state["last_linear.weight"] = np.ascontiguousarray(variables["InceptionV4/Logits/Logits/weights"][:, 1:].T)
    state["last_linear.bias"] = variables["InceptionV4/Logits/Logits/biases"][1:]
    yield state
    for name in [name for name in variables if name.endswith("gamma")]:
        del variables[name]


@pytest.mark.slow
def test_timms_file_gives_the_same_network_with_its_scales(timm_state, tmp_path):
    trained = [value.size for name, value in timm_state.items() if not name.endswith(("_var", "_mean", "_tracked"))]
    assert sum(trained) == 42_679_816  # as timm counts them
    save_file(timm_state, tmp_path / "model.safetensors")
    assert_loads_the_same_network(inception_v4, tmp_path / "model.safetensors")
    del timm_state["features.3.conv.conv.weight"]
    save_file(timm_state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks .* features\.3\.conv\.conv\.weight$"):
        inception_v4.load_weights(made(inception_v4)[0], tmp_path / "model.safetensors")


@every_module
def test_other_files_are_rejected(module, tmp_path):
    (tmp_path / "garbage").mkdir()
    for folder, suffix in itertools.product(("garbage", "absent"), ("h5", "bin", "safetensors")):
        path = tmp_path / folder / f"{folder}.{suffix}"
        if folder == "garbage":
            path.write_bytes(b"no weights at all")
        with pytest.raises(UserError, match=rf"{path.name} must be"):
            module.load_weights(made(module)[0], path)
