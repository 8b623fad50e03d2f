"""What a model weighs: its files that predict, and the network that a head stands on."""

import pytest

from stages.library.evaluation import model_size


def test_a_network_is_its_files_without_what_training_left(tmp_path):
    (tmp_path / "best.weights.h5").write_bytes(bytes(1000))
    (tmp_path / "config.json").write_bytes(bytes(10))
    for name in model_size.BOOKKEEPING:
        (tmp_path / name).write_bytes(bytes(5000))
    assert model_size.in_bytes(tmp_path, "efficientnet_lite0", None) == 1010


@pytest.mark.parametrize(("features", "classifier"), [("bottleneck", False), ("logits", True), ("joined", True)])
def test_a_head_stands_on_as_much_of_its_backbone_as_it_reads(tmp_path, features, classifier):
    (tmp_path / "weights.safetensors").write_bytes(bytes(100))
    parameters = 4_652_008 if classifier else 4_652_008 - 1281 * 1000  # kernel and bias of 1,000 classes
    assert model_size.in_bytes(tmp_path, "efficientnet_lite0", features) == 100 + 4 * parameters
