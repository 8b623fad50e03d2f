"""Published rows: facts that parse, and what of ours each one stands against."""

import csv
from dataclasses import replace

import pytest

from stages.library.heads import contract as heads
from stages.library.report import published
from stages.library.report.published import METRICS, Measured, Row

ROW = Row(
    "InceptionV3 softmax + ridge",
    "inception_v3",
    "probabilities",
    ("ridge",),
    "cifar10",
    None,
    "test top-1",
    0.7,
    None,
    "x",
)
OURS = Measured("ridge", "inception_v3", "probabilities", None, "top1_accuracy", 0.75)
SIZES = {"caltech101": {None, 15, 30}, "caltech256": {15, 30, 45, 60}, "cifar10": {None}}


def lines():
    with published.TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_belongs_to_a_data_set_and_is_complete():
    rows = {name: published.load(name) for name in SIZES}
    assert sum(map(len, rows.values())) == len(lines()) == 32
    for name, sizes in SIZES.items():
        assert {row.shots for row in rows[name]} == sizes
        for row in rows[name]:
            assert row.system
            assert row.source
            assert row.metric in METRICS
            assert 0.6 < row.value < 0.95
            assert (row.std is None) == (row.shots is None)
    assert published.load("digits") == []


def test_counterparts_and_features_have_names_that_exist():
    kinds = set(heads.Features.__args__)  # type: ignore[attr-defined]
    for name in SIZES:
        for row in published.load(name):
            whole_network = set(row.counterpart) <= {"scratch", "finetuned"} and row.counterpart
            assert row.features == "" if whole_network else row.features in kinds


def test_figures_are_those_of_the_sources():
    found = {(row.system, row.dataset, row.shots, row.metric): row for name in SIZES for row in published.load(name)}
    assert found["from-scratch CNN", "cifar10", None, "test top-1"].value == 0.6734
    assert found["InceptionV3 fine-tuned", "cifar10", None, "test top-1 in training mode"].value == 0.7985
    assert found["InceptionV3 softmax + XGBoost", "cifar10", None, "5-fold top-1"].value == 0.8239
    few = found["Inception v4 + softmax head", "caltech256", 60, "test top-1"]
    assert (few.value, few.std, few.backbone, few.source) == (0.865, 0.004, "inception_v4", "Deck 2017")


def test_the_same_backbone_then_the_order_of_preference_then_accuracy_decides():
    row = replace(ROW, counterpart=("softmax", "logistic"), features="bottleneck", backbone="a")
    ours = [
        replace(OURS, model=model, backbone=backbone, features="bottleneck", value=value)
        for model, backbone, value in (("ridge", "a", 0.99), ("logistic", "a", 0.9), ("softmax", "b", 0.95))
    ]
    assert published.counterpart(row, ours) == ours[1]
    assert published.counterpart(replace(row, backbone="c"), ours) == ours[2]
    better = replace(ours[2], backbone="d", value=0.96)
    assert published.counterpart(replace(row, backbone="c"), [*ours, better]) == better
    assert published.counterpart(replace(row, counterpart=()), ours) is None


@pytest.mark.parametrize(
    "change",
    [
        {"features": "bottleneck"},
        {"model": "dnn"},
        {"shots": 15},
        {"metric": "cross_validation.top1_accuracy.mean"},
    ],
)
def test_another_question_is_no_counterpart(change):
    assert published.counterpart(ROW, [OURS]) == OURS
    assert published.counterpart(ROW, [replace(OURS, **change)]) is None


def test_a_line_has_the_difference_in_points_our_best_and_what_differs():
    best = replace(OURS, model="finetuned", backbone="efficientnet_lite0", features="", value=0.9)
    (line,) = published.compare([ROW], [OURS, best])
    shown = "0.9000 (finetuned on efficientnet_lite0)"
    assert line == (ROW.system, "-", "test top-1", "0.7000", "0.7500", "+5.00", shown, "-", "x")
    assert len(line) == len(published.HEADINGS)
    (other,) = published.compare([ROW], [replace(OURS, backbone="efficientnet_lite0", value=0.65)])
    assert (other[5], other[7]) == ("-5.00", "ours: efficientnet_lite0")
    few = replace(ROW, shots=15, std=0.005, counterpart=("softmax", "ridge"))
    (line,) = published.compare([few], [replace(OURS, shots=15, std=0.01)])
    assert line[1:6] == ("15", "test top-1", "0.7000 ± 0.0050", "0.7500 ± 0.0100", "+5.00")
    assert line[6:8] == ("0.7500 (ridge on inception_v3)", "ours: ridge head")


def test_without_a_result_of_ours_a_published_row_stands_alone():
    (line,) = published.compare([ROW], [])
    assert line[3:] == ("0.7000", "-", "-", "-", "-", "x")


def test_a_published_validation_accuracy_stands_beside_cross_validation():
    row = replace(ROW, metric="validation top-1")
    (line,) = published.compare([row], [replace(OURS, metric="cross_validation.top1_accuracy.mean")])
    assert line[7] == "ours: cross-validation"


def test_a_network_without_backbone_is_named_without_one():
    row = replace(ROW, backbone="", features="", counterpart=("scratch",))
    (line,) = published.compare([row], [replace(OURS, model="scratch", backbone="", features="")])
    assert (line[6], line[7]) == ("0.7500 (scratch)", "-")
