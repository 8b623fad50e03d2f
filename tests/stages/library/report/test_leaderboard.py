"""The table: order, cells, stale results."""

import csv
import io
import json

import pytest

from stages.library.common.console import UserError
from stages.library.report import fewshot_results, leaderboard
from stages.library.report.published import Measured

METRICS = {
    "top1_accuracy": 0.9,
    "top1_accuracy_interval": {"low": 0.85, "high": 0.95},
    "top5_accuracy": 0.99,
    "balanced_accuracy": 0.88,
    "macro_f1": 0.87,
    "log_loss": 0.3,
    "expected_calibration_error": 0.02,
    "size_bytes": 18_650_000,
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
    add("a/dnn", 0.9)
    results, left_out = collect(tmp_path)
    assert [result.name for result in results] == ["a/ridge"]
    reasons = [("dnn.json", "no longer lists"), ("lost.json", "missing"), ("old.json", "another data set")]
    assert len(left_out) == len(reasons)
    for sentence, (file, reason) in zip(left_out, reasons, strict=True):
        assert file in sentence
        assert reason in sentence


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
        "-",
        "0.9100 ± 0.0110",
        "18.6 MB",
        "1,234",
    )
    assert (scratch[:2], scratch[-3]) == (("scratch", "-"), "-")
    assert len(head) == len(leaderboard.HEADINGS)


def test_markdown_is_a_table_with_aligned_columns(add, tmp_path):
    add("a/ridge", 0.9, more=CROSS_VALIDATION)
    add("scratch", 0.8, model="scratch", backbone=None)
    rows = map(leaderboard.cells, collect(tmp_path)[0])
    lines = leaderboard.as_markdown(leaderboard.HEADINGS, rows).splitlines()
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


def test_metrics_of_some_models_only_have_a_cell_or_a_column(add, tmp_path):
    add("a/ridge", 0.9, more={"calibration": {"expected_calibration_error_before": 0.1234}})
    add("b/finetuned", 0.8, more={"training_mode": {"top1_accuracy": 0.7}})
    results = collect(tmp_path)[0]
    at = leaderboard.HEADINGS.index("ECE before")
    assert [leaderboard.cells(result)[at] for result in results] == ["0.1234", "-"]
    ridge, finetuned = csv.DictReader(io.StringIO(leaderboard.as_csv(results)))
    assert ridge["calibration.expected_calibration_error_before"] == "0.1234"
    assert (ridge["training_mode.top1_accuracy"], finetuned["training_mode.top1_accuracy"]) == ("", "0.7")


ACCURACY = {
    "top1_accuracy": {"mean": 0.9, "std": 0.01},
    "balanced_accuracy": {"mean": 0.8, "std": 0.02},
    "num_examples": 1234,
}


@pytest.fixture
def add_fewshot(tmp_path):
    def add(backbone, digest="d", small=()):
        figures = tmp_path / "evaluation" / backbone / "fewshot" / "ridge" / "15"
        figures.mkdir(parents=True)
        about = {"features": "bottleneck", "repeats": 2, "classes_left_out": small, "dataset": {"sha256": digest}}
        (figures / "fewshot.json").write_text(json.dumps(about))
        names = "head,shots,repeat,background,top1_accuracy,balanced_accuracy,best_params"
        rows = [f"ridge,15,{i},{name},0.9,0.8,{{}}" for i in range(2) for name in ("with", "without")]
        (figures / "repeats.csv").write_text("\n".join([names, *rows]) + "\n")
        metrics = tmp_path / "metrics" / backbone / "fewshot" / "ridge" / "15.json"
        metrics.parent.mkdir(parents=True, exist_ok=True)
        without = ACCURACY | {"top1_accuracy": {"mean": 0.95, "std": 0.0}}
        metrics.write_text(json.dumps(ACCURACY | {"without_background": without}))

    return add


def collect_fewshot(tmp_path, *backbones):
    names = [(backbone, "ridge", 15) for backbone in backbones]
    return fewshot_results.collect(tmp_path / "metrics", tmp_path / "evaluation", "d", names)


def test_few_shot_metrics_are_no_model(add, add_fewshot, tmp_path):
    add("a/ridge", 0.9)
    add_fewshot("a")
    results, left_out = collect(tmp_path)
    assert ([result.name for result in results], left_out) == (["a/ridge"], [])


def test_few_shot_results_of_this_data_set_are_read_in_the_order_of_the_names(add_fewshot, tmp_path):
    for backbone, digest in (("a", "d"), ("b", "another"), ("c", "d"), ("unlisted", "d")):
        add_fewshot(backbone, digest)
    found, left_out = collect_fewshot(tmp_path, "c", "absent", "b", "a")
    assert [(few.backbone, few.background) for few in found] == [
        (backbone, background) for backbone in ("c", "a") for background in ("with", "without")
    ]
    assert ["15 is left out" in left_out[0], "another data set" in left_out[0], len(left_out)] == [True, True, 1]
    cells = fewshot_results.cells(found[0])
    assert cells == ("ridge", "15", "with", "0.9000 ± 0.0100", "0.8000 ± 0.0200", "2", "1,234")
    assert len(cells) == len(fewshot_results.HEADINGS)
    assert fewshot_results.cells(found[1])[2:4] == ("without", "0.9500 ± 0.0000")
    lines = fewshot_results.as_csv(found).splitlines()
    assert lines[:2] == [
        "backbone,head,shots,repeat,background,top1_accuracy,balanced_accuracy",
        "c,ridge,15,0,with,0.9,0.8",
    ]
    assert len(lines) == 1 + 2 * 2 * 2


def test_what_published_figures_stand_against(add, add_fewshot, tmp_path):
    add("a/ridge", 0.9, backbone="a", more=CROSS_VALIDATION)
    add("b/finetuned", 0.8, model="finetuned", backbone="b", more={"training_mode": {"top1_accuracy": 0.7}})
    add_fewshot("a")
    add_fewshot("c", small=["cat"])  # stands against no published figure, for those are of all classes
    few, _ = collect_fewshot(tmp_path, "a", "c")
    results = leaderboard.measured(collect(tmp_path)[0], {"ridge": "probabilities"})
    assert [*results, *fewshot_results.measured(few)] == [
        Measured("ridge", "a", "probabilities", None, "cross_validation.top1_accuracy.mean", 0.91),
        Measured("ridge", "a", "probabilities", None, "top1_accuracy", 0.9),
        Measured("finetuned", "b", "", None, "top1_accuracy", 0.8),
        Measured("finetuned", "b", "", None, "training_mode.top1_accuracy", 0.7),
        Measured("ridge", "a", "bottleneck", 15, "top1_accuracy", 0.9, 0.01),
    ]
