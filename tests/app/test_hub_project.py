"""A project on a small network of KerasHub with random weights, from its published layout to an export."""

import json

import numpy as np
import pytest
import skimage.data
import trained
from conftest import call_stage, changed_params
from PIL import Image

from app import heat_map
from app.exporting.formats import FORMATS
from app.models import Project
from checks import hub_files
from stages.library.common.plugins import PLUGINS, members
from stages.library.features import cache
from stages.library.networks import hub
from stages.library.training import trained_network

pytest.importorskip("keras_hub", reason="requirements-hub.txt is not installed")

CONFIG = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_register_tokens": 4}


@pytest.mark.slow
def test_features_heads_fine_tuning_prediction_and_export(tmp_path, monkeypatch, run_app, capsys):
    preset = hub.preset("tiny", "dinov2_with_registers", "none/none", 0, image_size=70, **CONFIG)
    monkeypatch.setitem(members(PLUGINS["backbones"]), "tiny", preset)
    (tmp_path / "weights").mkdir()
    hub_files.write(tmp_path / "weights", preset.config)
    chosen = {"extract.weights": {"tiny": str(tmp_path / "weights")}, "extract.feature_blocks": 2}
    chosen |= {"extract.input_size_px": 56, "finetune.unfrozen_blocks": 2, "backbones": ["tiny"], "heads": ["ridge"]}
    root = trained.build(tmp_path / "project", changes=trained.CHANGES | chosen)
    folder = root / "artifacts" / "bottlenecks" / "tiny"
    features = cache.load(folder, ["train"], "bottleneck")
    assert features.values.shape[1] == 3 * 32
    (source,) = features.source.members
    assert source.feature_blocks == 2

    project = Project.open(root)
    assert heat_map.explainer(project.load("tiny/ridge")) == "the network has no convolution maps"
    network = trained_network.load(root / "artifacts" / "finetuned" / "tiny")
    assert network.model.get_layer("bottleneck").output.shape == (None, 3 * 32)
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "cat.png")
    capsys.readouterr()
    for name, formats in {"tiny/ridge": FORMATS, "tiny/finetuned": ("saved_model",)}.items():
        _, out, _ = run_app("predict", "--project", root, tmp_path / "cat.png", "--model", name, "--json")
        assert json.loads(out)[0]["classes"][0]["class"] in ("cat", "dog", "emu")
        for form in formats:
            export = "export", "--project", root, "--model", name, "--format", form
            assert run_app(*export, "--out", tmp_path / f"{name.split('/')[1]}-{form}")[0] == 0
    error, _, _ = run_app("predict", "--project", root, tmp_path / "cat.png", "--model", "imagenet/tiny")
    assert error == "error: imagenet/tiny needs a backbone's logits, and tiny has none. Use a trained model"

    pytest.importorskip("openvino", reason="requirements-openvino.txt is not installed")
    params = changed_params(tmp_path, trained.CHANGES | chosen | {"extract.runtime": "openvino"})
    records = "--records", root / "data" / "tfrecord"
    other = tmp_path / "openvino"
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path / "cache"))
    call_stage("bottleneck_extract", "--params", params, "--backbone", "tiny", *records, "--out", other)
    found = cache.load(other, ["train"], "bottleneck")
    np.testing.assert_allclose(found.values, features.values, atol=0.02)  # float16
