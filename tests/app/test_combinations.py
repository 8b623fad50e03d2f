"""app.combinations: each network of a combination runs once, in prediction, in its export and where it is heated."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import heat_map
from app.combinations import CombinedModel
from app.exporting import graph
from app.models import Model
from app.parts import Part
from stages.library.combination.averaging import Average
from stages.library.combination.combined import Combined, Member
from stages.library.combination.stacking import Stacked
from stages.library.features.source import Joined, Source
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.trained_head import TrainedHead
from stages.library.preparation import normalisation
from stages.library.scoring import probabilities
from tests.app.test_parts import CLASSES, PREPARED, network
from tests.exported import run_in_process

RNG = np.random.default_rng(0)


def dense(inputs):
    return DenseNetwork((Dense(RNG.normal(size=(inputs, 3)).astype("f4"), RNG.normal(size=3).astype("f4")),))


def head(name, source, kind, dim):
    return TrainedHead(name, dense(dim), kind, dim, source, {}, 1.5)


def finetuned():
    """A small network that is not symmetric in left and right."""
    pixels = keras.Input((6, 6, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 128, offset=-1)(pixels))
    return keras.Model(pixels, {"logits": keras.layers.Dense(3)(x)})


@pytest.fixture(scope="module", params=["average", "stacking"])
def model(request):
    """Heads on the first network, on the second one's logits and on the features of both, and a fine-tuned network."""
    first, second = (Source("none", prepared, False, "", "", CLASSES) for prepared in PREPARED)
    pretrained = (Part(network(8, 5, 1), PREPARED[0]), Part(network(6, 4, 2), PREPARED[1]))
    parts = *pretrained, Part(finetuned(), PREPARED[1], flip=True)
    both = Joined((first, second), (1.0, 2.0))
    trained = head("a", first, "bottleneck", 5), head("b", second, "logits", 2), head("c", both, "bottleneck", 9)
    places = (0,), (1,), (0, 1), (2,)
    members = tuple(
        Model(f"none/{each.name if each else 'finetuned'}", CLASSES, tuple(parts[place] for place in own), each)
        for each, own in zip((*trained, None), places, strict=True)
    )
    weights = [0.1, 0.4, 0.2, 0.3] if request.param == "average" else [None] * 4
    rule = Average(np.array(weights, "f4")) if request.param == "average" else Stacked(dense(12))
    names: list[Member] = [
        {"name": each.name, "sha256": "0" * 64, "weight": weight} for each, weight in zip(members, weights, strict=True)
    ]
    combined = Combined(request.param, False, tuple(names), CLASSES, rule, 0.7)
    name = f"combined/{request.param}"
    return CombinedModel(name, CLASSES, parts, combined=combined, members=members, places=places)


@pytest.fixture(scope="module")
def images():
    return [RNG.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((9, 7), (40, 20), (8, 8))]


def expected(model, images):
    """By each member alone."""
    encoded = [normalisation.normalise(image).encoded for image in images]
    found = np.stack([member.predict(encoded) for member in model.members])
    return probabilities.softmax(model.combined.logits(found))


def test_it_answers_as_its_members_do_and_runs_each_network_once(model, images, monkeypatch):
    encoded = [normalisation.normalise(image).encoded for image in images]
    wanted = expected(model, images)
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(model.compiled().predict(encoded), wanted, atol=1e-3)
    ran = []
    outputs = Part.outputs

    def run(part, batch):
        ran.append(part)
        return outputs(part, batch)

    monkeypatch.setattr(Part, "outputs", run)
    np.testing.assert_allclose(model.predict(encoded), wanted, atol=1e-3)
    assert ran == list(model.parts)


def test_one_graph_holds_all_heads(model, images):
    built = graph.build(model)
    for image, wanted in zip(images, expected(model, images), strict=True):
        found = built.of_pixels(portable=True)(tf.constant(image[None]))["probabilities"][0]
        np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["saved_model", "onnx", "tflite"])
def test_one_file_holds_all_heads(model, images, tmp_path, form):
    run = run_in_process(form, graph.build(model), tmp_path)
    for image, wanted in zip(images, expected(model, images), strict=True):
        np.testing.assert_allclose(run(image[None])[0], wanted, atol=1e-3)


def test_the_heat_map_is_that_of_the_heaviest_head_that_has_one(model, monkeypatch):
    """Trees have none; networks that the head does not read have maps of zeros."""
    said = {"none/a": SimpleNamespace(of="a"), "none/b": "decision trees answer in steps", "none/c": "no maps"}
    said["none/finetuned"] = "no maps either"
    monkeypatch.setattr(heat_map, "_explainer", lambda member: said[member.name])
    assert heat_map.explainer(model) in said.values(), "none is a GradCam: the reason of the heaviest"
    cam = heat_map.GradCam((), None)
    monkeypatch.setattr(heat_map.GradCam, "__call__", lambda self, inputs, label: [np.full((2, 2), label)])
    for name in said:
        said[name] = cam if name == "none/b" else "no maps"
    found = heat_map.explainer(model)
    assert isinstance(found, heat_map.OfHead)
    maps = found([np.zeros((8, 8, 3)), np.zeros((6, 6, 3)), np.zeros((6, 6, 3))], 3)
    assert [values.tolist() for values in maps] == [[[0]], [[3, 3], [3, 3]], [[0]]]
