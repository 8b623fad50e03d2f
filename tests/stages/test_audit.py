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

from stages import audit as stage
from stages.library.common.console import UserError
from stages.library.figures import thumbnails
from stages.library.scoring import prediction_files

pytestmark = pytest.mark.slow
NAMES = ("cat", "dog", "emu")


@pytest.fixture
def out_of_fold(trained_project):
    """What the project's ridge head predicted of training and validation."""
    return pq.read_table(trained_project / "artifacts" / "heads" / trained.BACKBONE / "ridge" / "out_of_fold.parquet")


@pytest.fixture
def audit(trained_project, tmp_path, run_stage, out_of_fold):
    """Runs the stage, with other logits or another table where they are given, and returns its folder and numbers."""

    def run(logits=None, table=out_of_fold, out="audit"):
        if logits:
            table = table.set_column(2, "logits", pa.array(logits, table.schema.field("logits").type))
        pq.write_table(table, tmp_path / "out_of_fold.parquet")
        artifacts, params = trained_project / "artifacts", trained_project / "params.yaml"
        predictions = artifacts / "evaluation" / trained.BACKBONE / "ridge" / "predictions.parquet"
        records = "--params", params, "--records", trained_project / "data" / "tfrecord"
        features = "--bottlenecks", artifacts / "bottlenecks" / trained.BACKBONE, "--predictions", predictions
        outs = "--out-of-fold", tmp_path / "out_of_fold.parquet", "--out", tmp_path / out
        run_stage("audit", *records, *features, *outs)
        return tmp_path / out, json.loads((tmp_path / out / "audit.json").read_text(encoding="utf-8"))

    return run


def test_an_image_that_the_models_call_otherwise_is_listed_with_its_file(audit, out_of_fold):
    logits = out_of_fold["logits"].to_pylist()
    label = out_of_fold["label"][5].as_py()
    wrong = (label + 1) % 3
    logits[5] = [9.0 if other == wrong else 0.0 for other in range(3)]
    folder, numbers = audit(logits)
    found = pd.read_csv(folder / "label_issues.csv")
    first = found.iloc[0]
    assert first["key"] == out_of_fold["key"][5].as_py()
    assert (first["label"], first["likely"]) == (NAMES[label], NAMES[wrong])
    assert first["likely_probability"] > 0.99 > 0.01 > first["label_probability"]
    assert first["filename"].startswith(first["label"] + "/")
    assert numbers["images"] == numbers["all_images"] == 48
    assert numbers["label_issues"] == len(found) >= 1
    # Images that a head has only trained on are not looked at.
    _, numbers = audit([[float("nan")] * 3 if row % 4 else values for row, values in enumerate(logits)], out="fewer")
    assert (numbers["images"], numbers["all_images"]) == (48 - len(logits) + -(-len(logits) // 4), 48)


def test_images_are_legible_and_two_runs_give_the_same_bytes(audit):
    folder, _ = audit()
    kinds = [f"{name}.{kind}" for name in ("label_issues", "near_duplicates", "outliers") for kind in ("csv", "png")]
    assert {path.name for path in folder.iterdir()} == {"audit.json", *kinds}
    height, width, _ = thumbnails.decode((folder / "outliers.png").read_bytes()).shape
    assert (height > 400, width > 1000) == (True, True)
    outliers = pd.read_csv(folder / "outliers.csv")
    assert len(outliers) == 48
    assert outliers["typicality"].is_monotonic_increasing
    assert contents.of(folder) == contents.of(audit(out="again")[0])


def test_files_that_do_not_belong_together_are_rejected(audit, out_of_fold, tmp_path):
    with pytest.raises(UserError, match=r"are of different images\. Run: dvc repro"):
        audit(table=out_of_fold.slice(1))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"broken\.parquet can't be read"):
        prediction_files.read(tmp_path / "broken.parquet", "logits")


def test_a_gallery_without_images_says_so(tmp_path, monkeypatch):
    titles = []
    for function in ("write_gallery", "write_predictions"):
        monkeypatch.setattr(f"stages.audit.mosaics.{function}", lambda path, title, *rows: titles.append(title))
    images, nothing = pd.DataFrame({"label": pd.Categorical([])}), np.zeros(0, int)
    manifest = SimpleNamespace(records=iter)
    given = images, np.zeros((0, 2)), manifest, (nothing, nothing.reshape(0, 2), nothing)
    stage.write_images(tmp_path, *given)  # type: ignore[arg-type]
    assert titles == ["Likely label errors: none found", "Near-duplicates: none found", "Outliers: none found"]
