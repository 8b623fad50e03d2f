"""The stage on a trained project, with a wrong label and a copy planted in what it reads."""

import json
from types import SimpleNamespace

import contents
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trained
from PIL import Image

from stages import audit as stage
from stages.library.common.console import UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def paths(trained_project):
    """What the stage reads: the project's ridge head."""
    return {
        "--params": trained_project / "params.yaml",
        "--records": trained_project / "data" / "tfrecord",
        "--bottlenecks": trained_project / "artifacts" / "bottlenecks" / trained.BACKBONE,
        "--out-of-fold": trained_project / "artifacts" / "heads" / trained.BACKBONE / "ridge" / "out_of_fold.parquet",
        "--predictions": trained_project
        / "artifacts"
        / "evaluation"
        / trained.BACKBONE
        / "ridge"
        / "predictions.parquet",
    }


@pytest.fixture
def audit(paths, tmp_path, run_stage):
    """Runs the stage and returns its folder."""

    def run(out="audit", **changes):
        given = paths | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
        run_stage("audit", *(part for item in given.items() for part in item), "--out", tmp_path / out)
        return tmp_path / out

    return run


def test_an_image_that_the_models_call_otherwise_is_listed_with_its_file(audit, paths, tmp_path):
    path = paths["--out-of-fold"]
    table = pq.read_table(path)
    logits = table["logits"].to_pylist()
    label = table["label"][5].as_py()
    wrong = (label + 1) % 3
    logits[5] = [9.0 if other == wrong else 0.0 for other in range(3)]
    column = pa.array(logits, table.schema.field("logits").type)
    pq.write_table(table.set_column(2, "logits", column), tmp_path / "changed.parquet")
    folder = audit(out_of_fold=tmp_path / "changed.parquet")
    first = pd.read_csv(folder / "label_issues.csv").iloc[0]
    assert first["key"] == table["key"][5].as_py()
    assert (first["label"], first["likely"]) == (trained_names()[label], trained_names()[wrong])
    assert first["likely_probability"] > 0.99 > 0.01 > first["label_probability"]
    assert first["filename"].startswith(first["label"] + "/")
    numbers = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert numbers["images"] == numbers["all_images"] == 48
    assert numbers["label_issues"] == len(pd.read_csv(folder / "label_issues.csv")) >= 1


def test_images_that_a_head_has_only_trained_on_are_not_looked_at(audit, paths, tmp_path):
    path = paths["--out-of-fold"]
    table = pq.read_table(path)
    logits = [[float("nan")] * 3 if row % 4 else values for row, values in enumerate(table["logits"].to_pylist())]
    column = pa.array(logits, table.schema.field("logits").type)
    pq.write_table(table.set_column(2, "logits", column), tmp_path / "once.parquet")
    numbers = json.loads((audit(out_of_fold=tmp_path / "once.parquet") / "audit.json").read_text(encoding="utf-8"))
    scored = 48 - len(logits) + -(-len(logits) // 4)
    assert (numbers["images"], numbers["all_images"]) == (scored, 48)


def test_images_are_legible_and_two_runs_give_the_same_bytes(audit):
    folder = audit()
    assert {path.name for path in folder.iterdir()} == {
        "audit.json",
        *(f"{name}.{kind}" for name in ("label_issues", "near_duplicates", "outliers") for kind in ("csv", "png")),
    }
    with Image.open(folder / "outliers.png", formats=("PNG",)) as image:
        assert image.width > 1000
        assert image.height > 400
    outliers = pd.read_csv(folder / "outliers.csv")
    assert len(outliers) == 48
    assert outliers["typicality"].is_monotonic_increasing
    assert contents.of(folder) == contents.of(audit("again"))


def test_files_that_do_not_belong_together_are_rejected(audit, paths, tmp_path):
    table = pq.read_table(paths["--out-of-fold"])
    pq.write_table(table.slice(1), tmp_path / "shorter.parquet")
    with pytest.raises(UserError, match=r"are of different images\. Run: dvc repro"):
        audit(out_of_fold=tmp_path / "shorter.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"broken\.parquet can't be read"):
        audit(out_of_fold=tmp_path / "broken.parquet")


def trained_names():
    return ("cat", "dog", "emu")


def test_a_gallery_without_images_says_so(tmp_path, monkeypatch):
    titles = []
    for function in ("galleries.write", "mosaics.write_predictions"):
        monkeypatch.setattr(f"stages.audit.{function}", lambda path, title, rows: titles.append(title))
    looked = SimpleNamespace(
        table=pd.DataFrame({"row": np.zeros(0, int)}), classes=("a", "b"), manifest=SimpleNamespace(records=iter)
    )
    nothing = np.zeros(0, int)
    stage.write_images(tmp_path, looked, nothing, nothing.reshape(0, 2), nothing)  # type: ignore[arg-type]
    assert titles == ["Likely label errors: none found", "Near-duplicates: none found", "Outliers: none found"]
