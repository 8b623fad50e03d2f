"""Features of several last blocks, against the network's own layers."""

import re

import keras
import numpy as np
import pytest
from conftest import ROOT

from stages.library.common.console import UserError
from stages.library.networks import block_features, contract, weights
from stages.library.settings import load_params
from stages.library.training import finetuning

NAME, SIDE = "efficientnet_lite0", 64


def pixels():
    return np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)


def test_features_are_means_of_the_maps_and_the_pooled_features():
    network, about, _ = weights.build_with_weights(NAME, SIDE, {}, feature_blocks=3)
    one, single, _ = weights.build_with_weights(NAME, SIDE, {})
    ends = [one.get_layer(about.blocks[block]).output for block in ("stage_6", "stage_7")]
    *maps, outputs = keras.Model(one.input, [*ends, one.output])(pixels())
    expected = np.hstack([*(np.asarray(each).mean((1, 2)) for each in maps), outputs["bottleneck"]])
    found = network(pixels())
    np.testing.assert_allclose(found["bottleneck"], expected, atol=1e-5)
    np.testing.assert_allclose(found["logits"], outputs["logits"], atol=1e-4)
    assert about.feature_width == expected.shape[1] == 192 + 320 + 1280
    assert (about.num_parameters, about.num_top_parameters) == (single.num_parameters, single.num_top_parameters)
    assert [tensor.shape[-1] for tensor in block_features.bypasses(network)] == [192, 320]
    assert block_features.bypasses(one) == []
    # What compares images is the last block's part, in the cache and in a fine-tuned network.
    width = contract.last_block_width(NAME, 3)
    assert width == 1280
    np.testing.assert_allclose(found["bottleneck"][:, -width:], outputs["bottleneck"], atol=1e-5)
    params = load_params(ROOT / "params.yaml")["finetune"]
    for given, name in ((network, "several"), (one, "one")):
        tuned = finetuning.build(keras.models.clone_model(given), 2, params)
        assert finetuning.features(tuned).shape[-1] == 1280, name


def test_one_block_is_the_network_as_it_is():
    assert contract.lookup(NAME, 1) is contract.lookup(NAME)
    assert contract.last_block_width(NAME, 1) is None


def test_a_network_has_so_many_blocks():
    blocks = "stem, stage_1, stage_2, stage_3, stage_4, stage_5, stage_6, stage_7, head"
    message = (
        f"`extract.feature_blocks` must be at most 9 for {NAME}, which has no more blocks ({blocks}). Received: 10"
    )
    assert contract.lookup(NAME, 9).build(SIDE)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        contract.lookup(NAME, 10).build(SIDE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_tiny", "inception_v3", "inception_v4", "mobilenet_v2", "vgg16", "xception"])
def test_all_blocks_of_every_kind_of_network(name):
    most = len(contract.lookup(name).BACKBONE.blocks)
    wide = contract.lookup(name, most)
    network = wide.build(wide.BACKBONE.min_input_px)
    assert network.output["bottleneck"].shape == (None, wide.BACKBONE.feature_width)
    assert len(block_features.bypasses(network)) == most - 1


@pytest.mark.slow
def test_files_with_and_without_a_top(tmp_path):
    """Of Keras, whose variables are taken in the order of the layers."""
    plain = contract.lookup("mobilenet_v2")
    network = plain.build(SIDE)
    for name, outputs in (("whole", network.output), ("notop", {"bottleneck": network.output["bottleneck"]})):
        path = tmp_path / f"{name}.weights.h5"
        keras.Model(network.input, outputs).save_weights(path)
        wide = contract.lookup("mobilenet_v2", 4)
        found = wide.load_weights(wide.build(SIDE), path)
        assert set(found.output) == set(outputs)
        for variable, other in zip(network.weights, found.weights, strict=False):
            np.testing.assert_array_equal(variable, other)
        pooled = network(pixels())["bottleneck"]
        np.testing.assert_allclose(found(pixels())["bottleneck"][:, -pooled.shape[1] :], pooled, atol=1e-5)
