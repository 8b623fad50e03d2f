"""The map of a trained project: its table, its page, and what must belong together."""

import json
import re
import shutil

import contents
import numpy as np
import pyarrow.parquet as pq
import pytest
import trained

from stages import map as stage
from stages.library.common import tables
from stages.library.common.console import UserError


@pytest.fixture(scope="module")
def found(trained_project, tmp_path_factory):
    """A folder with the tables that the audit of the trained project could have made: two images and a pair."""
    rows = pq.read_table(predictions(trained_project)).to_pylist()
    folder = tmp_path_factory.mktemp("audit")
    tables.write_csv(folder / "label_issues.csv", ["key"], [[rows[0]["key"]]])
    tables.write_csv(folder / "near_duplicates.csv", ["key_1", "key_2"], [[rows[0]["key"], rows[1]["key"]]])
    tables.write_csv(folder / "outliers.csv", ["key"], [[row["key"]] for row in reversed(rows * 10)])
    return folder


@pytest.fixture
def lay_out(trained_project, found, tmp_path, run_stage):
    """Runs the stage, with another file or folder for an option where it is given, and returns its folder."""

    def run(out="map", **changes):
        artifacts = trained_project / "artifacts"
        given = {
            "params": trained_project / "params.yaml",
            "records": trained_project / "data" / "tfrecord",
            "bottlenecks": artifacts / "bottlenecks" / trained.BACKBONE,
            "out-of-fold": artifacts / "heads" / trained.BACKBONE / "ridge" / "out_of_fold.parquet",
            "predictions": predictions(trained_project),
            "audit": found,
            "out": tmp_path / out,
        }
        run_stage("map", *(part for name, path in (given | changes).items() for part in (f"--{name}", path)))
        return tmp_path / out

    return run


def predictions(project):
    return project / "artifacts" / "evaluation" / trained.BACKBONE / "ridge" / "predictions.parquet"


@pytest.mark.slow
def test_the_table_says_of_each_image_where_it_lies_and_what_was_found(lay_out, trained_project, capsys):
    folder = lay_out()
    rows = tables.read_csv(folder / "map.csv", {"filename": str, "confidence": float, "x": float, "y": float})
    assert len(rows) == 48
    assert all(row["filename"].startswith(row["label"] + "/") for row in rows)
    tested = pq.read_table(predictions(trained_project)).to_pylist()
    names = ("cat", "dog", "emu")
    by_key = {row["key"]: row for row in rows}
    for row in tested:
        found = by_key[row["key"]]
        assert (found["split"], found["prediction"]) == ("test", names[row["prediction"]])
        assert float(found["confidence"]) == pytest.approx(row["confidence"], abs=1e-5)
    ours = [by_key[row["key"]]["audit"] for row in tested[:3]]
    assert ours == ["likely label error and near-duplicate", "near-duplicate", ""]
    assert by_key[tested[-1]["key"]]["audit"] == "outlier"
    # Each class has a colour of its own: its images lie together.
    places = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    labels = np.array([row["label"] for row in rows])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(48, np.inf))
    assert np.mean(labels[distances.argmin(axis=1)] == labels) > 0.8
    assert contents.of(folder) == contents.of(lay_out("again"))
    assert "48 images, a page of" in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_has_what_the_table_has(lay_out):
    folder = lay_out()
    rows = {row["filename"]: row for row in tables.read_csv(folder / "map.csv")}
    html = (folder / "index.html").read_text(encoding="utf-8")
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    data = json.loads(block)
    assert [each["name"] for each in data["colourings"]] == ["Class", "Split", "Mistake", "Audit"]
    for index, name in enumerate(data["names"]):
        row, said = rows[name], [each["categories"][each["of"][index]] for each in data["colourings"]]
        mistaken = "no" if row["label"] == row["prediction"] else "yes"
        assert said == [row["label"], row["split"], mistaken, row["audit"] or "nothing found"]
        assert data["predictions"]["texts"][data["predictions"]["of"][index]].startswith(f"{row['prediction']}, ")
        assert [data["x"][index], data["y"][index]] == [round(float(row[axis]) * data["one"]) for axis in "xy"]


@pytest.mark.slow
def test_files_that_do_not_belong_together_are_rejected(lay_out, trained_project, found, tmp_path):
    pq.write_table(pq.read_table(predictions(trained_project)).slice(1), tmp_path / "fewer.parquet")
    with pytest.raises(UserError, match=r"are of different images\. Run: dvc repro"):
        lay_out(predictions=tmp_path / "fewer.parquet")
    shutil.copytree(found, tmp_path / "audit")
    tables.write_csv(tmp_path / "audit" / "outliers.csv", ["name"], [["a"]])
    with pytest.raises(UserError, match=r"outliers\.csv, line 1: the columns key must be there"):
        lay_out(audit=tmp_path / "audit")


@pytest.mark.parametrize(
    ("answer", "confidence", "text"),
    [
        ("cat", 0.5, "cat, 50.0%"),
        ("cat", 0.9994, "cat, 99.9%"),
        ("cat", 0.9996, "cat, >99.9%"),
        ("cat", 1.0, "cat, 100.0%"),
        (None, None, "not predicted"),
    ],
)
def test_only_what_is_sure_is_100_percent(answer, confidence, text):
    assert stage.shown(answer, confidence) == text
