"""Heads on two backbones side by side: trained without a network, then used by every program as any other model."""

import sys
from dataclasses import replace

import contents
import numpy as np
import pandas as pd
import pytest
import trained
from conftest import call_stage, changed_params

from app import explanation
from app.exporting.formats import FORMATS
from app.model_cache import ModelCache
from app.models import Project
from app.web_page import Pages
from stages.library.features.source import Joined
from stages.library.figures import thumbnails
from tests import sharded

pytestmark = pytest.mark.slow

OTHER = "efficientnet_lite1"
NAME = f"{trained.BACKBONE}+{OTHER}"
HEADS = "ridge", "xgboost"


@pytest.fixture(scope="module")
def root(trained_project, tmp_path_factory):
    """A project of the same images, whose heads were trained and evaluated where no network could be run."""
    root = tmp_path_factory.mktemp("joined")
    changes = {"backbones": [trained.BACKBONE, OTHER], "joined": [NAME], "heads": list(HEADS)}
    params = changed_params(root, trained.CHANGES | changes)
    (root / "data").symlink_to(trained_project / "data")
    features, shards = root / "artifacts" / "bottlenecks", root / "data" / "tfrecord"
    features.mkdir(parents=True)
    (features / trained.BACKBONE).symlink_to(trained_project / "artifacts" / "bottlenecks" / trained.BACKBONE)
    given = "--params", params
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        call_stage("bottleneck_extract", *given, "--backbone", OTHER, "--records", shards, "--out", features / OTHER)
        for module in ("tensorflow", "keras"):
            patch.setitem(sys.modules, module, None)  # an import of it is an error
        for name in HEADS:
            head, place = root / "artifacts" / "heads" / NAME / name, f"{NAME}/{name}"
            for out in (head, root / "again" / name):
                call_stage("train_heads", *given, "--head", name, "--bottlenecks", features / NAME, "--out", out)
            outs = "--metrics", root / "metrics" / f"{place}.json", "--figures", root / "artifacts/evaluation" / place
            source = "--records", shards, "--head", head, "--bottlenecks", features / NAME
            call_stage("evaluate", *given, *source, *outs)
    return root


@pytest.fixture
def project(root):
    return Project.open(root)


@pytest.fixture
def records(root):
    return sharded.read(root / "data" / "tfrecord")


@pytest.mark.parametrize("name", HEADS)
def test_two_runs_give_the_same_bytes(root, name):
    assert contents.of(root / "again" / name) == contents.of(root / "artifacts" / "heads" / NAME / name)


@pytest.mark.parametrize("name", HEADS)
def test_images_give_what_was_evaluated_in_one_pass_of_each_network(project, root, records, name):
    assert {result.name for result in project.results()} == {f"{NAME}/{head}" for head in HEADS}
    model, calls = project.load(f"{NAME}/{name}"), []

    def counted(network):
        def run(images, training):
            calls.append(id(network))
            return network(images, training=training)

        return run

    parts = tuple(replace(part, network=counted(part.network)) for part in model.parts)
    found = replace(model, parts=parts).predict([record.encoded for record in records["test"]])
    assert sorted(calls) == sorted({id(part.network) for part in model.parts})
    assert len(calls) == 2
    predictions = pd.read_parquet(root / "artifacts" / "evaluation" / NAME / name / "predictions.parquet")
    np.testing.assert_allclose(found, np.array(predictions["probabilities"].to_list()), atol=1e-3)
    assert isinstance(model.trained.source, Joined)
    assert model.trained.source.backbone == NAME
    assert np.ptp(found) > 0.1


def test_the_web_page_has_heat_map_and_neighbours(project, records):
    models, image = ModelCache(project, 2), records["train"][5]
    assert set(Pages(project, 1, 1).trained) == {f"{NAME}/{head}" for head in HEADS}
    pixels, deadline = thumbnails.decode(image.encoded), explanation.Deadline(900)
    answer = explanation.explain(models.get(f"{NAME}/ridge", deadline), pixels, None, deadline)
    assert answer.heat_map is not None
    height, width, _ = thumbnails.decode(answer.heat_map).shape  # as large as it is shown
    assert height * pixels.shape[1] == width * pixels.shape[0]
    assert answer.compared_by == NAME
    assert answer.neighbours[0][0] == explanation.thumbnail(image.encoded)
    assert answer.neighbours[0][2] == pytest.approx(1, abs=1e-3)
    assert answer.neighbours[1][2] < 0.999
    trees = explanation.explain(models.get(f"{NAME}/xgboost", deadline), pixels, None, deadline)
    assert (trees.heat_map, len(trees.neighbours)) == (None, len(answer.neighbours))


@pytest.mark.parametrize("form", FORMATS)
def test_one_exported_file_holds_both_networks(root, run_app, tmp_path, form):
    out = tmp_path / "out"
    options = "--project", root, "--model", f"{NAME}/ridge", "--format", form, "--out", out, "--check", 4
    status, printed, _ = run_app("export", *options)
    assert status == 0
    assert "same class for " in printed
    about = pd.read_json(out / "model.json", typ="series")
    assert [network["backbone"] for network in about["networks"]] == [trained.BACKBONE, OTHER]
    assert all(len(network["pretrained_sha256"]) == 64 for network in about["networks"])


def test_costs_are_those_of_both(root, run_app, tmp_path):
    status, _, _ = run_app("costs", "--project", root, "--out", tmp_path / "costs", "--images", 16)
    assert status == 0
    costs = pd.read_csv(tmp_path / "costs" / "costs.csv", index_col="model")
    assert set(costs.index) == {f"{NAME}/{head}" for head in HEADS}
    assert (costs["extract_seconds"] > 0).all()
    assert costs["size_bytes"][f"{NAME}/ridge"] > 4 * (3.4e6 + 4.1e6)  # parameters without the tops
