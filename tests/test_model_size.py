"""What a model weighs: its files that predict, and the network that a head stands on."""

from stages.library import backbones, model_size


def test_a_network_is_its_files_without_what_training_left(tmp_path):
    (tmp_path / "best.weights.h5").write_bytes(bytes(1000))
    (tmp_path / "config.json").write_bytes(bytes(10))
    for name in model_size.BOOKKEEPING:
        (tmp_path / name).write_bytes(bytes(5000))
    assert model_size.in_bytes(tmp_path, None) == 1010


def test_a_head_stands_on_its_backbone(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(bytes(100))
    lite0 = backbones.lookup("efficientnet_lite0").BACKBONE.num_parameters
    assert model_size.in_bytes(tmp_path, "efficientnet_lite0") == 100 + 4 * lite0
