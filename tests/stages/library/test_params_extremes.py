"""The rules of numbers in params.yaml are as narrow as what the numbers are handed to: both ends of each are tried."""

import importlib
import math
import sys
from dataclasses import replace

import numpy as np
import pydantic
import pytest
from conftest import ROOT, change

from stages.library import settings
from stages.library.common.guarded_yaml import read_yaml
from stages.library.common.hashing import uniform
from stages.library.common.params import ParamsError
from stages.library.common.plugins import PLUGINS, plugin_names
from stages.library.extraction import ray_engine
from stages.library.heads import contract
from stages.library.records import manifest, preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.settings import Params
from tests import sharded

SMALL = {
    "softmax.epochs": 2, "dnn.epochs": 2, "dnn.hidden_units": [4], "xgboost.num_trees": 3,
    "finetune.epochs": 1, "finetune.warmup_epochs": 0.5, "finetune.head_epochs": 0, "scratch.input_size_px": 16,
    "scratch.channels": [2], "scratch.kernels_px": [3], "scratch.hidden_units": [4], "scratch.epochs": 1,
    "scratch.warmup_epochs": 0.5, "scratch.batch_size": 2, "finetune.batch_size": 2,
}  # fmt: skip
HEADS = plugin_names(PLUGINS["heads"])
PARAMS = read_yaml(ROOT / "params.yaml")
# What grows with these is time and memory alone.
COSTS = {"epochs", "num_trees", "head_epochs", "steps_per_epoch", "hidden_units", "channels", "kernels_px"}
# Of these the number goes to code of ours, or another key bounds it.
OURS = {
    "split": {"validation", "test"},
    "tfrecord": {"shards", "max_rejected"},
    "extract": {"batch_size", "calibration_images"},
    "cross_validation": {"folds", "holdout_fraction"},
    "finetune": {"unfrozen_blocks", "reinitialized_blocks", "warmup_epochs"},
    "scratch": {"warmup_epochs"},
    "fewshot": {"shots", "repeats", "folds"},
    "evaluate": {"images"},
    "combine": {"draws"},
    "audit": {"neighbours", "near_duplicate", "max_images", "images"},
    "map": {"max_images", "landmarks"},
}


def numbers(section):
    """Yields (key, schema) of the numeric keys of a section: numbers, null or a number, and lists of numbers."""
    modules = settings.SECTIONS | {head: f"stages.plugins.heads.{head}.head" for head in HEADS}
    kind = importlib.import_module(modules[section]).Params
    for key, schema in pydantic.TypeAdapter(kind).json_schema().get("properties", {}).items():
        for option in (schema, *schema.get("anyOf", ()), schema.get("items"), schema.get("additionalProperties")):
            if isinstance(option, dict) and option.get("type") in ("integer", "number"):
                yield key, option


def ends(schema):
    """Returns the smallest and the largest value that a rule allows."""
    step = (lambda value, to: value + np.sign(to)) if schema["type"] == "integer" else math.nextafter
    low = schema.get("minimum", step(schema.get("exclusiveMinimum", -sys.float_info.max), math.inf))
    high = schema.get("maximum", step(schema.get("exclusiveMaximum", math.inf), -math.inf))
    kind = int if schema["type"] == "integer" else float
    return kind(low), kind(high)


ALL = [
    (section, key, schema)
    for section in PARAMS
    if section not in (*settings.LISTS, settings.JOINED)
    for key, schema in numbers(section)
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The manifest of four images in one shard."""
    folder = tmp_path_factory.mktemp("shards")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), np.uint8)
    sharded.write(folder, {"train": [[sharded.record(image, index % 2) for index, image in enumerate(pixels)]]})
    return manifest.read(folder, ["train"])


def fit_head(name, params, seed):
    """Trains a head once in a fold and once on everything."""
    rng, labels = np.random.default_rng(0), np.arange(24) % 3
    features = (rng.random((24, 8)) + labels[:, None]).astype(np.float16)
    trainer = contract.lookup(name).Trainer(
        contract.Examples(features, labels, 3, np.arange(24) // 3 % 2, np.ones(24)), params, seed
    )
    best = {"penalty": params.penalties[0]} if hasattr(params, "penalties") else {}
    with np.errstate(all="ignore"):  # a head that diverges is an error of the stage
        (*_, step) = trainer.path(0)
        return step.logits, trainer.fit(best).logits(features)


def train_network(section, params, shards):
    """Makes two steps as the stage does."""
    import keras

    from stages.library.training import batches, finetuning, loop, scratch

    with loop.prepare(params.seed):
        side_px = params.input_size_px if section == "scratch" else 16
        if section == "scratch":
            model = scratch.build(2, params)
        else:
            pixels = keras.Input((side_px, side_px, 3))
            pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
            model = finetuning.build(keras.Model(pixels, {"bottleneck": pooled}), 2, params)
        size, steps = params.steps(len(shards.keys))
        trainer = loop.compile_trainer(model, steps, params)
        limits = batches.Augmentation(params.flip, params.shift, params.zoom, params.rotation_degrees)
        stream = batches.Stream(shards, Preprocessing(side_px), 2, size, limits, params.seed)
        trainer.fit(stream.batches(0, 2), epochs=1, steps_per_epoch=2, shuffle=False, verbose=0)


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("section", sorted({section for section, *_ in ALL} - {"tfrecord", "combine"}))
def test_both_ends_of_all_rules_are_taken(section, end, default_params, shards):
    changes = dict(SMALL)
    for name, key, schema in ALL:
        if name == section and key not in COSTS | OURS.get(section, set()):
            value = ends(schema)[end]
            changes[f"{section}.{key}"] = [value] if isinstance(PARAMS[section][key], list) else value
    params = Params(change(default_params, changes))
    own = params[section]
    if section in HEADS:
        fit_head(section, own, 0)
    elif section in ("finetune", "scratch"):
        train_network(section, own, shards)
    else:
        np.random.default_rng(own.seed)
        assert 0 <= uniform("key", "purpose", own.seed) < 1
    if section == "cross_validation":
        for head in HEADS:
            fit_head(head, params[head], own.seed)
    if section == "extract":
        preparation = Preprocessing(own.input_size_px, own.central_crop)
        for length in (1, 2, 100, 101):
            fitted = preprocessing.fit(np.full((length, 3, 3), 9, np.uint8), preparation)
            np.testing.assert_allclose(fitted, np.full((*fitted.shape[:2], 3), 9), atol=1e-4)
        pytest.importorskip("ray").remote(num_cpus=own.ray_cpus, num_gpus=own.ray_gpus)(ray_engine.Actor)


def test_every_integer_has_a_largest_value_and_every_number_a_bound():
    """What no rule ends, some library does, by a traceback."""
    assert len(ALL) > 70
    wrong = [
        f"{section}.{key}"
        for section, key, schema in ALL
        if not schema.keys() & {"maximum", "exclusiveMaximum"}
        and (schema["type"] == "integer" or not schema.keys() & {"minimum", "exclusiveMinimum"})
    ]
    assert wrong == []


@pytest.mark.parametrize("gpus", [1e-5, 1.5, 99.5])
def test_a_fraction_of_gpus_that_ray_does_not_take_is_rejected(default_params, gpus):
    with pytest.raises(ParamsError, match=rf"`extract\.ray_gpus`.*as Ray takes them. Received: {gpus}"):
        Params(change(default_params, {"extract.ray_gpus": gpus}))


def test_each_seed_starts_the_network_from_scratch_in_another_way(default_params):
    """Also the largest ones, whose numbers for Keras begin again at 0."""
    pytest.importorskip("keras")
    from stages.library.training import scratch

    base = Params(change(default_params, SMALL))["scratch"]
    kernels = [
        scratch.build(2, replace(base, seed=seed)).get_layer("convolution_1").get_weights()[0]
        for seed in (0, 0, 1, 2**32 - 2, 2**32 - 1)
    ]
    same = [[np.array_equal(first, second) for second in kernels] for first in kernels]
    assert np.array_equal(same, np.eye(5, dtype=bool) | np.pad(np.ones((2, 2), bool), ((0, 3), (0, 3))))
