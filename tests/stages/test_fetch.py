"""The fetch stage, run as a user runs it."""

import json
import re
import sys

import contents
import numpy as np
import pytest

from stages.library.common.console import UserError
from stages.library.sources.contract import Params
from tests import processes
from tests.conftest import write_images


@pytest.fixture
def dataset(monkeypatch):
    """Sets the section `dataset`; the other sections are of no interest here."""

    def choose(**keys):
        section = {"name": "digits", "folder": "images", "archive": None, "archive_sha256": None} | keys
        monkeypatch.setattr("stages.fetch.load_params", lambda path: {"dataset": Params(**section)})

    return choose


def test_digits_are_the_same_bytes_on_every_run(dataset, run_stage, tmp_path, capsys):
    dataset()
    runs = []
    for _ in range(2):
        run_stage("fetch", "--out", tmp_path / "raw")
        runs.append(contents.of(tmp_path / "raw"))
        assert capsys.readouterr().out.startswith("fetch: digits: 1,797 images from scikit-learn; ")
    assert runs[0] == runs[1]
    assert list(runs[0]) == ["images.npy", "labels.npy"]
    assert np.load(tmp_path / "raw" / "images.npy").shape == (1797, 8, 8)


def test_a_folder_leaves_a_note_without_its_place(dataset, run_stage, tmp_path, capsys):
    dataset(name="folder", folder=str(write_images(tmp_path / "my images", per_class=2)))
    run_stage("fetch", "--out", tmp_path / "raw")
    assert capsys.readouterr().out.startswith("fetch: folder: 6 files in 3 classes, read where they are; ")
    assert json.loads((tmp_path / "raw" / "source.json").read_text()) == {"folder": "my images"}
    assert str(tmp_path) not in (tmp_path / "raw" / "source.json").read_text()


def test_a_failure_leaves_what_was_there(dataset, run_stage, tmp_path):
    dataset()
    run_stage("fetch", "--out", tmp_path / "raw")
    dataset(name="folder", folder=str(tmp_path / "missing"))
    with pytest.raises(UserError, match="must be a readable folder"):
        run_stage("fetch", "--out", tmp_path / "raw")
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {"images.npy", "labels.npy"}


def test_run_as_a_script_it_fails_in_one_line(tmp_path):
    done = processes.run(sys.executable, "-m", "stages.fetch", "--params", tmp_path / "none.yaml", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r".*none\.yaml can't be read.*\n", done.stderr)
