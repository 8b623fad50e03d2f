"""Near copies on both sides of a split, a fold or a draw are seen as accuracy on labels that nothing can predict."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from stages.library.features import cache
from stages.library.features.source import Source
from stages.library.heads import trained_head
from stages.library.records import manifest as manifests
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import SPLITS
from stages.library.scoring import metrics
from stages.library.sources import contract as datasets
from stages.library.sources.contract import SourceImage

GROUPS, COPIES, SIDE = 200, 4, 16  # more features than groups, so that a linear head can learn all by heart


def near_copies():
    """Images of GROUPS patients, each COPIES times with a little noise; a patient's class is a coin's."""
    rng = np.random.default_rng(0)
    for patient in range(GROUPS):
        pixels, text = rng.integers(20, 236, (SIDE, SIDE)), "ab"[rng.integers(2)]
        for copy in range(COPIES):
            noisy = (pixels + rng.integers(-5, 6, pixels.shape)).astype(np.uint8)
            yield SourceImage(f"{text}/patient_{patient}_{copy}", text, None, noisy)


def write_features(shards, folder):
    """The pixels of every record, as bottleneck-extract writes features."""
    classes = tuple(json.loads((shards / "dataset.json").read_text())["classes"])
    source = Source("tiny", Preprocessing(32), False, "a" * 64, "f" * 64, classes)
    folder.mkdir()
    for split in SPLITS:
        found = manifests.read(shards, [split])
        images = [Image.open(io.BytesIO(record.encoded)) for record in found.records(range(len(found.keys)))]
        values = np.array([np.asarray(image.convert("L")).ravel() / 255 for image in images])
        writer = cache.ShardWriter(folder / f"{split}-00000-of-00001.parquet", source, values.shape[1], 2)
        keys, about = found.keys.astype(str).tolist(), (found.groups, found.weights)
        writer.write(keys, found.labels, values, values[:, :2], *about)
        writer.close()
    return folder


def interval(groups):
    """How far from one half the accuracy on so many groups of coin labels is at most, with a chance of 99%."""
    return 2.58 * (0.25 / groups) ** 0.5


@pytest.mark.parametrize(("group", "near"), [("none", "ignore"), (r"patient_(\d+)_", "ignore"), ("none", "together")])
def test_only_without_groups_labels_that_are_random_are_predicted(
    tmp_path, write_params, run_stage, monkeypatch, group, near
):
    grouped = (group, near) != ("none", "ignore")
    monkeypatch.setattr(datasets, "lookup", lambda name: SimpleNamespace(read=lambda params, raw: near_copies()))
    params, shards = write_params(split__group=group, split__near_duplicates=near), tmp_path / "shards"
    run_stage("tfrecord", "--params", params, "--out", shards, "--examples", tmp_path / "examples.png")
    features, head = write_features(shards, tmp_path / "features"), tmp_path / "head"
    run_stage("train_heads", "--params", params, "--head", "ridge", "--bottlenecks", features, "--out", head)
    tested = cache.load(features, ["test"], "bottleneck")
    of_test = metrics.top1_accuracy(trained_head.load(head).logits(tested.values), tested.labels)
    of_folds = json.loads((head / "cross_validation.json").read_text())["top1_accuracy"]["mean"]
    what = "--head", "ridge", "--shots", 160, "--bottlenecks", features
    outs = "--records", shards, "--metrics", tmp_path / "few.json", "--out", tmp_path / "few"
    run_stage("fewshot", "--params", params, *what, *outs)
    of_draws = json.loads((tmp_path / "few.json").read_text())["top1_accuracy"]["mean"]
    for accuracy, groups in ((of_test, GROUPS * 0.2), (of_folds, GROUPS * 0.8), (of_draws, GROUPS * 0.6)):
        assert abs(accuracy - 0.5) < interval(groups) if grouped else accuracy > 0.85, (of_test, of_folds, of_draws)
