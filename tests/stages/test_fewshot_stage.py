"""The stage fewshot: its table and numbers agree, and depend on the images alone."""

import json
import re
from dataclasses import replace

import contents
import described
import numpy as np
import pandas as pd
import pytest

from stages.library.common import artifacts
from stages.library.features import cache
from tests.stages import test_train_heads
from tests.stages.library.test_fewshot import CLASSES, SETTINGS, key_of

SOURCE = replace(test_train_heads.SOURCE, backbone="efficientnet_lite0", classes=CLASSES)


def write_bottlenecks(
    folder, splits=("train", "validation", "test"), noise=2.5, per_class=(30, 30, 30), source=SOURCE, seed=0
):
    """Images of three classes and two copies, as shards of the given splits in turn; the splits' order is theirs."""
    rng, labels = np.random.default_rng(seed), np.repeat(np.arange(3), per_class)
    images = [*range(len(labels)), *(np.flatnonzero(labels == label)[1] for label in (1, 2))]
    values = rng.normal(size=(3, 10))[labels] * 2 + noise * rng.normal(size=(len(labels), 10))
    folder.mkdir()
    for offset, split in enumerate(splits):
        rows = images[offset::3]
        writer = cache.ShardWriter(folder / f"{split}-00000-of-00001.parquet", source, 10, 6)
        writer.write([key_of(row) for row in rows], labels[rows], values[rows], values[rows, :6])
        writer.close()
    return folder


@pytest.fixture
def few(tmp_path, run_stage, write_params):
    artifacts.write_json(tmp_path / "records" / "dataset.json", described.dataset("caltech101"))

    def run(source, out="out", head="ridge", shots=5, **changes):
        params = write_params(fewshot=SETTINGS | changes, softmax__epochs=3)
        what = "--params", params, "--head", head, "--shots", shots
        paths = "--bottlenecks", source, "--records", tmp_path / "records", "--out", tmp_path / out
        run_stage("fewshot", *what, *paths, "--metrics", tmp_path / f"{out}.json")
        return tmp_path / out

    return run


@pytest.mark.parametrize(("head", "chooses"), [("ridge", True), ("softmax", False)])
def test_outs_agree_with_each_other(tmp_path, few, capsys, head, chooses):
    out = few(write_bottlenecks(tmp_path / "features"), head=head)
    repeats, numbers = pd.read_csv(out / "repeats.csv"), json.loads((tmp_path / "out.json").read_text())
    assert list(repeats["background"]) == ["with", "without"] * 2
    for background, place, images in (("with", numbers, 90), ("without", numbers["without_background"], 60)):
        own = repeats[repeats["background"] == background]
        for metric in ("top1_accuracy", "balanced_accuracy"):
            assert place[metric] == pytest.approx({"mean": own[metric].mean(), "std": own[metric].std()}, abs=2e-6)
        assert place["top1_accuracy"]["mean"] > 0.6
        assert set(own["n_test"]) == {place["num_examples"]}
        assert set(own["n_train"] + own["n_test"]) == {images}  # two copies are left out
    assert {"penalty" in json.loads(chosen) for chosen in repeats["best_params"]} == {chooses}
    about = {"backbone": "efficientnet_lite0", "head": head, "features": "bottleneck", "shots": 5, "repeats": 2}
    (digest,) = contents.of(tmp_path / "records").values()
    about |= {"classes_left_out": [], "dataset": {"name": "caltech101", "sha256": digest}}
    assert json.loads((out / "fewshot.json").read_text()) == about
    printed = rf"{head} on efficientnet_lite0, 5 images of each class: top-1 0\..*90 images, 2 copies left out"
    assert re.search(printed, capsys.readouterr().out)


def test_splits_and_shards_do_not_matter_and_two_runs_give_the_same_bytes(tmp_path, few):
    first = few(write_bottlenecks(tmp_path / "features"), "first")
    second = few(write_bottlenecks(tmp_path / "moved", ("test", "train", "validation")), "second")
    assert list(contents.of(first)) == ["fewshot.json", "repeats.csv"]
    assert contents.of(first) == contents.of(second)
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    third = few(write_bottlenecks(tmp_path / "noisy", noise=4.0), "third")
    assert (first / "repeats.csv").read_bytes() != (third / "repeats.csv").read_bytes()


def test_features_of_several_backbones_side_by_side_say_more(tmp_path, few):
    """Each has noise of its own; the name of a joined one is no folder."""
    for seed in (0, 1):
        source = replace(SOURCE, backbone=f"efficientnet_lite{seed}")
        write_bottlenecks(tmp_path / source.backbone, noise=4.0, source=source, seed=seed)
    joined = "efficientnet_lite0+efficientnet_lite1"
    for name in ("efficientnet_lite0", "efficientnet_lite1", joined):
        out = few(tmp_path / name, f"out-{name}", repeats=5)
        assert json.loads((out / "fewshot.json").read_text())["backbone"] == name
    one, other, both = (
        json.loads((tmp_path / f"out-{name}.json").read_text())["top1_accuracy"]["mean"]
        for name in ("efficientnet_lite0", "efficientnet_lite1", joined)
    )
    assert both > max(one, other)


def test_a_class_that_is_too_small_sits_out_by_name_and_the_others_run(tmp_path, few, capsys):
    source = write_bottlenecks(tmp_path / "features", per_class=(9, 30, 30))
    out = few(source, shots=9)
    assert json.loads((out / "fewshot.json").read_text())["classes_left_out"] == ["BACKGROUND_Google"]
    assert (pd.read_csv(out / "repeats.csv")[["n_train", "n_test"]] == [18, 42]).all(axis=None)
    assert "9 and one or a group to test are more images than these have: BACKGROUND_Google" in capsys.readouterr().out
