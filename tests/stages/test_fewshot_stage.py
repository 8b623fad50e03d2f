"""The stage fewshot: its table and numbers agree, and depend on the images alone."""

import csv
import json
from dataclasses import replace

import described
import numpy as np
import pytest

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.features import cache
from tests.stages import test_train_heads
from tests.stages.library.test_fewshot import CLASSES, SETTINGS, key_of

SOURCE = replace(test_train_heads.SOURCE, backbone="efficientnet_lite0", classes=CLASSES)


def write_bottlenecks(folder, splits=("train", "validation", "test"), noise=2.5, per_class=(30, 30, 30)):
    """Images of three classes and two copies, as shards of the given splits in turn; the splits' order is theirs."""
    rng = np.random.default_rng(0)
    count = sum(per_class)
    labels = np.concatenate([np.repeat(np.arange(3), per_class), [1, 2]])
    values = rng.normal(size=(3, 10))[labels] * 2 + noise * rng.normal(size=(count + 2, 10))
    copied = [np.flatnonzero(labels == label)[1] for label in (1, 2)]
    keys = [key_of(i) for i in range(count)] + [key_of(i) for i in copied]
    values[count:] = values[copied]
    folder.mkdir()
    for offset, split in enumerate(splits):
        writer = cache.ShardWriter(folder / f"{split}-00000-of-00001.parquet", SOURCE, 10, 6)
        rows = np.arange(offset, count + 2, 3)
        writer.write([keys[row] for row in rows], labels[rows], values[rows], values[rows, :6])
        writer.close()
    return folder


@pytest.fixture
def few(tmp_path, run_stage, write_params):
    artifacts.write_json(tmp_path / "records" / "dataset.json", described.dataset("caltech101"))

    def run(source, out="out", head="ridge", shots=5, **changes):
        params = write_params(fewshot=SETTINGS | changes, softmax__epochs=3)
        paths = {"params": params, "bottlenecks": source, "records": tmp_path / "records", "out": tmp_path / out}
        paths["metrics"] = tmp_path / f"{out}.json"
        arguments = [part for key, path in paths.items() for part in (f"--{key}", path)]
        run_stage("fewshot", "--backbone", "efficientnet_lite0", "--head", head, "--shots", shots, *arguments)
        return tmp_path / out

    return run


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("head", "chooses"), [("ridge", True), ("softmax", False)])
def test_outs_agree_with_each_other(tmp_path, few, capsys, head, chooses):
    out = few(write_bottlenecks(tmp_path / "features"), head=head)
    repeats, numbers = read_csv(out / "repeats.csv"), json.loads((tmp_path / "out.json").read_text())
    assert len(repeats) == 2 * 2  # repeats, with and without background
    for background, place, images in (("with", numbers, 90), ("without", numbers["without_background"], 60)):
        own = [row for row in repeats if row["background"] == background]
        accuracies = [float(row["top1_accuracy"]) for row in own]
        assert place["top1_accuracy"]["mean"] == pytest.approx(np.mean(accuracies), abs=2e-6)
        assert place["top1_accuracy"]["mean"] > 0.6
        assert place["top1_accuracy"]["std"] == pytest.approx(np.std(accuracies, ddof=1), abs=2e-6)
        assert {(int(row["n_train"]) + int(row["n_test"])) for row in own} == {images}  # two copies are left out
    assert {"penalty" in json.loads(row["best_params"]) for row in repeats} == {chooses}
    digest = artifacts.sha256_file(tmp_path / "records" / "dataset.json")
    assert json.loads((out / "fewshot.json").read_text()) == {
        "backbone": "efficientnet_lite0",
        "head": head,
        "features": "bottleneck",
        "shots": 5,
        "repeats": 2,
        "classes_left_out": [],
        "dataset": {"name": "caltech101", "sha256": digest},
    }
    printed = capsys.readouterr().out
    assert f"{head} on efficientnet_lite0, 5 images of each class: top-1 0." in printed
    assert "90 images, 2 copies left out" in printed


def test_splits_and_shards_do_not_matter_and_two_runs_give_the_same_bytes(tmp_path, few):
    first = few(write_bottlenecks(tmp_path / "features"), "first")
    second = few(write_bottlenecks(tmp_path / "moved", ("test", "train", "validation")), "second")
    names = ["fewshot.json", "repeats.csv"]
    assert sorted(path.name for path in first.iterdir()) == names
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    third = few(write_bottlenecks(tmp_path / "noisy", noise=4.0), "third")
    assert (first / "repeats.csv").read_bytes() != (third / "repeats.csv").read_bytes()


def test_a_class_that_is_too_small_sits_out_by_name_and_the_others_run(tmp_path, few, capsys):
    source = write_bottlenecks(tmp_path / "features", per_class=(9, 30, 30))
    out = few(source, shots=9)
    assert json.loads((out / "fewshot.json").read_text())["classes_left_out"] == ["BACKGROUND_Google"]
    assert {(row["n_train"], row["n_test"]) for row in read_csv(out / "repeats.csv")} == {("18", "42")}
    assert "9 and one to test are more images than these have: BACKGROUND_Google" in capsys.readouterr().out


def test_where_no_problem_is_left_the_key_and_its_value_are_named(tmp_path, few):
    with pytest.raises(UserError, match=r"`fewshot.shots` must leave at least 2 classes .* Received: 30"):
        few(write_bottlenecks(tmp_path / "features"), shots=30)
