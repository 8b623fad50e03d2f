"""Networks of KerasHub: the table, and without the package; test_hub_networks.py has the networks."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from stages.library import networks
from stages.library.common.console import UserError
from stages.library.networks import hub
from stages.plugins.backbones.families.hub import MEMBERS


def test_the_table():
    assert set(MEMBERS) == {
        *("dinov2_small", "dinov2_base", "dinov2_small_registers", "dinov2_base_registers", "dinov3_vits16"),
        *("siglip2_base", "vit_base", "swin_tiny"),
    }
    widths = {name: preset.BACKBONE.feature_width for name, preset in MEMBERS.items()}
    assert len({weights.sha256 for preset in MEMBERS.values() for weights in preset.BACKBONE.weights.values()}) == 7
    assert (widths["dinov2_small"], widths["dinov2_base_registers"], widths["siglip2_base"]) == (768, 1536, 1536)
    assert widths["swin_tiny"] == 768
    for name, preset in MEMBERS.items():
        (weights,) = preset.BACKBONE.weights.values()
        assert preset.BACKBONE.name == name
        assert preset.BACKBONE.num_logits == 0
        assert weights.urls[0].startswith("https://huggingface.co/")
        assert (weights.sha256 is None) == (name in ("dinov2_small_registers", "dinov3_vits16"))
        assert preset.BACKBONE.input_size_px % preset.step_px == 0
        assert preset.BACKBONE.min_input_px % preset.step_px == 0


@pytest.mark.parametrize(
    ("name", "step_px", "least_px"), [("dinov2_small", 14, 42), ("siglip2_base", 16, 32), ("swin_tiny", 224, 224)]
)
def test_sides_are_multiples_of_patches_and_windows(name, step_px, least_px):
    preset = MEMBERS[name]
    assert (preset.step_px, preset.BACKBONE.min_input_px) == (step_px, least_px)
    for side in (step_px * 3 + 1, least_px - step_px):
        message = f"`extract.input_size_px` must be a multiple of {step_px} for {name}, from {least_px} on, for its "
        message += f"patches or windows to fit, or null for its own 224. Received: {side}"
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            preset.build(side)


def test_blocks_of_class_tokens():
    preset = MEMBERS["dinov2_small"]
    four = preset.with_feature_blocks(4)
    assert (four.feature_blocks, four.BACKBONE.feature_width) == (4, 5 * 384)
    assert four.with_feature_blocks(1) == preset == preset.with_feature_blocks(1)
    message = r"^`extract\.feature_blocks` must be at most 12 for dinov2_small\. Received: 13$"
    with pytest.raises(UserError, match=message):
        preset.with_feature_blocks(13)
    for name in ("siglip2_base", "swin_tiny"):  # without such a token
        assert MEMBERS[name].with_feature_blocks(4) is MEMBERS[name]


def test_without_the_package_the_requirements_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    monkeypatch.delitem(sys.modules, "stages.library.networks.hub_networks", raising=False)
    monkeypatch.delattr(networks, "hub_networks", raising=False)
    message = r"^the backbone vit_base needs what is missing \(keras_hub\)\. Run: pip install -r requirements-hub\.txt$"
    with pytest.raises(UserError, match=message):
        MEMBERS["vit_base"].build(224)
    with pytest.raises(UserError, match=message):
        MEMBERS["vit_base"].load_weights(None, tmp_path / "model.safetensors")


def test_the_table_imports_neither_keras_nor_keras_hub():
    code = "import sys; from stages.library.networks import hub; print({'keras', 'keras_hub'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_network_of_ones_own_is_a_row():
    about = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    own = hub.preset("tiny", "dinov2", "me/tiny", 1, **about)
    assert own.BACKBONE.blocks == {"stem": "stem", "block_1": "block_1", "block_2": "bottleneck"}
    assert own.BACKBONE.feature_width == 128
    assert own.config["image_size"] == 518
