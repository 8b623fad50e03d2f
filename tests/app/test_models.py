"""app.models: which models there are, and that each gives for images what its evaluation found."""

import json

import numpy as np
import pandas as pd
import pytest
import trained
from conftest import changed_params

from app import models, web_page
from app.models import Project
from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.heads import trained_head
from stages.library.records import tfrecord
from stages.library.scoring import probabilities

pytestmark = pytest.mark.slow

COMBINED = "combined/average", "combined/stacking", "combined/finetuned/stacking"
NAMES = {*(f"{trained.BACKBONE}/{name}" for name in (*trained.HEADS, "finetuned")), "scratch", *COMBINED}


@pytest.fixture
def project(trained_project):
    return Project.open(trained_project)


@pytest.fixture
def encoded(trained_project):
    """The test images."""
    shards = tfrecord.find_shards(trained_project / "data" / "tfrecord", "test")
    return [record.encoded for shard in shards for record in tfrecord.read_shard(shard)]


def test_all_evaluated_models_are_listed_best_first_and_their_names_resolved(project, tmp_path):
    results = project.results()
    assert {result.name for result in results} == NAMES
    accuracies = [result.metrics["validation"]["top1_accuracy"] for result in results]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len({result.metrics["validation"]["num_examples"] for result in results}) == 1  # all on the same images
    by_loss = changed_params(tmp_path, trained.CHANGES | {"evaluate.selection_metric": "log_loss"})
    compared = Project.open(project.root, by_loss).results()
    losses = [result.metrics["validation"]["log_loss"] for result in compared]
    assert losses == sorted(losses)
    assert Project.open(project.root, by_loss).choose(None) == compared[0].name
    assert project.choose(None) == results[0].name
    assert all(project.choose(result.model) == result.name for result in results)
    assert project.choose("ridge") == f"{trained.BACKBONE}/ridge"
    assert project.choose("imagenet/inception_v3") == "imagenet/inception_v3"
    with pytest.raises(UserError, match=r"--model must be one of .*ridge.*imagenet/BACKBONE. Received: 'svm'"):
        project.choose("svm")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_model_gives_the_probabilities_of_its_evaluation(project, trained_project, encoded, name):
    model = project.load(project.choose(name))
    predictions = pd.read_parquet(trained_project / "artifacts" / "evaluation" / name / "predictions.parquet")
    evaluated = np.array(predictions["probabilities"].to_list())
    assert len(encoded) == len(evaluated) == 9
    found = model.predict(encoded)
    np.testing.assert_allclose(found, evaluated, atol=1e-3)
    np.testing.assert_allclose(model.compiled().predict(encoded), found, atol=1e-4)
    assert np.ptp(evaluated) > 0.02
    assert model.classes == ("cat", "dog", "emu")


FEATURES = {"ridge": "bottleneck", "logistic": "logits", "softmax": "probabilities", "xgboost": "joined"}


@pytest.mark.parametrize(("head", "kind"), FEATURES.items())
def test_pixels_give_what_cached_features_give(trained_project, tmp_path, write_params, run_stage, encoded, head, kind):
    changes = {"cross_validation__folds": 2, "xgboost__num_trees": 10, "softmax__learning_rate": 0.01}
    params = write_params(**changes, **{f"{head}__features": kind})
    features, folder = trained_project / "artifacts" / "bottlenecks" / trained.BACKBONE, tmp_path / head
    run_stage("train_heads", "--params", params, "--head", head, "--bottlenecks", features, "--out", folder)
    fitted = trained_head.load(folder)
    assert fitted.features == kind
    cached = probabilities.softmax(fitted.logits(cache.load(features, ["test"], kind).values))
    np.testing.assert_allclose(models._head(head, folder, {}).predict(encoded), cached, atol=1e-3)
    assert np.ptp(cached) > 0.1
    content = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    content["source"]["weights_sha256"] = "0" * 64
    artifacts.write_json(folder / "head.json", content)
    with pytest.raises(UserError, match="other weights"):
        models._head(head, folder, {})


def test_the_page_offers_networks_whose_pretrained_file_is_absent(project, monkeypatch):
    for name in ("weights_are_here", "knows_imagenet"):
        monkeypatch.setattr(web_page, name, lambda project, backbone: False)
    pages = web_page.Pages(project, 1, 1)
    # The last one is the fine-tuned network alone.
    assert set(pages.models) == {f"{trained.BACKBONE}/finetuned", "scratch", "combined/finetuned/stacking"}
    monkeypatch.undo()
    assert set(web_page.Pages(project, 1, 1).models) == NAMES | {f"imagenet/{trained.BACKBONE}"}


def test_a_model_whose_folder_is_gone_is_not_listed_and_before_the_first_run_none(trained_project, tmp_path):
    (tmp_path / "params.yaml").symlink_to(trained_project / "params.yaml")
    project = Project.open(tmp_path)
    assert project.results() == []
    with pytest.raises(UserError, match=r"holds no trained model yet\. Run: dvc repro"):
        project.choose(None)
    (tmp_path / "artifacts" / "heads").mkdir(parents=True)
    for part in ("data", "metrics", *(f"artifacts/{made}" for made in ("evaluation", "finetuned", "scratch"))):
        (tmp_path / part).symlink_to(trained_project / part)
    names = {result.name for result in Project.open(tmp_path).results()}
    assert names == {f"{trained.BACKBONE}/finetuned", "scratch"}
