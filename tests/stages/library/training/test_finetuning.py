"""Fine-tuning: which layers are trained, which start afresh, and what is said of them."""

import functools

import keras
import numpy as np
import pandas as pd
import pytest
from section import section

from stages.library.common.console import UserError
from stages.library.networks import contract as backbones
from stages.library.training import finetuning
from stages.library.training import loop as training

BACKBONE = backbones.lookup("efficientnet_lite0").BACKBONE
IMAGES = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def built():
    training.prepare(0)
    return backbones.lookup(BACKBONE.name).build(32)


@pytest.fixture
def lite0(built):
    """The network with random weights, all of its layers trainable."""
    for layer in built.layers:
        layer.trainable = True
    return built


def below(model, boundary):
    """Returns the names of the layers up to one; none without a boundary."""
    layers = keras.Model(model.input, model.get_layer(boundary).output).layers if boundary else []
    return {layer.name for layer in layers}


@pytest.mark.parametrize(("blocks", "batch_norm"), [(0, True), (2, True), (2, False), (9, True), (None, False)])
def test_freezing_leaves_the_last_blocks(lite0, blocks, batch_norm):
    model = finetuning.build(lite0, 4, section("finetune"))
    finetuning.freeze(model, BACKBONE, section("finetune", unfrozen_blocks=blocks, train_batch_norm=batch_norm))
    names = list(BACKBONE.blocks)
    frozen = below(model, BACKBONE.blocks[names[-blocks - 1]] if blocks is not None and blocks < len(names) else None)
    trained = {layer.name for layer in model.layers if layer.trainable and layer.trainable_variables}
    kept = () if batch_norm else keras.layers.BatchNormalization
    assert trained == {layer.name for layer in model.layers if layer.variables and not isinstance(layer, kept)} - frozen
    assert finetuning.CLASSIFIER in trained
    assert ("stem_conv" in trained) == (not frozen)


@pytest.mark.slow
def test_a_frozen_batch_norm_keeps_its_statistics(lite0):
    model = finetuning.build(lite0, 4, section("finetune"))
    finetuning.freeze(model, BACKBONE, section("finetune", unfrozen_blocks=1, train_batch_norm=True))
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [[array.copy() for array in layer.get_weights()] for layer in layers]
    trainer = training.compile_trainer(model, 2, section("finetune", warmup_epochs=0.0, learning_rate=0.01))
    trainer.fit(IMAGES, np.eye(4)[[0, 1, 2, 3] * 2], epochs=1, verbose=0, shuffle=False)
    for layer, old in zip(layers, before, strict=True):
        assert all(map(np.array_equal, old, layer.get_weights())) == (not layer.trainable), layer.name
    assert any(layer.trainable for layer in layers)


@pytest.mark.parametrize(
    ("act", "key"),
    [
        (finetuning.freeze, "unfrozen_blocks"),
        (functools.partial(finetuning.restart, untrained=lambda: None), "reinitialized_blocks"),
    ],
)
def test_too_many_blocks_are_an_error_that_names_them(lite0, act, key):
    settings = section("finetune", **{"unfrozen_blocks": None, "head_epochs": 0} | {key: 10})
    with pytest.raises(UserError, match=rf"`finetune.{key}` must be at most 9.*stem.*Received: 10"):
        act(finetuning.build(lite0, 4, settings), BACKBONE, settings)


def values(model):
    return {variable.path: variable.numpy() for variable in model.variables if "seed_generator" not in variable.path}


@pytest.mark.slow
@pytest.mark.parametrize(("blocks", "boundary"), [(0, "bottleneck"), (2, "stage_6_block_4_add"), (9, None)])
def test_the_last_blocks_start_afresh_and_the_table_says_so(lite0, tmp_path, blocks, boundary):
    model = keras.models.clone_model(lite0)
    for variable in model.variables:
        variable.assign(variable.numpy() + 0.5)  # no initial value is left, not even of BatchNorm
    changes = {"unfrozen_blocks": None, "head_epochs": 0, "train_batch_norm": True}
    settings = section("finetune", **changes, reinitialized_blocks=blocks)
    network = finetuning.build(model, 4, settings)
    before = values(network)
    fresh = finetuning.restart(network, BACKBONE, settings, lambda: keras.models.clone_model(lite0))
    finetuning.freeze(network, BACKBONE, settings)
    counts = finetuning.write_variables(tmp_path / "variables.csv", network, fresh)
    table = pd.read_csv(tmp_path / "variables.csv")
    origins = dict(zip(table["variable"], table["origin"], strict=True))
    kept = below(model, boundary)
    assert origins == {path: "restored" if path.split("/")[0] in kept else "fresh" for path in before}
    after = values(network)
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {path for path in origins if origins[path] == "fresh" and not path.startswith("classifier")}
    trained = {variable.path for variable in network.trainable_variables}
    assert counts == {"trained": len(trained), "frozen": len(before) - len(trained)}
    assert trained == {path for path in before if "moving" not in path}


def test_dropout_stands_before_the_head_in_training_only(lite0):
    model = finetuning.build(lite0, 4, section("finetune", dropout=0.5))
    head, layer = model.get_layer(finetuning.CLASSIFIER), model.get_layer("dropout")
    head.set_weights([np.ones((1280, 4)), np.zeros(4)])
    features = np.asarray(lite0(IMAGES[:2])["bottleneck"])
    np.testing.assert_allclose(np.asarray(model(IMAGES[:2]))[:, 0], features.sum(axis=1), rtol=1e-4)
    # Of a batch of its own, so that BatchNorm stays out of it.
    assert set(np.unique(layer(np.ones((2, 1280), np.float32), training=True))) == {0.0, 2.0}
    assert head.input is layer.output
