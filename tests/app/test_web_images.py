"""A confusion matrix as links, and the images behind a cell, a class, or what was taken for one."""

import evaluated
import numpy as np
import pytest
from conftest import ROOT

from app import web_images
from app.models import Project
from app.web_page import Pages
from stages.library.common.console import UserError

NAME, CLASSES = "efficientnet_lite0/ridge", ("cat", "dog", "<i>emu")
LABELS = [0, 0, 0, 0, 1, 1, 2, 2]
CHOSEN = [0, 0, 1, 1, 1, 1, 0, 2]
SURE = [1, 2, 3, 4, 5, 6, 7, 8]  # more is more confident


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    logits = np.eye(3)[CHOSEN] * np.array(SURE)[:, None] / 4
    evaluated.evaluate(root, NAME, CLASSES, LABELS, logits)
    (root / "data").mkdir()
    (root / "artifacts").mkdir()
    for name, place in (
        ("tfrecord", "data/tfrecord"),
        ("evaluation", "artifacts/evaluation"),
        ("models", "artifacts/heads"),
    ):
        (root / name).rename(root / place)
    return root


def find(project, actual, predicted):
    predictions = project / "artifacts" / "evaluation" / NAME / "predictions.parquet"
    shown, total = web_images.find(predictions, project / "data" / "tfrecord", CLASSES, actual, predicted)
    assert all(image.thumbnail.startswith(b"\x89PNG") for image in shown)
    return [int(image.name.removesuffix(".png")) for image in shown], total, shown


def test_cells_count_the_images_and_are_shaded_by_the_fraction_of_the_row(project):
    cells = web_images.cells(project / "artifacts" / "evaluation" / NAME / "confusion.csv", CLASSES)
    assert cells == [(0, 0, 2, 5), (0, 1, 2, 5), (1, 1, 2, 10), (2, 0, 1, 5), (2, 2, 1, 5)]
    rows = web_images.matrix(cells, CLASSES)
    assert [[cell.images if cell else 0 for cell in row] for row in rows] == [[2, 2, 0], [0, 2, 0], [1, 0, 1]]
    assert web_images.most_confused(cells) == [cells[1], cells[3]]
    assert web_images.matrix(cells, [str(number) for number in range(21)]) == []


@pytest.mark.parametrize(
    ("actual", "predicted", "images"),
    [
        (0, 1, [3, 2]),  # the most confident one first
        (0, None, [3, 2, 1, 0]),  # mistakes before the others
        (None, 0, [6, 1, 0]),
        (2, 1, []),
    ],
)
def test_images_of_a_class_or_taken_for_one_or_both(project, actual, predicted, images):
    names, total, shown = find(project, actual, predicted)
    assert (names, total) == (images, len(images))
    assert [(image.actual, image.predicted) for image in shown] == [
        (CLASSES[LABELS[name]], CLASSES[CHOSEN[name]]) for name in names
    ]


def test_no_more_than_so_many_are_shown_and_all_are_counted(project, monkeypatch):
    monkeypatch.setattr(web_images, "MOST", 2)
    assert find(project, 0, None)[:2] == ([3, 2], 4)


def test_pages_link_cells_and_classes_and_escape_names(project):
    pages = Pages(Project.open(project, ROOT / "params.yaml"), 1000, 1000)
    table = pages.leaderboard
    assert (
        '<a href="images?model=efficientnet_lite0/ridge&amp;actual=0&amp;predicted=1" aria-label="2: cat, taken'
        in table
    )
    assert '<a href="images?model=efficientnet_lite0/ridge&amp;actual=2">&lt;i&gt;emu</a>' in table
    shown = pages.images(NAME, 2, 0)
    assert shown is not None
    assert "<h2>&lt;i&gt;emu, taken for cat</h2>" in shown
    assert "1 test image;" in " ".join(shown.split())
    for wrong in (("ridge", 0, 0), (NAME, None, None), (NAME, 3, None), (NAME, 0, 999_999)):
        assert pages.images(*wrong) is None
    (project / "artifacts" / "evaluation" / NAME / "predictions.parquet").write_bytes(b"damaged")
    with pytest.raises(UserError, match="can't be read"):
        pages.images(NAME, 0, 0)
