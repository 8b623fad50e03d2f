"""app.predict: the command line, what it prints, what it does with bad images, and ImageNet's names."""

import csv
import io
import json
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import skimage.data
import trained
from PIL import Image

from app import predict
from app.imagenet import imagenet_classes
from app.inputs import Input
from app.models import Model, Project
from app.parts import Part
from stages.library.common import console
from stages.library.records.preprocessing import Preprocessing
from stages.library.scoring.operating import Operating

BACKBONE = ("--backbone", "efficientnet_lite0")


@pytest.fixture
def run(run_app, write_params):
    """Runs the program, in a project or with changed parameters."""

    def run(*arguments, project=None, **changes):
        place = ("--project", project) if project else ("--params", write_params(**changes))
        return run_app("predict", *place, *arguments)

    return run


@pytest.fixture(scope="module")
def chelsea(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "chelsea.png"
    Image.fromarray(skimage.data.chelsea()).save(path)
    return path


@pytest.fixture
def junk(tmp_path):
    path = tmp_path / "junk.jpg"
    path.write_text("no image")
    return path


def test_many_images_get_what_few_get(run, chelsea, monkeypatch):
    def named():
        (image,) = json.loads(run("--json", chelsea, *BACKBONE, "--size", 64)[1])
        return {item["class"]: item["probability"] for item in image["classes"]}

    few = named()
    monkeypatch.setattr(predict, "FEW", 0)  # so that the network is compiled
    with mock.patch.object(Model, "compiled", autospec=True, side_effect=Model.compiled) as compiled:
        many = named()
    compiled.assert_called_once()
    assert many == pytest.approx(few, abs=1e-5)
    assert list(many) == list(few)


def test_names_are_in_the_order_of_the_logits():
    import imagenet_classes as published

    wordnet_ids = [published.imagenet1k_to_21k(label) for label in range(1000)]
    assert wordnet_ids == sorted(wordnet_ids)
    names = imagenet_classes()
    known = {0: "tench", 207: "golden retriever", 285: "Egyptian cat", 388: "giant panda", 817: "sports car"}
    known |= {134: "crane bird", 517: "construction crane", 967: "espresso", 999: "toilet tissue"}
    assert {label: names[label] for label in known} == known
    assert len(set(names)) == len(names) == 1000


def test_a_cat_and_a_coffee_are_named(run, chelsea, junk, tmp_path):
    """By the preprocessing that the network was published with, whatever heads are trained on."""
    coffee = tmp_path / "coffee.webp"
    Image.fromarray(skimage.data.coffee()).save(coffee, lossless=True)
    trained_on = {"extract__geometry": "pad", "extract__central_crop": 0.3, "extract__resize": "bilinear_tf1"}
    status, out, err = run(chelsea, junk, coffee, "--top", 2, *BACKBONE, **trained_on)
    assert status == 1
    assert err.splitlines() == [
        f"error: {junk}: not an image",
        "predict: 2 images by imagenet/efficientnet_lite0, 1 could not be read. In a browser: python -m app.web",
    ]
    lines = out.splitlines()
    assert [lines[0], lines[3]] == [str(chelsea), str(coffee)]
    (first, cat_name), (second, coffee_name) = (lines[index].split(maxsplit=1) for index in (1, 4))
    assert (cat_name, coffee_name) == ("Egyptian cat", "espresso")
    assert [float(first), float(second)] == pytest.approx([0.376, 0.952], abs=0.002)
    assert len(lines) == 6


@pytest.mark.slow
def test_size_and_flip_reach_the_network_and_json_is_json(run, chelsea):
    def cat(*arguments, **changes):
        status, out, _ = run(chelsea, "--json", "--top", "1000", *BACKBONE, *arguments, **changes)
        assert status == 0
        (image,) = json.loads(out)
        assert image["file"] == str(chelsea)
        found = {item["class"]: item["probability"] for item in image["classes"]}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert sum(found.values()) == pytest.approx(1, abs=1e-3)
        return found["Egyptian cat"]

    own = cat(extract__input_size_px=64)
    assert own == cat("--size", 224)
    assert len({own, cat("--size", 128), cat(extract__flip=True)}) == 3


@pytest.mark.slow
def test_the_best_model_is_the_default_and_others_have_names(run, trained_project):
    folder = trained_project / "data" / "pictures"
    best, *_ = Project.open(trained_project).results()
    status, out, err = run(folder, "--csv", "--top", "1", project=trained_project)
    assert status == 0
    assert f"48 images by {best.name}." in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 48
    right = [row["class"] == row["file"].split("/")[-2] for row in rows]
    assert np.mean(right) > 0.9  # colours tell these classes apart, and most images were trained on
    assert {row["rank"] for row in rows} == {"1"}

    _, out, err = run(folder / "cat" / "0.png", "--model", "xgboost", "--json", project=trained_project)
    assert f"by {trained.BACKBONE}/xgboost" in err
    assert {item["class"] for item in json.loads(out)[0]["classes"]} == {"cat", "dog", "emu"}


def test_before_any_training_a_pretrained_network_answers(run, chelsea, tmp_path, write_params):
    write_params()
    status, out, err = run(chelsea, "--top", "1", project=tmp_path)
    assert status == 0
    assert out.splitlines()[1].split(maxsplit=1)[1] == "Egyptian cat"
    assert err.startswith("note: no trained model yet (dvc repro makes them)")


def test_ranking_by_hand():
    ranked = predict.ranking(np.array([0.2, 0.1, 0.5, 0.2], np.float32), ("ant", "bee", "cow", "dog"), 3)
    assert ranked == (("cow", 0.5), ("ant", 0.2), ("dog", 0.2))  # of equals the first


def test_predictions_stay_in_order_over_batches_and_the_model_is_loaded_once():
    batches = []

    def rows(encoded):
        batches.append(len(encoded))
        bright = np.array([image[0] for image in encoded], np.float32) / 255
        return np.stack([bright, 1 - bright], axis=1), bright

    known = {"classes": ("high", "low"), "threshold": 0.05, "batches": list, "images_at_once": 5}
    load = mock.Mock(return_value=SimpleNamespace(**known, answer=rows))
    images = [Input(str(n), bytes([n]) if n % 3 else b"", "" if n % 3 else "bad") for n in range(40)]
    found = list(predict.classify(iter(images), load, 2))
    assert [prediction.name for prediction in found] == [str(n) for n in range(40)]
    assert all((bad.classes, bad.error) == ((), "bad") for bad in found[::3])
    high = [dict(prediction.classes).get("high", n / 255) for n, prediction in enumerate(found)]
    np.testing.assert_allclose(high, np.arange(40) / 255, atol=1e-6)
    assert [prediction.farther_out for prediction in found] == [round(n / 255, 6) if n % 3 else None for n in range(40)]
    assert [prediction.unlike for prediction in found] == [n / 255 < 0.05 if n % 3 else None for n in range(40)]
    load.assert_called_once()
    assert max(batches) == 5
    assert sum(batches) == 26


@pytest.mark.parametrize(("sides", "at_once"), [((96,), 16), ((128,), 16), ((96, 224), 5), ((448,), 1), ((1024,), 1)])
def test_large_inputs_go_through_the_networks_few_at_a_time(sides, at_once):
    parts = tuple(Part(None, Preprocessing(side)) for side in sides)
    assert Model("tiny", ("a", "b"), parts).images_at_once == at_once


def test_where_it_may_abstain_a_model_says_what_an_image_may_be(capsys):
    rows = np.array([[0.9, 0.06, 0.04], [0.5, 0.3, 0.2], [0.35, 0.33, 0.32]], np.float32)
    known = {"threshold": 0.0, "batches": list, "images_at_once": 16, "operating": Operating(0.9, 0.25)}
    model: Any = SimpleNamespace(classes=("a", "b", "c"), answer=lambda encoded: (rows, None), **known)
    images = [Input(str(n), b"x") for n in range(3)]
    found = list(predict.classify(images, lambda: model, 1, abstain=True))
    assert [(each.sure, each.inside) for each in found] == [
        (True, ("a",)), (False, ("a", "b")), (False, ("a", "b", "c"))
    ]  # fmt: skip
    predict.print_text(found)
    assert capsys.readouterr().out == (
        "0\n  0.9000  a\n1\n  not sure: a, b\n  0.5000  a\n2\n  not sure: a, b, c\n  0.3500  a\n"
    )
    predict.print_csv(found[1:2])
    assert capsys.readouterr().out.splitlines()[1] == "1,,,no,1,a,yes,0.500000,"
    predict.print_json(found[1:2])
    (said,) = json.loads(capsys.readouterr().out)
    assert (said["sure"], said["set"]) == (False, ["a", "b"])
    assert {each.sure for each in predict.classify(images, lambda: model, 1)} == {None}


def test_a_pretrained_network_never_abstains(run, chelsea):
    status, _, err = run(chelsea, "--abstain", *BACKBONE)
    assert "--abstain needs a trained model, evaluated with validation images. Received: imagenet/" in f"{status}{err}"


def test_without_an_image_no_network_is_started(run, monkeypatch, junk, tmp_path):
    monkeypatch.setattr(Project, "load", None)
    (tmp_path / "empty").mkdir()
    status, out, err = run(junk, tmp_path / "absent.png", tmp_path / "empty", f"{tmp_path}/*.gif", *BACKBONE)
    assert (status, out) == (1, "")
    assert err.splitlines()[:-1] == [
        f"error: {junk}: not an image",
        f"error: {tmp_path / 'absent.png'}: No such file or directory",
        f"error: {tmp_path / 'empty'}: a folder without images",
        f"error: {tmp_path}/*.gif: no file matches the pattern",
    ]
    status, out, _ = run(junk, "--json", *BACKBONE)
    assert (status, json.loads(out)) == (1, [{"file": str(junk), "error": "not an image"}])
    status, out, _ = run(junk, "--csv", *BACKBONE)
    assert (status, out) == (
        1,
        f"file,unlike,farther_out,sure,rank,class,in_set,probability,error\n{junk},,,,,,,,not an image\n",
    )


def test_the_bar_begins_when_the_network_has_loaded(monkeypatch):
    steps = []

    def progress(items, description, unit, total):
        steps.append(total)
        return items

    def load():
        steps.append("loaded")
        answer = lambda encoded: (np.full((len(encoded), 2), 0.5, np.float32), None)  # noqa: E731
        return SimpleNamespace(classes=("a", "b"), threshold=0.0, batches=list, answer=answer, images_at_once=16)

    monkeypatch.setattr(console, "progress", progress)
    images = [Input(str(n), b"x") for n in range(40)]
    shown = list(predict.progress(predict.classify(images, load, 1), len(images)))
    assert [prediction.name for prediction in shown] == [str(n) for n in range(40)]
    assert steps == ["loaded", 40]
