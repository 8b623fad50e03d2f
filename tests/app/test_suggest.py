"""app.suggest: which images are chosen, of how many, and what becomes of bad ones, copies and labelled ones."""

import csv
import io
import re
import shutil

import numpy as np
import pytest
import trained
from conftest import write_images
from PIL import Image

from app import suggestion

UNSURE, SURE = [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]


def test_margins_are_the_distance_of_the_two_likeliest():
    found = suggestion.margins(np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.4, 0.2, 0.4]], np.float32))
    assert found == pytest.approx([0.2, 1.0, 0.0])


def test_the_least_sure_comes_first_and_copies_of_it_last():
    features = np.array([[0, 1], [3, 0], [3, 0], [0, 9]], np.float16)
    probabilities = np.array([[0.6, 0.4, 0], UNSURE, UNSURE, [0.7, 0.3, 0]], np.float32)
    for seed in range(20):
        rows = suggestion.choose(features, probabilities, 9, seed).tolist()
        assert (rows[0], rows[-1], sorted(rows)) == (1, 2, [0, 1, 2, 3])


def test_rows_are_drawn_by_uncertainty_to_the_fourth_and_squared_distance():
    """After row 0 those at distances 1, 2 and 1, the last with a margin of 1/2: chances as 1 : 4 : 1/16."""
    features = np.array([[0, 0], [1, 0], [0, 2], [-1, 0]], np.float32)
    probabilities = np.array([UNSURE, UNSURE, UNSURE, [0.75, 0.25, 0.0]], np.float32)
    second = [suggestion.choose(features, probabilities, 2, seed)[1] for seed in range(2000)]
    shares = np.bincount(second, minlength=4) / len(second)
    assert shares == pytest.approx(np.array([0, 1, 4, 1 / 16]) / (5 + 1 / 16), abs=0.04)


def test_images_of_which_the_model_is_certain_are_taken_when_no_others_are_left():
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    rows = suggestion.choose(features, np.array([SURE, UNSURE, SURE, SURE], np.float32), 3, 0)
    assert rows.tolist() == [1, 0, 2]
    assert suggestion.choose(features[:0], np.empty((0, 3), np.float32), 3, 0).tolist() == []


def test_the_same_seed_chooses_the_same_and_another_one_others():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(500, 16)).astype(np.float16), rng.dirichlet(np.ones(5), 500).astype(np.float32)
    first = suggestion.choose(*given, 50, 1)
    assert len(set(first.tolist())) == 50
    assert suggestion.choose(*given, 50, 1).tolist() == first.tolist()
    assert suggestion.choose(*given, 50, 2).tolist() != first.tolist()
    # They are unsure, and apart: nearer to none of the chosen than as many random ones.
    assert suggestion.margins(given[1])[first].mean() < suggestion.margins(given[1]).mean()


@pytest.mark.slow
def test_suggestions_of_a_trained_project(trained_project, run_app, tmp_path, monkeypatch):
    monkeypatch.setenv("DECANT_CACHE", str(trained_project / "cache"))
    pool = write_images(tmp_path / "pool", per_class=6, size_px=40, seed=5)
    shutil.copy(pool / "cat" / "0.png", pool / "copy.png")
    shutil.copytree(trained_project / "data" / "pictures" / "dog", pool / "labelled")
    (pool / "junk.jpg").write_text("no image")
    Image.new("RGB", (9, 9)).save(pool / "a,\n.png")
    given = pool, "--project", trained_project, "--number", 7, "--csv"
    status, out, err = run_app("suggest", *given)
    assert status == 1
    assert f"error: {pool}/junk.jpg: not an image" in err
    left_out = "17 labelled before or copies, 1 could not be read"
    assert f"suggest: 7 of 19 images by {trained.BACKBONE}/" in err
    assert left_out in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 8)]
    assert len({row["file"] for row in rows}) == 7
    assert not any("labelled" in row["file"] for row in rows)
    assert {row["class"] for row in rows} <= {"cat", "dog", "emu"}
    assert float(rows[0]["margin"]) == min(float(row["margin"]) for row in rows)
    assert run_app("suggest", *given)[1] == out

    (pool / "junk.jpg").unlink()
    status, out, err = run_app("suggest", pool, "--project", trained_project, "--number", 100, "--model", "ridge")
    assert (status, out.count("before the next class")) == (0, 19)
    status, *_ = run_app("suggest", pool / "labelled", "--project", trained_project)
    assert status == "error: no image is left to label: 16 labelled before or copies, 0 could not be read"
    for model in ("scratch", "finetuned", "nothing", "imagenet/efficientnet_lite0"):
        error = run_app("suggest", pool, "--project", trained_project, "--model", model)[0]
        assert re.fullmatch(rf"error: --model must be a head, as [^.]*/ridge[^.]*\. Received: '{model}'", error), error
        assert "imagenet" not in error.partition("Received")[0]


@pytest.mark.parametrize(("option", "value"), [("--number", 0), ("--seed", -1)])
def test_numbers_have_limits(run_app, option, value):
    status, _, err = run_app("suggest", "x.png", option, value)
    assert status == 2
    assert f"{option} must be at least {int(option == '--number')}. Received: {value}" in err


def test_before_any_training_there_is_nothing_to_suggest_by(run_app, tmp_path, write_params):
    write_params()
    status, *_ = run_app("suggest", "x.png", "--project", tmp_path)
    assert status == "error: there is no trained head yet. Run: dvc repro"
