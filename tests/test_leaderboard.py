"""The table: order, cells, stale results."""

import csv
import io
import json

import pytest

from stages.library import leaderboard
from stages.library.console import UserError

METRICS = {
    "top1_accuracy": 0.9,
    "top1_accuracy_interval": {"low": 0.85, "high": 0.95},
    "top5_accuracy": 0.99,
    "mean_class_accuracy": 0.88,
    "macro_f1": 0.87,
    "log_loss": 0.3,
    "expected_calibration_error": 0.02,
    "num_examples": 1234,
}
CROSS_VALIDATION = {"cross_validation": {"top1_accuracy": {"mean": 0.91, "std": 0.011}}}


@pytest.fixture
def add(tmp_path):
    def add(name, top1, model="ridge", backbone="efficientnet_lite0", digest="d", more=None):
        path = tmp_path / "metrics" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(METRICS | {"top1_accuracy": top1} | (more or {})))
        figures = tmp_path / "evaluation" / name
        figures.mkdir(parents=True)
        about = {"model": model, "kind": "head", "backbone": backbone, "dataset": {"name": "x", "sha256": digest}}
        (figures / "evaluation.json").write_text(json.dumps(about))
        return figures

    return add


def collect(tmp_path):
    listed = {"a/ridge", "a/softmax", "a/old", "a/lost", "b/ridge", "b/finetuned", "scratch"}
    return leaderboard.collect(tmp_path / "metrics", tmp_path / "evaluation", "d", listed)


def test_the_best_model_comes_first_and_ties_go_by_name(add, tmp_path):
    for name, top1 in (("b/ridge", 0.8), ("a/softmax", 0.8), ("scratch", 0.7), ("b/finetuned", 0.95)):
        add(name, top1)
    results, left_out = collect(tmp_path)
    assert [result.name for result in results] == ["b/finetuned", "a/softmax", "b/ridge", "scratch"]
    assert left_out == []


def test_stale_results_are_left_out_and_named(add, tmp_path):
    add("a/ridge", 0.8)
    add("a/old", 0.99, digest="another")
    (add("a/lost", 0.99) / "evaluation.json").unlink()
    results, left_out = collect(tmp_path)
    assert [result.name for result in results] == ["a/ridge"]
    assert ["lost.json" in left_out[0], "missing" in left_out[0]] == [True, True]
    assert ["old.json" in left_out[1], "another data set" in left_out[1]] == [True, True]


def test_a_model_that_params_no_longer_list_is_left_out_and_named(add, tmp_path):
    add("a/ridge", 0.8)
    add("a/dnn", 0.9)
    results, left_out = collect(tmp_path)
    assert [result.name for result in results] == ["a/ridge"]
    assert len(left_out) == 1
    assert "dnn.json" in left_out[0]


def test_nothing_to_compare_is_an_error(add, tmp_path):
    add("a/old", 0.99, digest="another")
    with pytest.raises(UserError, match="no result on the present data set"):
        collect(tmp_path)


def test_cells_read_as_people_write_them(add, tmp_path):
    add("a/ridge", 0.9, more=CROSS_VALIDATION)
    add("scratch", 0.8, model="scratch", backbone=None)
    head, scratch = map(leaderboard.cells, collect(tmp_path)[0])
    assert head == (
        "ridge",
        "efficientnet_lite0",
        "0.9000 [0.8500, 0.9500]",
        "0.9900",
        "0.8800",
        "0.8700",
        "0.3000",
        "0.0200",
        "0.9100 ± 0.0110",
        "1,234",
    )
    assert (scratch[:2], scratch[-2]) == (("scratch", "-"), "-")
    assert len(head) == len(leaderboard.HEADINGS)


def test_markdown_is_a_table_with_aligned_columns(add, tmp_path):
    add("a/ridge", 0.9, more=CROSS_VALIDATION)
    add("scratch", 0.8, model="scratch", backbone=None)
    lines = leaderboard.as_markdown(collect(tmp_path)[0]).splitlines()
    bars = [[index for index, character in enumerate(line) if character == "|"] for line in lines]
    assert len(lines) == 4
    assert bars[0] == bars[1] == bars[2] == bars[3]
    assert set(lines[1]) == {"|", "-"}
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["ridge", "scratch"]


def test_csv_keeps_full_precision_and_empty_cells(add, tmp_path):
    add("a/ridge", 0.912345, more=CROSS_VALIDATION)
    add("scratch", 0.8, model="scratch", backbone=None)
    head, scratch = csv.DictReader(io.StringIO(leaderboard.as_csv(collect(tmp_path)[0])))
    assert head["top1_accuracy"] == "0.912345"
    assert (head["top1_accuracy_interval.low"], head["cross_validation.top1_accuracy.std"]) == ("0.85", "0.011")
    assert (scratch["backbone"], scratch["cross_validation.top1_accuracy.mean"]) == ("", "")
