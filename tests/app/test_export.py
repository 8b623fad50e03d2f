"""app.export: each model in each format, what lies beside the file, and that a file that differs is not kept."""

import functools
import importlib.util
import json
import pickle
import re
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import skimage.data
import trained
from conftest import ROOT
from huggingface_hub import ModelCard
from PIL import Image
from section import section

from app import export
from app.explanation import not_sure
from app.exporting import card, check, graph, resizing
from app.exporting.formats import FORMATS
from app.models import Model, Project
from app.parts import Part
from checks.image_builders import POSTSCRIPT, encode, iptc
from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.figures import thumbnails
from stages.library.preparation import normalisation
from stages.library.records.preprocessing import Preprocessing
from stages.library.training import scratch
from tests import processes
from tests.exported import run_in_process
from tests.zoo import KINDS

MODELS = (
    *(f"{trained.BACKBONE}/{name}" for name in (*trained.HEADS, "finetuned")),
    "scratch",
    "combined/average",
    "combined/stacking",
    "combined/finetuned/stacking",
    f"imagenet/{trained.BACKBONE}",
)


@pytest.fixture
def run(run_app, trained_project):
    return functools.partial(run_app, "export", "--project", trained_project)


@pytest.fixture(scope="module")
def photographs():
    """Encoded images of several sizes and shapes; one is grey, one a JPEG."""
    arrays = (
        skimage.data.chelsea(),
        skimage.data.camera()[::2, ::3],
        skimage.data.coffee()[:30, :500],
        skimage.data.astronaut()[:400, 50:90],
    )
    jpeg = encode(Image.fromarray(skimage.data.astronaut()), "JPEG")
    return [*(normalisation.normalise(pixels).encoded for pixels in arrays), jpeg]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_each_model_in_each_format_gives_its_probabilities(trained_project, photographs, tmp_path, name):
    project = Project.open(trained_project)
    model = project.load(name, trained.SIZE_PX if name.startswith("imagenet") else None)
    expected = model.predict(photographs)
    spread = np.ptp(expected, axis=0).max()
    assert spread > 0.005
    tolerance = min(check.TOLERANCE, spread / 20)  # the network from scratch is hardly trained
    built = graph.build(model)
    for form in FORMATS:
        pixels_of = run_in_process(form, built, tmp_path)
        found = np.concatenate([pixels_of(thumbnails.decode(encoded)[None]) for encoded in photographs])
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=form)
        batch = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3)).astype(np.uint8)
        several = pixels_of(batch)
        one_by_one = np.concatenate([pixels_of(image[None]) for image in batch])
        np.testing.assert_allclose(several, one_by_one, rtol=0, atol=tolerance, err_msg=form)
    assert expected.shape == (len(photographs), len(model.classes))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_a_network_that_whitens_gives_its_probabilities_in_each_format(photographs, tmp_path, form):
    changes = {"whitening": True, "convolutions": 2, "batch_norm": True, "pooling": "max", "activation": "gelu"}
    network = scratch.build(3, section("scratch", **changes))
    dice, logits = np.random.default_rng(0), network.get_layer("logits")
    scratch.whiten(network, dice.integers(0, 256, (9, 32, 32, 3)))
    logits.kernel.assign(dice.normal(scale=5.0, size=logits.kernel.shape))  # as sure as a trained one
    classes, preparation = ("cat", "dog", "emu"), Preprocessing(32)
    named = keras.Model(network.input, {"logits": network.output})
    model = Model("scratch", classes, (Part(named, preparation, flip=True),))
    expected = model.predict(photographs)
    assert np.ptp(expected, axis=0).max() > 0.005
    pixels_of = run_in_process(form, graph.build(model), tmp_path)
    found = np.concatenate([pixels_of(thumbnails.decode(encoded)[None]) for encoded in photographs])
    np.testing.assert_allclose(found, expected, rtol=0, atol=check.TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_the_command_writes_what_is_needed_to_run_the_file_in_every_run_the_same(trained_project, tmp_path, form):
    def exported(seed):
        out = tmp_path / seed / "out"
        place = "--hub" if form == "onnx" else "--out"
        command = "app.export", "--project", trained_project, "--model", "scratch", "--format", form, place, out
        result = processes.run(sys.executable, "-m", *command, PYTHONHASHSEED=seed)  # by which sets are ordered
        assert result.stderr == ""
        return out, {path.relative_to(out): path.read_bytes() for path in card.parts(out)}, result.stdout

    out, contents, printed = exported("1")
    assert exported("2")[1] == contents
    count = 9 + len(check.generate())  # of the data set, and generated
    assert f"{count} images checked" in printed
    assert f"same class for {count}" in printed
    assert f"Try: python {out / 'predict.py'} IMAGE\n" in printed
    assert printed.endswith(f"hf upload YOU/NAME {out}\n") == (form == "onnx")
    file = FORMATS[form].file
    described = {"README.md", "labels.txt", "model.json", "requirements.txt", "stages"}
    assert {path.name for path in out.iterdir()} == described | {file, "predict.py"}
    assert not [path for path in out.rglob("*") if path.is_symlink()]
    assert (out / "stages" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (out / "requirements.txt").read_text().splitlines()[1:] == ["pillow>=11.3"]
    readme = ModelCard.load(out / "README.md")
    assert (readme.data.license, readme.data.model_name) == ("unknown", "scratch")
    assert "Classes: cat, dog, emu." in readme.text
    assert (out / "labels.txt").read_text() == "cat\ndog\nemu\n"
    about = json.loads((out / "model.json").read_text())
    assert about["classes"] == ["cat", "dog", "emu"]
    (network,) = about["networks"]
    assert network["preprocessing"]["input_size_px"] == 32
    assert network["licence"] is None
    trained_sha256 = artifacts.sha256_file(trained_project / "artifacts" / "scratch" / "best.weights.h5")
    assert about["trained_sha256"] == {"best.weights.h5": trained_sha256}
    assert about["test_metrics"]["num_examples"] == 9
    assert {out / name for name in about["files_sha256"]} == set(card.parts(out)) - {out / "model.json"}
    assert card.changed(out) == []
    for content in contents.values():
        assert not [place for place in (ROOT, trained_project, tmp_path, sys.prefix) if str(place).encode() in content]

    emu = trained_project / "data" / "pictures" / "emu" / "3.png"
    wrong = tmp_path / "gone.png", tmp_path, out / "labels.txt"
    home = tmp_path / "home"
    home.mkdir()
    done = processes.run(sys.executable, out / "predict.py", *wrong, emu, cwd=tmp_path, check=False, HOME=home)
    assert done.returncode == 1
    errors = ["No such file or directory", "Is a directory", "not an image"]
    said = [line for line in done.stderr.splitlines() if line.startswith(str(tmp_path))]  # without what TensorFlow logs
    assert said == [f"{path}: {error}" for path, error in zip(wrong, errors, strict=True)]
    assert form != "onnx" or list(home.iterdir()) == []  # where ONNX Runtime would note what to report
    said = done.stdout.splitlines()
    model = Project.open(trained_project).load("scratch")
    (expected,) = model.predict([emu.read_bytes()])
    inside = not_sure(model, expected)
    first = [str(emu)] if inside is None else [str(emu), f"  not sure: {', '.join(inside)}"]
    assert said[: len(first)] == first
    rows = [line.split() for line in said[len(first) :]]
    assert [name for _, name in rows] == [("cat", "dog", "emu")[label] for label in np.argsort(-expected)]
    assert [float(number) for number, _ in rows] == pytest.approx(sorted(expected, reverse=True), abs=1e-3)


@pytest.mark.slow
def test_a_file_that_differs_or_does_not_run_is_not_kept_and_an_earlier_one_is(run, monkeypatch, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.json").write_text('{"files_sha256": {}}')
    triangle = resizing._triangle
    monkeypatch.setattr(resizing, "_triangle", lambda x: triangle(x - 0.1))  # a tenth of a pixel aside
    status, printed, _ = run("--model", "ridge", "--format", "tflite", "--out", out)
    differ = "its probabilities differ by more than 0.001 on"
    assert status.startswith(f"error: the exported file is not efficientnet_lite0/ridge: {differ}")
    assert printed == ""
    broken = replace(FORMATS["onnx"], write=lambda graph, path: artifacts.write_bytes(path, b"no model"))
    monkeypatch.setitem(FORMATS, "onnx", broken)
    status, _, _ = run("--model", "scratch", "--format", "onnx", "--out", out)
    assert status.startswith("error: the exported file can't be run: ")
    assert "INVALID_PROTOBUF" in status
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["model.json"]


@pytest.mark.slow
def test_wrong_words_are_errors(run, trained_project, tmp_path):
    assert "--model must be one of" in run("--model", "svm", "--format", "onnx")[0]
    size = "--model", "scratch", "--format", "onnx", "--size", "64"
    assert run(*size)[0] == "error: --size needs --model imagenet/BACKBONE; a trained model has its own. Received: 64"
    small = "--model", MODELS[-1], "--format", "onnx", "--size", "31"
    assert run(*small)[0] == f"error: --size must be at least 32 for {trained.BACKBONE}. Received: 31"
    (tmp_path / "thesis.txt").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        message = f"error: --out must be a new folder or an earlier export, which is replaced. Received: '{out}'"
        assert run("--model", "scratch", "--format", "onnx", "--out", out)[0] == message
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_was_changed_in_an_earlier_export_is_not_replaced(tmp_path):
    kept, added = tmp_path / "labels.txt", tmp_path / ".git" / "config"
    kept.write_text("cat\n")
    (tmp_path / "model.json").write_text(json.dumps({"files_sha256": {"labels.txt": artifacts.sha256_file(kept)}}))
    (tmp_path / "stages" / "__pycache__").mkdir(parents=True)
    (tmp_path / "stages" / "__pycache__" / "a.pyc").write_bytes(b"")
    export.reject_what_is_no_export(tmp_path)
    kept.write_text("dog\n")
    added.parent.mkdir()
    added.write_text("")
    with pytest.raises(UserError, match=r"Changed or added since then: '\.git/config', 'labels\.txt'\. Choose another"):
        export.reject_what_is_no_export(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(UserError, match=r"model\.json.*Remove the folder, or choose another one"):
        export.reject_what_is_no_export(tmp_path)


READ_ALL = """
import pickle, sys
sys.path[0] = sys.argv[1]
import predict
files, started = pickle.load(open(sys.argv[2], "rb")), []
sys.addaudithook(lambda event, _: event in ("subprocess.Popen", "os.system") and started.append(event))
def outcome(path):
    try:
        return predict.read(path)
    except predict.ImageError as error:
        return str(error)
pickle.dump(([outcome(path) for path in files], started, sorted(sys.modules)), open(sys.argv[3], "wb"))
"""


@pytest.mark.filterwarnings("ignore:::PIL")
def test_an_export_decodes_files_as_the_project_does_with_nothing_but_its_folder(tmp_path):
    """Images of all kinds: the same pixels bit for bit, or the same reason; and no file starts another program."""
    folder, files = tmp_path / "out", tmp_path / "files"
    files.mkdir()
    card.write_code(folder)
    (folder / "labels.txt").write_text("cat\n")
    (folder / "model.json").write_text('{"unlike_below": null, "operating": null}')
    contents = [*check.generate(), *(kind.content for kind in KINDS), POSTSCRIPT, iptc(POSTSCRIPT)]
    paths = [files / f"{index}.jpg" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    (tmp_path / "paths").write_bytes(pickle.dumps(list(map(str, paths))))
    processes.run(sys.executable, "-c", READ_ALL, folder, tmp_path / "paths", tmp_path / "found", cwd=tmp_path)
    found, started, modules = pickle.loads((tmp_path / "found").read_bytes())
    assert started == []
    assert "tensorflow" not in modules
    expected = [outcome_here(content) for content in contents]
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    used = sum(isinstance(outcome, np.ndarray) for outcome in expected)
    assert used == len(check.generate()) + sum(kind.accepted for kind in KINDS)


def outcome_here(content):
    try:
        return thumbnails.decode(normalisation.normalise(content).encoded)
    except normalisation.ImageError as error:
        return str(error)


@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_a_missing_package_is_named(run_app, monkeypatch, write_params, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    status, _, _ = run_app("export", "--params", write_params(), "--format", "onnx")
    assert re.search(rf"error: .*package {package}, .* pip install -r requirements-export\.txt", status)


def test_a_class_name_of_two_lines_is_rejected(tmp_path, write_params):
    model = Model("scratch", ("cat\nfish", "dog"), (Part(None, Preprocessing(32)),))
    with pytest.raises(UserError, match=r"one line each .* Received: 'cat\\nfish'"):
        card.write(tmp_path, Project.open(tmp_path, write_params()), model, FORMATS["onnx"])
