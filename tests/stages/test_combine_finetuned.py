"""Fine-tuned networks as members: compared on validation images alone, and used by every program."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import contents
import numpy as np
import pandas as pd
import pytest
import trained
from conftest import call_stage, changed_params

from app import web_page
from app.models import Project
from stages import combine
from stages.library.combination import combined
from stages.library.common.console import UserError
from stages.library.records import leakage, tfrecord
from stages.library.records import manifest as manifests
from stages.library.scoring import prediction_files, result_files

NAME = "combined/finetuned/average"
MEMBERS = [f"{trained.BACKBONE}/{kind}" for kind in ("ridge", "finetuned")]
KEYS = np.array(["a", "b", "c", "d"], object)


def write_logits(path, keys, logits):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"key": list(keys), "logits": np.asarray(logits, np.float32).tolist()}).to_parquet(path)


def test_a_network_predicts_validation_images_and_no_others(tmp_path):
    logits = [[1.0, 2.0], [3.0, 4.0]]
    write_logits(tmp_path / "logits" / "b" / "validation.parquet", "cd", np.array(logits))
    given = "b/finetuned", tmp_path / "finetuned" / "b"
    found = combine.unseen(*given, KEYS, slice(2, None), 2, tmp_path / "logits")
    assert found.dtype == np.float32
    assert np.isnan(found[:2]).all()
    assert found[2:].tolist() == logits
    with pytest.raises(UserError, match=r"b/validation.parquet is of other images or classes .* Run: dvc repro"):
        combine.unseen(*given, KEYS[::-1], slice(2, None), 2, tmp_path / "logits")
    with pytest.raises(UserError, match=r"`combine.finetuned` must have validation images.* none\. Raise `split\.val"):
        combine.unseen(*given, KEYS, slice(4, None), 2, tmp_path / "logits")


def test_one_folder_without_the_other_is_an_error(tmp_path, capsys):
    options = ["--records", "--heads", "--bottlenecks", "--finetuned", "--out", "--metrics", "--figures"]
    with pytest.raises(SystemExit):
        call_stage("combine", "--method", "average", *(word for option in options for word in (option, tmp_path)))
    assert "--finetuned and --logits need each other" in capsys.readouterr().err


def test_a_combination_of_networks_alone_needs_no_published_weights(monkeypatch):
    project: Any = SimpleNamespace(folder=Path)
    result: Any = SimpleNamespace(name=NAME)
    for names, expected in ((["b/finetuned"], set()), (["b/finetuned", "a+b/ridge"], {"a+b"})):
        found = SimpleNamespace(members=[{"name": name} for name in names])
        monkeypatch.setattr(combined, "load", lambda folder, found=found: found)
        assert web_page.pretrained(project, result) == expected


@pytest.fixture(scope="module")
def root(trained_project, tmp_path_factory):
    """A project in which ridge and the network each know half of the validation images, and other heads nothing."""
    root = tmp_path_factory.mktemp("combined")
    params = changed_params(root, trained.CHANGES | {"combine.finetuned": ["average"]})
    (root / "data").symlink_to(trained_project / "data")
    places, shards = root / "artifacts", root / "data" / "tfrecord"
    for name in ("heads", "finetuned", "logits"):
        shutil.copytree(trained_project / "artifacts" / name, places / name)
    (places / "bottlenecks").symlink_to(trained_project / "artifacts" / "bottlenecks")
    whole, validated = manifests.read(shards, ["train", "validation"]), manifests.read(shards, ["validation"])

    def knowing(labels, every):
        """Logits of 2 for the labels of the rows that are known, and almost even ones for another class."""
        known = (np.arange(len(labels)) % 2 == 0) if every == 0 else (np.arange(len(labels)) % 2 == 1)
        wrong = np.eye(3)[(labels + 1) % 3]
        return np.where(known[:, None], 2 * np.eye(3)[labels], 0.1 * wrong)

    first = len(whole.keys) - len(validated.keys)
    for name in trained.HEADS:
        logits = 0.1 * np.eye(3)[(whole.labels + 1) % 3]
        if name == "ridge":
            logits[first:] = knowing(validated.labels, 0)
        write_logits(places / "heads" / trained.BACKBONE / name / leakage.OF_HEAD, whole.keys.astype(str), logits)
    network = places / "logits" / trained.BACKBONE / "validation.parquet"
    write_logits(network, validated.keys.astype(str), knowing(validated.labels, 1))
    given = "--records", shards, "--heads", places / "heads", "--bottlenecks", places / "bottlenecks"
    networks = "--finetuned", places / "finetuned", "--logits", places / "logits"
    for made in (root, root / "again"):
        outs = "--metrics", made / "metrics" / f"{NAME}.json", "--figures", made / "artifacts" / "evaluation" / NAME
        out = "--out", made / "artifacts" / NAME
        call_stage("combine", "--params", params, "--method", "average", *given, *networks, *out, *outs)
    return root


@pytest.fixture
def evaluations(trained_project):
    return trained_project / "artifacts" / "evaluation"


def probabilities(folder):
    return np.array(pd.read_parquet(folder / "predictions.parquet")["probabilities"].to_list())


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(root):
    for place in (f"artifacts/{NAME}", f"artifacts/evaluation/{NAME}"):
        assert contents.of(root / place) == contents.of(root / "again" / place)


@pytest.mark.slow
def test_members_are_found_and_measured_on_validation_images(root):
    shards, out = root / "data" / "tfrecord", root / "artifacts" / NAME
    assert [member["name"] for member in combined.load(out).members] == MEMBERS
    validated = manifests.read(shards, ["validation"])
    keys, logits = prediction_files.read(out / leakage.OF_HEAD, "logits")
    seen = np.isfinite(logits).all(axis=1)
    assert [key for key, known in zip(keys, seen, strict=True) if known] == validated.keys.astype(str).tolist()
    assert np.isnan(logits[~seen]).all()
    numbers = result_files.read_metrics(root / "metrics" / f"{NAME}.json")
    assert numbers["validation"]["num_examples"] == len(validated.keys)
    assert numbers["cross_validation"]["top1_accuracy"]["mean"] > 0.8


@pytest.mark.slow
def test_it_predicts_the_average_of_what_its_members_do(root, evaluations):
    found = combined.load(root / "artifacts" / NAME)
    mean = sum(member["weight"] * probabilities(evaluations / member["name"]) for member in found.members)
    cooled = mean ** (1 / found.temperature)
    expected = cooled / cooled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(root / "artifacts" / "evaluation" / NAME), expected, atol=1e-4)
    project = Project.open(root)
    assert [result.name for result in project.results()] == [NAME]
    shards = tfrecord.find_shards(root / "data" / "tfrecord", "test")
    images = [record.encoded for shard in shards for record in tfrecord.read_shard(shard)]
    np.testing.assert_allclose(project.load("combined/finetuned/average").predict(images), expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["saved_model", "onnx", "tflite"])
def test_its_export_has_both_networks_and_names_both_files(root, run_app, tmp_path, form):
    given = "--project", root, "--model", "average", "--format", form, "--out", tmp_path / "out"
    status, printed, _ = run_app("export", *given)  # which compares it with the model
    assert status == 0
    assert "images checked" in printed
    about = pd.read_json(tmp_path / "out" / "model.json", typ="series")
    assert [network["pretrained_sha256"] is None for network in about["networks"]] == [False, True]
    assert [member["name"] for member in about["combined_of"]] == MEMBERS
    assert set(about["trained_sha256"]) == {f"{MEMBERS[0]}/weights.safetensors", f"{MEMBERS[1]}/best.weights.h5"}


@pytest.mark.slow
def test_a_network_trained_since_is_no_member(root, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(root, copy, symlinks=True)
    config = copy / "artifacts" / "finetuned" / trained.BACKBONE / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(UserError, match=r"finetuned/efficientnet_lite0 is another model than was combined"):
        Project.open(copy).load(NAME)
    assert Project.open(copy).results() == []
