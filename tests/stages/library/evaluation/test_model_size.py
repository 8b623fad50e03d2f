"""What a model weighs: its files that predict, and the network that a head stands on."""

from stages.library.evaluation import model_size


def test_only_what_predicts_counts_and_of_a_backbone_as_much_as_its_head_reads(tmp_path):
    for name in ("best.weights.h5", *model_size.BOOKKEEPING):
        (tmp_path / name).write_bytes(bytes(1000))

    def size(features):
        return model_size.in_bytes(tmp_path, "efficientnet_lite0", features)

    whole = 1000 + 4 * 4_652_008
    assert (size(None), size("logits"), size("joined")) == (1000, whole, whole)
    assert size("bottleneck") == whole - 4 * 1281 * 1000  # kernel and bias of 1,000 classes
