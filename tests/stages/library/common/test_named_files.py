"""Paths of parameters: from home, from here, and in a copy for an experiment from the checkout around it."""

from pathlib import Path

import pytest

from stages.library.common.named_files import named


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """An experiment's copy of a checkout, the current folder; Git ignores the images, and tracks the table."""
    folder = tmp_path / "checkout" / ".dvc" / "tmp" / "exps" / "standalone" / "tmpx"
    for root in (folder, tmp_path / "checkout"):
        (root / "data" / "pictures").mkdir(parents=True)
        (root / "data" / "pictures" / ".gitignore").touch()
        (root / "labels.csv").touch()
    (tmp_path / "checkout" / "data" / "pictures" / "cat").mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_path_starts_at_home_or_here(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert named("~/images") == tmp_path / "images"
    assert named(str(tmp_path)) == tmp_path
    assert named("images") == Path("images")


def test_what_an_experiments_copy_lacks_is_in_the_checkout(copy, tmp_path):
    assert named("data/pictures") == tmp_path / "checkout" / "data" / "pictures"
    assert named("../images") == tmp_path / "checkout" / ".." / "images"
    assert named("labels.csv") == Path("labels.csv")
    assert named(str(tmp_path / "nosuch")) == tmp_path / "nosuch"
    (copy / "data" / "pictures" / "dog").mkdir()
    assert named("data/pictures") == Path("data/pictures")
