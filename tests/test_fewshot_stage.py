"""The stage fewshot: its tables, numbers and picture agree, and depend on the pictures alone."""

import csv
import json
from dataclasses import replace

import described
import numpy as np
import pytest
import test_train_heads
from test_fewshot import CLASSES, SETTINGS, key_of

from stages.library import artifacts, bottlenecks, leaderboard

SOURCE = replace(test_train_heads.SOURCE, backbone="efficientnet_lite0", classes=CLASSES)


def write_bottlenecks(folder, splits=("train", "validation", "test"), noise=2.5):
    """30 pictures of each class and two copies, as shards of the given splits in turn; the splits' order is theirs."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(3), 30), [1, 2]])
    values = rng.normal(size=(3, 10))[labels] * 2 + noise * rng.normal(size=(92, 10))
    keys = [key_of(i) for i in range(90)] + [key_of(31), key_of(61)]
    values[90:] = values[[31, 61]]
    folder.mkdir()
    for offset, split in enumerate(splits):
        writer = bottlenecks.ShardWriter(folder / f"{split}-00000-of-00001.parquet", SOURCE, 10, 6)
        rows = np.arange(offset, 92, 3)
        writer.write([keys[row] for row in rows], labels[rows], values[rows], values[rows, :6])
        writer.close()
    return folder


@pytest.fixture
def few(tmp_path, run_stage, write_params):
    artifacts.write_json(tmp_path / "records" / "dataset.json", described.dataset("caltech101"))

    def run(source, out="out", **changes):
        params = write_params(fewshot=SETTINGS | changes, softmax__epochs=3)
        paths = {"params": params, "bottlenecks": source, "records": tmp_path / "records", "out": tmp_path / out}
        paths["metrics"] = tmp_path / f"{out}.json"
        arguments = [part for key, path in paths.items() for part in (f"--{key}", path)]
        run_stage("fewshot", "--backbone", "efficientnet_lite0", *arguments)
        return tmp_path / out

    return run


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_outs_agree_with_each_other(tmp_path, few, capsys):
    out = few(write_bottlenecks(tmp_path / "features"))
    draws, summary = read_csv(out / "draws.csv"), read_csv(out / "summary.csv")
    assert len(draws) == 2 * 2 * 2 * 2  # heads, sizes, draws, with and without background
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert set(numbers) == {"ridge", "softmax"}
    for row in summary:
        own = [d for d in draws if all(d[key] == row[key] for key in ("head", "train_per_class", "background"))]
        accuracies = [float(d["top1_accuracy"]) for d in own]
        assert float(row["top1_accuracy_mean"]) == pytest.approx(np.mean(accuracies), abs=2e-6)
        assert float(row["top1_accuracy_std"]) == pytest.approx(np.std(accuracies, ddof=1), abs=2e-6)
        place = numbers[row["head"]][f"{row['train_per_class']}_per_class"]
        place = place["without_background"] if row["background"] == "without" else place
        assert place["top1_accuracy"]["mean"] == float(row["top1_accuracy_mean"]) > 0.6
        pictures = 90 if row["background"] == "with" else 60  # the two copies are left out
        assert int(row["n_train"]) + int(row["n_test"]) == pictures
    assert {json.loads(d["chosen"]).get("penalty") is not None for d in draws if d["head"] == "ridge"} == {True}
    about = json.loads((out / "fewshot.json").read_text())
    digest = artifacts.sha256_file(tmp_path / "records" / "dataset.json")
    assert about == {"backbone": "efficientnet_lite0", "dataset": {"name": "caltech101", "sha256": digest}}
    assert (out / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "ridge, 5 pictures of each class, without background: top-1 0." in printed
    assert "90 pictures, 2 copies left out, 16 fits" in printed


def test_splits_and_shards_do_not_matter_and_two_runs_give_the_same_bytes(tmp_path, few):
    first = few(write_bottlenecks(tmp_path / "features"), "first")
    second = few(write_bottlenecks(tmp_path / "moved", ("test", "train", "validation")), "second")
    names = ["draws.csv", "fewshot.json", "learning_curve.png", "summary.csv"]
    assert sorted(path.name for path in first.iterdir()) == names
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    third = few(write_bottlenecks(tmp_path / "noisy", noise=4.0), "third")
    assert (first / "draws.csv").read_bytes() != (third / "draws.csv").read_bytes()


def test_a_size_that_a_class_lacks_is_named_and_the_others_run(tmp_path, few, capsys):
    out = few(write_bottlenecks(tmp_path / "features"), train_per_class=[3, 30, 31], heads=["ridge"])
    assert {row["train_per_class"] for row in read_csv(out / "draws.csv")} == {"3"}
    printed = capsys.readouterr().out
    assert "[30, 31] training pictures of each class are left out, for 'BACKGROUND_Google' has 30 pictures" in printed


def test_where_no_size_is_possible_the_tables_are_empty_and_the_pipeline_goes_on(tmp_path, few):
    out = few(write_bottlenecks(tmp_path / "features"), train_per_class=[30])
    assert read_csv(out / "summary.csv") == []
    assert (out / "draws.csv").read_text().startswith("head,features,train_per_class,draw,")
    assert json.loads((tmp_path / "out.json").read_text()) == {}
    assert (out / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "efficientnet_lite0").mkdir()
    evaluations = out.rename(tmp_path / "efficientnet_lite0" / leaderboard.FEWSHOT)
    digest = artifacts.sha256_file(tmp_path / "records" / "dataset.json")
    found = leaderboard.collect_fewshot(evaluations.parents[1], digest, ["efficientnet_lite0"])
    assert found == ([], [])
