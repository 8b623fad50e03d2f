"""A project on a network whose weight file has no top: what needs no ImageNet classes works, the rest says why not."""

import json

import keras_layouts
import pandas as pd
import pytest
import skimage.data
import trained
from conftest import call_stage, changed_params
from PIL import Image

from app import heat_map, model_cache, web_page
from app.models import Project
from stages.library.common.console import UserError
from stages.library.heads import trained_head
from stages.library.training import trained_network

BACKBONE = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def notop(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "notop.h5"
    keras_layouts.write_legacy_h5(path, keras_layouts.original(BACKBONE, include_top=False))
    return path


@pytest.fixture
def image(tmp_path):
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.mark.slow
def test_imagenets_classes_are_not_had_without_a_top(run_app, write_params, notop, image, monkeypatch):
    params = write_params(backbones=[BACKBONE], extract__weights={BACKBONE: str(notop)})
    error, out, _ = run_app("predict", "--params", params, image, "--backbone", BACKBONE, "--size", 64)
    assert out == ""
    assert (
        f"imagenet/{BACKBONE} needs a backbone's logits, and the weight file of {BACKBONE} has no top. Use a" in error
    )
    project = Project.open(params.parent, params)
    assert model_cache.weights_are_here(project, BACKBONE)
    assert not model_cache.knows_imagenet(project, BACKBONE)
    project = Project.open(params.parent, write_params(extract__weights={BACKBONE: "keras_notop"}))
    monkeypatch.setattr(model_cache, "weights_are_here", lambda project, backbone: True)
    assert not model_cache.knows_imagenet(project, BACKBONE)
    assert model_cache.knows_imagenet(project, "resnet50")


def test_a_damaged_file_is_no_network_of_the_page(write_params, tmp_path, capsys):
    (tmp_path / "w.h5").write_bytes(b"no weights")
    params = write_params(extract__weights={BACKBONE: str(tmp_path / "w.h5")})
    assert not model_cache.knows_imagenet(Project.open(tmp_path, params), BACKBONE)
    assert f"note: imagenet/{BACKBONE} is not offered: " in capsys.readouterr().err


@pytest.mark.slow
def test_heads_fine_tuning_report_page_and_export_work_without_a_top(tmp_path, notop, image, run_app, capsys):
    chosen = {"extract.weights": {BACKBONE: str(notop)}}
    kinds = {"backbones": [BACKBONE], "heads": ["ridge", "xgboost"]}
    root = trained.build(tmp_path / "project", changes=trained.CHANGES | kinds | chosen)
    table = pd.read_csv(root / "artifacts" / "report" / "leaderboard.csv")
    assert set(table.loc[table["backbone"] == BACKBONE, "model"]) == {
        f"{BACKBONE}/{name}" for name in ("ridge", "xgboost", "finetuned")
    }
    features = root / "artifacts" / "bottlenecks" / BACKBONE
    head = root / "artifacts" / "heads" / BACKBONE / "ridge"
    predictions = root / "artifacts" / "evaluation" / BACKBONE / "ridge" / "predictions.parquet"
    audited = "--out-of-fold", head / "out_of_fold.parquet", "--predictions", predictions, "--out", tmp_path / "audit"
    records = "--records", root / "data" / "tfrecord"
    call_stage("audit", "--params", root / "params.yaml", *records, "--bottlenecks", features, *audited)
    project = Project.open(root)
    models = set(web_page.Pages(project, 1, 1).models)
    assert models == {f"{BACKBONE}/{name}" for name in ("ridge", "xgboost", "finetuned")} | {
        "scratch", "combined/average", "combined/stacking", "combined/finetuned/stacking"
    }  # fmt: skip
    assert "a single cell" in str(heat_map.explainer(project.load(f"{BACKBONE}/ridge")))  # so small are the images
    assert trained_head.load(head).source.backbone == BACKBONE
    assert trained_network.load(root / "artifacts" / "finetuned" / BACKBONE).backbone == BACKBONE
    capsys.readouterr()
    _, out, _ = run_app("predict", "--project", root, image, "--model", f"{BACKBONE}/ridge", "--json")
    assert json.loads(out)[0]["classes"][0]["class"] in ("cat", "dog", "emu")
    export = "export", "--project", root, "--model", f"{BACKBONE}/ridge", "--format", "saved_model"
    assert run_app(*export, "--out", tmp_path / "exported")[0] == 0
    params = changed_params(tmp_path, {"ridge.features": "logits"} | chosen | {"backbones": [BACKBONE]})
    train = "train_heads", "--params", params, "--head", "ridge", "--bottlenecks", features, "--out", tmp_path / "head"
    with pytest.raises(UserError, match=r"`features` must be bottleneck where there are no logits.*'logits'"):
        call_stage(*train)
    extract = "bottleneck_extract", "--params", params, "--backbone", BACKBONE, *records, "--out", tmp_path / "new"
    with pytest.raises(
        UserError, match=rf"^`ridge\.features: logits` needs a backbone's logits.* {BACKBONE} has no top"
    ):
        call_stage(*extract)
