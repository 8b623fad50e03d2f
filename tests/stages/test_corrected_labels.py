"""Corrections in the pipeline: labels change by content, splits stay, and no network runs again."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import sharded
from conftest import changed_params
from trained import BACKBONE, CHANGES

from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.preparation import corrections, normalisation
from stages.library.preparation.corrections import Correction
from stages.library.sources import contract as datasets
from stages.library.sources.contract import SourceImage

WHEN = "2026-11-30T02:59:00Z"


@pytest.fixture
def run(tmp_path, write_params, run_stage, monkeypatch):
    """Runs tfrecord on given items with given corrections, (key, action, label), and returns its out."""

    def run(items, decided=(), **changes):
        monkeypatch.setattr(datasets, "lookup", lambda name: SimpleNamespace(read=lambda params, raw: iter(items)))
        path, mended = tmp_path / "out", tmp_path / "corrections.csv"
        corrections.write(mended, [Correction(key, action, label, WHEN, "") for key, action, label in decided])
        given = "--params", write_params(**changes), "--corrections", mended
        run_stage("tfrecord", *given, "--out", path, "--examples", tmp_path / "examples.png")
        return path

    return run


def images(number, classes=("a", "b")):
    pixels = np.random.default_rng(0).integers(0, 256, (number, 5, 4), np.uint8)
    texts = [classes[index % len(classes)] for index in range(number)]
    return [SourceImage(f"{text}/{index}", text, None, pixels[index]) for index, text in enumerate(texts)]


def key(item):
    return normalisation.normalise(item.content).key


def sides(folder):
    return {record.key: (split, record.text) for split, found in sharded.read(folder).items() for record in found}


def test_labels_change_images_are_left_out_and_no_other_image_moves(run, capsys):
    items = images(60)
    before = sides(run(items))
    decided = [(key(items[0]), "relabel", "b"), (key(items[1]), "drop", ""), (key(items[2]), "keep", "")]
    folder = run(items, [*decided, ("f" * 64, "relabel", "gone")])
    expected = before | {key(items[0]): (before[key(items[0])][0], "b")}
    del expected[key(items[1])]
    assert sides(folder) == expected
    said = "1 image relabelled, 1 dropped, 1 kept as they are, 1 of other images"
    assert f"corrections.csv: {said}\n" in capsys.readouterr().out
    assert tables.read_csv(folder / "rejected.csv") == [{"name": "b/1", "row": "", "reason": "dropped by a correction"}]
    content = json.loads((folder / "dataset.json").read_text())
    assert (content["images"], content["rejected"]) == (59, 1)
    assert sum(counted["b"] for counted in content["counts"].values()) == 30
    labels = [record.label for found in sharded.read(folder).values() for record in found]
    assert sum(labels) == 30

    renamed = [dataclasses.replace(item, name=f"elsewhere/{item.name}") for item in reversed(items)]
    assert sides(run(renamed, decided)) == expected


def test_all_copies_of_an_image_get_the_label(run):
    items = images(40)
    items.append(dataclasses.replace(items[0], name="b/copy", text="b"))
    folder = run(items, [(key(items[0]), "relabel", "b")])
    found = [record.text for some in sharded.read(folder).values() for record in some if record.key == key(items[0])]
    assert found == ["b", "b"]
    assert json.loads((folder / "dataset.json").read_text())["duplicates"]["in_several_classes"] == 0


def test_a_class_that_loses_all_images_is_gone_and_an_empty_split_is_an_error(run):
    items = images(60, ("a", "b", "c"))
    folder = run(items, [(key(item), "relabel", "a") for item in items if item.text == "b"])
    assert json.loads((folder / "dataset.json").read_text())["classes"] == ["a", "c"]
    with pytest.raises(
        UserError, match=r"corrections\.csv must leave images of at least 2 classes\. Received: \['c'\]"
    ):
        run(items, [(key(item), "drop", "") for item in items if item.text != "c"])
    tested = [name for name, (split, _) in sides(run(items)).items() if split == "test"]
    with pytest.raises(UserError, match=r"must leave an image in each split\. Without one: test$"):
        run(items, [(name, "drop", "") for name in tested])
    with pytest.raises(UserError, match=r"row 1: `label` must be a class of the data set, a, b, c\. Received: 'd'"):
        run(items, [(key(items[0]), "relabel", "d")])


@pytest.mark.slow
def test_no_network_runs_again_for_a_corrected_image(trained_project, tmp_path, run_stage, monkeypatch, capsys):
    """The feature store has the features by content, whatever the label."""
    shutil.copytree(trained_project / "cache", tmp_path / "cache")
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path / "cache"))
    params = changed_params(tmp_path, CHANGES | {"dataset.folder": str(trained_project / "data" / "pictures")})
    before = sides(trained_project / "data" / "tfrecord")
    (first, (split, text)), (second, _), *_ = sorted(before.items())
    mended, records = tmp_path / "corrections.csv", tmp_path / "records"
    other = {"cat": "dog", "dog": "emu", "emu": "cat"}[text]
    corrections.write(mended, [Correction(first, "relabel", other, WHEN, ""), Correction(second, "drop", "", WHEN, "")])
    given = "--params", params, "--raw", trained_project / "data" / "raw", "--corrections", mended
    run_stage("tfrecord", *given, "--out", records, "--examples", tmp_path / "examples.png")
    capsys.readouterr()
    out = tmp_path / "features"
    run_stage("bottleneck_extract", "--params", params, "--backbone", BACKBONE, "--records", records, "--out", out)
    assert f"{len(before) - 1} images at 64 px, 0 computed" in capsys.readouterr().out
    after = sides(records)
    assert after == {name: found for name, found in before.items() if name != second} | {first: (split, other)}
