"""Images unlike the training images are called so, by each kind of model and wherever a person reads its answer."""

import csv
import io
import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import skimage.data
import trained
from PIL import Image, ImageDraw, ImageFont

from app.models import Project
from stages.library.features import unlike
from stages.library.preparation import normalisation
from stages.library.records import manifest as manifests

pytestmark = pytest.mark.slow
BACKBONE = trained.BACKBONE
MODELS = *(f"{BACKBONE}/{name}" for name in (*trained.HEADS, "finetuned")), "scratch"
COMBINED = "combined/average", "combined/finetuned/stacking"


def printed_seven():
    """A 7 of a font, black on white, of 400 x 600 px."""
    image = Image.new("RGB", (400, 600), "white")
    ImageDraw.Draw(image).text((120, 60), "7", "black", ImageFont.load_default(400))
    return np.asarray(image)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """Files of images that are nothing like those of `conftest.write_images`."""
    folder = tmp_path_factory.mktemp("strangers")
    images = {"cat": skimage.data.chelsea(), "coffee": skimage.data.coffee(), "seven": printed_seven()}
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(run_app, trained_project):
    return partial(run_app, "predict", "--project", trained_project)


def shares_of(model, images):
    _, shares = model.answer(model.batches(images))
    assert shares is not None
    return shares


@pytest.mark.parametrize("name", [*MODELS, *COMBINED])
def test_strangers_are_unlike_the_training_images_and_test_images_are_not(trained_project, strangers, name):
    model = Project.open(trained_project).load(name)
    others = [normalisation.normalise(path.read_bytes()).encoded for path in sorted(strangers.iterdir())]
    assert shares_of(model, others).tolist() == [0, 0, 0]
    assert model.threshold == 0.01
    np.testing.assert_allclose(model.answer(model.batches(others))[0], model.predict(others), atol=1e-5)
    manifest = manifests.read(trained_project / "data" / "tfrecord", ["test"])
    tested = [record.encoded for record in manifest.records(range(len(manifest.keys)))]
    shares = shares_of(model, tested)
    assert (shares >= 0.01).mean() > 0.6  # of nine
    if name in MODELS:
        numbers = json.loads((trained_project / "metrics" / f"{name}.json").read_text())
        assert numbers["unlike"]["test_fraction"] == pytest.approx((shares < 0.01).mean(), abs=0.12)  # of one at most


def test_a_combination_of_several_networks_takes_the_least_share_times_their_number(trained_project):
    project = Project.open(trained_project)
    ridge, xgboost, finetuned = (project.load(f"{BACKBONE}/{name}") for name in ("ridge", "xgboost", "finetuned"))
    known: Any = {
        "members": (ridge, xgboost, finetuned),
        "places": ((0,), (0,), (1,)),
        "parts": ridge.parts + finetuned.parts,
    }
    model = replace(project.load("combined/average"), **known)
    manifest = manifests.read(trained_project / "data" / "tfrecord", ["test"])
    images = [record.encoded for record in manifest.records(range(len(manifest.keys)))]
    least = np.minimum(shares_of(ridge, images), shares_of(finetuned, images))
    outputs = [part.outputs(pixels) for part, pixels in zip(model.parts, model.batches(images), strict=True)]
    shares = model.farther_out(outputs)
    assert shares is not None
    np.testing.assert_allclose(shares, np.minimum(least * 2, 1), atol=1e-6)


def test_predict_says_it_before_any_class(run, strangers, trained_project):
    cat = trained_project / "data" / "pictures" / "cat" / "0.png"
    status, out, _ = run(strangers / "seven.png", "--model", "ridge", "--top", 1)
    assert status == 0
    first, second, third = out.splitlines()
    assert first == str(strangers / "seven.png")
    assert second == "  unlike the training images: 0.0% of known images lie farther out"
    assert third.endswith(("cat", "dog", "emu"))
    seven, known = json.loads(run(strangers / "seven.png", cat, "--model", "scratch", "--json")[1])
    assert (seven["unlike"], seven["farther_out"], list(seven)[:2]) == (True, 0, ["file", "unlike"])
    assert known["unlike"] is False
    assert 0.01 <= known["farther_out"] <= 1
    out = run(strangers / "seven.png", cat, "--model", "finetuned", "--csv", "--top", 2)[1]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["unlike"] for row in rows] == ["yes", "yes", "no", "no"]
    assert float(rows[0]["farther_out"]) == 0
    pretrained = run(cat, "--model", f"imagenet/{BACKBONE}", "--json")[1]
    assert json.loads(pretrained)[0]["unlike"] is None


def test_without_what_is_known_of_the_training_images_nothing_is_said(run, strangers, monkeypatch):
    monkeypatch.setattr(unlike, "load", lambda folder: None)
    found = run(strangers / "seven.png", "--model", "combined/average", "--json")[1]
    assert json.loads(found)[0]["farther_out"] is None
