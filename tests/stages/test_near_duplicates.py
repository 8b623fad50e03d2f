"""Copies that are found when images are split, and what the audit finds of the same images."""

import csv
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import audit
from stages.library.records import manifest as manifests
from stages.library.sources import contract as datasets
from stages.library.sources.contract import SourceImage
from tests.photos import encoded, photo

PHOTOS = [photo(seed) for seed in range(40)]
GROUPS = len(PHOTOS) // 2
COPIES = {
    "b/resized.jpg": encoded(PHOTOS[1].resize((70, 50), Image.Resampling.LANCZOS), "JPEG", quality=80),
    "a/patient_0_mirrored.png": encoded(PHOTOS[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "b/same.png": encoded(PHOTOS[4]),
}
PAIRS = [("a/patient_0_1.png", "b/resized.jpg"), ("a/patient_0_mirrored.png", "b/patient_1_1.png")]
SAME = ("a/patient_2_0.png", "b/same.png")


def source_images():
    """Two photographs of each patient, and the copies: names, classes and contents."""
    for row, image in enumerate(PHOTOS):
        text = "ab"[row // 2 % 2]
        yield f"{text}/patient_{row // 2}_{row % 2}.png", text, encoded(image)
    for name, content in COPIES.items():
        yield name, name[0], content


@pytest.fixture
def run(tmp_path, write_params, run_stage, monkeypatch):
    """Runs tfrecord with the settings of a split, and returns its manifest."""

    def run(official=(), **changes):
        items = [
            SourceImage(name, text, ("test" if name in official else "train") if official else None, content)
            for name, text, content in source_images()
        ]
        monkeypatch.setattr(datasets, "lookup", lambda name: SimpleNamespace(read=lambda params, raw: iter(items)))
        params = write_params(**{f"split__{key}": value for key, value in changes.items()})
        run_stage("tfrecord", "--params", params, "--out", tmp_path / "out", "--examples", tmp_path / "examples.png")
        return manifests.read(tmp_path / "out")

    return run


def units(manifest):
    """What stays on one side, by file."""
    return dict(zip(manifest.names(), manifest.groups.tolist(), strict=True))


def test_groups_and_near_duplicates_hang_together(run, capsys):
    of = units(run(group=r"patient_(\d+)_", near_duplicates="together"))
    assert "3 pairs of near-duplicates, 3 of them with different labels, 0 across official splits" in (
        capsys.readouterr().out
    )
    together = [f"a/patient_0_{end}.png" for end in (0, 1, "mirrored")] + [f"b/patient_1_{end}.png" for end in (0, 1)]
    assert len({of[name] for name in [*together, "b/resized.jpg"]}) == 1
    assert len({of[name] for name in ["a/patient_2_0.png", "a/patient_2_1.png", "b/same.png"]}) == 1
    assert len(set(of.values())) == GROUPS - 1  # patients 0 and 1 are one


def test_without_it_only_groups_and_copies_byte_for_byte_do(run, capsys):
    of = units(run(group=r"patient_(\d+)_", near_duplicates="ignore"))
    assert "near-duplicates" not in capsys.readouterr().out
    assert len(set(of.values())) == GROUPS + 1
    assert of["b/same.png"] == of["a/patient_2_1.png"]
    assert of["b/resized.jpg"] not in {of[name] for name in of if "patient" in name}


def test_official_splits_stay_and_pairs_across_them_are_counted(run, capsys):
    manifest = run(["b/resized.jpg", "a/patient_8_0.png"], near_duplicates="together")
    assert "3 pairs of near-duplicates, 3 of them with different labels, 1 across official splits" in (
        capsys.readouterr().out
    )
    tested = np.array(manifest.names())[-2:].tolist()
    assert sorted(tested) == ["a/patient_8_0.png", "b/resized.jpg"]


def test_the_audit_finds_the_same_pairs_and_names_both_labels(run, tmp_path, run_stage, monkeypatch, capsys):
    manifest = run(near_duplicates="together")
    names = manifest.names()
    texts = [name[0] for name in names]
    images = pd.DataFrame({"key": manifest.keys.astype(str), "filename": names, "split": "train"}, dtype=object)
    images["label"] = pd.Categorical(texts)
    rng = np.random.default_rng(0)
    probabilities, features = rng.dirichlet((1, 1), len(names)), rng.normal(size=(len(names), 4))
    monkeypatch.setattr(audit, "load", lambda *arguments: (images, probabilities, features))
    capsys.readouterr()
    given = "--bottlenecks", tmp_path, "--out-of-fold", tmp_path, "--predictions", tmp_path
    paths = "--params", tmp_path / "params.yaml", "--records", tmp_path / "out", "--out", tmp_path / "audit"
    run_stage("audit", *paths, *given)
    with (tmp_path / "audit" / "near_duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(sorted([rows[0]["filename_1"], rows[0]["filename_2"]])) == SAME
    assert float(rows[0]["distance"]) == 0
    assert sorted(tuple(sorted([row["filename_1"], row["filename_2"]])) for row in rows[1:]) == sorted(PAIRS)
    assert all(row[f"label_{side}"] == row[f"filename_{side}"][0] for row in rows for side in (1, 2))
    assert "3 pairs of near-duplicates, 3 of them with different labels, 0 across splits" in capsys.readouterr().out
