"""The tables of models and of few-shot results: order, cells, stale results."""

import csv
import io

import evaluated
import pytest

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.report import fewshot_results, leaderboard
from stages.library.report.published import Measured

METRICS = {"top1_accuracy": 0.9, "top5_accuracy": 0.99, "balanced_accuracy": 0.88, "macro_f1": 0.87, "log_loss": 0.3}
METRICS |= {"expected_calibration_error": 0.02, "size_bytes": 18_650_000, "num_examples": 1234}
INTERVAL = {"top1_accuracy_interval": {"low": 0.85, "high": 0.95}}
VALIDATION = {
    "top1_accuracy": 0.92,
    "balanced_accuracy": 0.5,
    "macro_f1": 0.6,
    "log_loss": 0.25,
    "num_examples": 1000,
}
CROSS_VALIDATION = {"cross_validation": {"top1_accuracy": {"mean": 0.91, "std": 0.011}}}
BEFORE = {"calibration": {"expected_calibration_error_before": 0.1234}}
TRAINING_MODE = {"training_mode": {"top1_accuracy": 0.7}}


@pytest.fixture
def add(tmp_path):
    def add(name, top1, digest="d", backbone="efficientnet_lite0", **more):
        model = name.rsplit("/", 1)[-1]
        about = {"model": model, "kind": "head", "backbone": backbone, "dataset": {"name": "x", "sha256": digest}}
        artifacts.write_json(tmp_path / "metrics" / f"{name}.json", METRICS | INTERVAL | {"top1_accuracy": top1} | more)
        artifacts.write_json(tmp_path / "evaluation" / name / "evaluation.json", about)

    return add


@pytest.fixture
def collect(tmp_path):
    def collect(selected_by="top1_accuracy"):
        listed = {"a/ridge", "a/softmax", "a/old", "a/lost", "b/ridge", "b/finetuned", "scratch"}
        return leaderboard.collect(tmp_path / "metrics", tmp_path / "evaluation", "d", listed, selected_by)

    return collect


def test_joined_backbones_have_heads_and_are_not_fine_tuned():
    expected = {"scratch", *(f"{name}/ridge" for name in ("a", "b", "a+b")), "a/finetuned", "b/finetuned"}
    assert leaderboard.listed(["ridge"], ["a", "b"], ["a+b"], ["average"]) == expected | {"combined/average"}


def test_the_best_model_in_validation_comes_first_then_in_cross_validation_then_by_name(add, collect):
    # A model with the best test results may be the worst, and one that was never validated comes last.
    for name, top1, accuracy, loss, mean in (
        ("a/softmax", 0.8, 0.9, 0.2, None),
        ("b/finetuned", 0.7, 0.9, 0.2, 0.6),
        ("b/ridge", 0.9, 0.9, 0.2, 0.7),
        ("scratch", 0.99, 0.8, 0.1, None),
        ("a/ridge", 1.0, None, None, 0.9),
    ):
        more: dict[str, object] = {}
        if accuracy and loss:
            more["validation"] = VALIDATION | {"top1_accuracy": accuracy, "log_loss": loss}
        if mean:
            more["cross_validation"] = {metric: {"mean": mean} for metric in ("top1_accuracy", "log_loss")}
        add(name, top1, **more)
    results, left_out = collect()
    assert [result.name for result in results] == ["b/ridge", "b/finetuned", "a/softmax", "scratch", "a/ridge"]
    assert left_out == []
    results, _ = collect("log_loss")  # of which less is better
    assert [result.name for result in results] == ["scratch", "b/finetuned", "b/ridge", "a/softmax", "a/ridge"]


def test_stale_results_are_left_out_and_named_and_few_shot_metrics_are_no_model(add, collect, tmp_path):
    evaluated.write_fewshot(tmp_path, "a", "d")
    add("a/old", 0.99, digest="another")
    with pytest.raises(UserError, match="no result on the present data set"):
        collect()
    for name in ("a/ridge", "a/lost", "a/dnn"):
        add(name, 0.8)
    (tmp_path / "evaluation" / "a" / "lost" / "evaluation.json").unlink()
    results, left_out = collect()
    assert [result.name for result in results] == ["a/ridge"]
    reasons = [("dnn.json", "no longer lists"), ("lost.json", "missing"), ("old.json", "another data set")]
    for sentence, (file, reason) in zip(left_out, reasons, strict=True):
        assert file in sentence
        assert reason in sentence


def test_cells_read_as_people_write_them_and_csv_keeps_full_precision_and_empty_cells(add, collect):
    add("a/ridge", 0.912345, **CROSS_VALIDATION, validation=VALIDATION, classes={"cat": {"count": 3}})
    add("scratch", 0.8, backbone=None, **BEFORE, **TRAINING_MODE)
    results, _ = collect()
    head, scratch = rows = [leaderboard.cells(result, "top1_accuracy") for result in results]
    headings = leaderboard.headings("top1_accuracy")
    assert head[:3] == ("a/ridge", "0.9200 (1,000)", "0.9123 [0.8500, 0.9500]")
    assert head[3:8] == ("0.9900", "0.8800", "0.8700", "0.3000", "0.0200")
    assert head[8:] == ("-", "0.9100 ± 0.0110", "18.6 MB", "1,234")
    assert (scratch[:2], scratch[8:10]) == (("scratch", "-"), ("0.1234", "-"))
    assert (len(head), headings[1], headings[8:10]) == (
        len(headings), "validation: top-1", ("ECE before", "cross-validation: top-1"),
    )  # fmt: skip
    assert leaderboard.headings("log_loss")[1] == "validation: log loss"
    assert leaderboard.cells(results[0], "log_loss")[1:10:8] == ("0.2500 (1,000)", "-")
    lines = leaderboard.as_markdown(headings, rows).splitlines()
    bars = {tuple(index for index, character in enumerate(line) if character == "|") for line in lines}
    assert (len(lines), len(bars), set(lines[1])) == (4, 1, {"|", "-"})
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["a/ridge", "scratch"]
    first, last = csv.DictReader(io.StringIO(leaderboard.as_csv(results)))
    assert (first["model"], last["model"]) == ("a/ridge", "scratch")  # as --model takes them
    columns = (
        *("backbone", "top1_accuracy", "top1_accuracy_interval.low", "cross_validation.top1_accuracy.std"),
        *("validation.log_loss", "calibration.expected_calibration_error_before", "training_mode.top1_accuracy"),
    )
    assert [first[column] for column in columns] == ["efficientnet_lite0", "0.912345", "0.85", "0.011", "0.25", "", ""]
    assert [last[column] for column in columns] == ["", "0.8", "0.85", "", "", "0.1234", "0.7"]
    assert not [column for column in first if column.startswith("classes")]


def collect_fewshot(tmp_path, *backbones):
    names = [(backbone, "ridge", 15) for backbone in backbones]
    return fewshot_results.collect(tmp_path / "metrics", tmp_path / "evaluation", "d", names)


def test_few_shot_results_of_this_data_set_are_read_in_the_order_of_the_names(tmp_path):
    for backbone, digest in (("a", "d"), ("b", "another"), ("c", "d"), ("unlisted", "d")):
        evaluated.write_fewshot(tmp_path, backbone, digest)
    found, (left_out,) = collect_fewshot(tmp_path, "c", "absent", "b", "a")
    assert [few.backbone + few.background for few in found] == ["cwith", "cwithout", "awith", "awithout"]
    assert "15 is left out: it was measured on another data set" in left_out
    cells = fewshot_results.cells(found[0])
    assert cells == ("ridge", "15", "with", "0.9000 ± 0.0100", "0.8000 ± 0.0200", "2", "1,234")
    assert len(cells) == len(fewshot_results.HEADINGS)
    assert fewshot_results.cells(found[1])[2:4] == ("without", "0.9500 ± 0.0000")
    lines = fewshot_results.as_csv(found).splitlines()
    assert lines[0] == "backbone,head,shots,repeat,background,top1_accuracy,balanced_accuracy"
    assert (lines[1], len(lines)) == ("c,ridge,15,0,with,0.9,0.8", 1 + 2 * 2 * 2)


def test_what_published_figures_stand_against(add, collect, tmp_path):
    add("a/ridge", 0.9, backbone="a", **CROSS_VALIDATION)
    add("b/finetuned", 0.8, backbone="b", **TRAINING_MODE)
    evaluated.write_fewshot(tmp_path, "a", "d")
    # Stands against no published figure, for those are of all classes.
    evaluated.write_fewshot(tmp_path, "c", "d", classes_left_out=["cat"])
    few, _ = collect_fewshot(tmp_path, "a", "c")
    results = leaderboard.measured(collect()[0], {"ridge": "probabilities"})
    assert [*results, *fewshot_results.measured(few)] == [
        Measured("ridge", "a", "probabilities", None, "cross_validation.top1_accuracy.mean", 0.91),
        Measured("ridge", "a", "probabilities", None, "top1_accuracy", 0.9),
        Measured("finetuned", "b", "", None, "top1_accuracy", 0.8),
        Measured("finetuned", "b", "", None, "training_mode.top1_accuracy", 0.7),
        Measured("ridge", "a", "bottleneck", 15, "top1_accuracy", 0.9, 0.01),
    ]
