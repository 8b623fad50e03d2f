"""The fetch stage, run as a user runs it."""

import json

import contents
import numpy as np
import pytest

from stages.library.common.console import UserError
from tests.conftest import write_images


@pytest.fixture
def fetch(tmp_path, write_params, run_stage):
    """Runs the stage and returns its out."""

    def run(name="digits", folder="images"):
        params = write_params(dataset__name=name, dataset__folder=str(folder))
        run_stage("fetch", "--params", params, "--out", tmp_path / "raw")
        return tmp_path / "raw"

    return run


def test_digits_are_the_same_bytes_on_every_run_and_stay_where_another_fails(fetch, tmp_path, capsys):
    first = contents.of(fetch())
    assert capsys.readouterr().out.startswith("fetch: digits: 1,797 images from scikit-learn; ")
    assert list(first) == ["images.npy", "labels.npy"]
    assert np.load(tmp_path / "raw" / "images.npy").shape == (1797, 8, 8)
    assert contents.of(fetch()) == first
    with pytest.raises(UserError, match="must be a readable folder"):
        fetch("folder", tmp_path / "missing")
    assert contents.of(tmp_path / "raw") == first
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "raw"}


def test_a_folder_leaves_a_note_without_its_place(fetch, tmp_path, capsys):
    note = (fetch("folder", write_images(tmp_path / "my images", per_class=2)) / "source.json").read_text()
    assert capsys.readouterr().out.startswith("fetch: folder: 6 files in 3 classes, read where they are; ")
    assert json.loads(note) == {"folder": "my images"}
