"""Published rows: facts that parse, and what of ours each one stands against."""

from dataclasses import replace
from typing import Any, get_args

from stages.library.heads import contract as heads
from stages.library.report import published
from stages.library.report.published import METRICS, Measured, Row

SYSTEM = "InceptionV3 softmax + ridge"
ROW = Row(SYSTEM, "inception_v3", "probabilities", ("ridge",), "cifar10", None, "test top-1", 0.7, None, "x")
OURS = Measured("ridge", "inception_v3", "probabilities", None, "top1_accuracy", 0.75)
SIZES = {"caltech101": {None, 15, 30}, "caltech256": {15, 30, 45, 60}, "cifar10": {None}}
ROWS = [row for name in SIZES for row in published.load(name)]


def test_every_row_belongs_to_a_data_set_and_is_complete():
    assert len(ROWS) == len(published.TABLE.read_text(encoding="utf-8").splitlines()) - 1 == 32
    assert {name: {row.shots for row in published.load(name)} for name in SIZES} == SIZES
    for row in ROWS:
        assert all((row.system, row.source, row.metric in METRICS, 0.6 < row.value < 0.95))
        assert (row.std is None) == (row.shots is None)
        whole_network = set(row.counterpart) <= {"scratch", "finetuned"} and row.counterpart
        assert row.features == "" if whole_network else row.features in get_args(heads.Features)
    assert published.load("digits") == []


def test_figures_are_those_of_the_sources():
    found = {(row.system, row.dataset, row.shots, row.metric): row for row in ROWS}
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


def test_another_question_is_no_counterpart():
    assert published.counterpart(ROW, [OURS]) == OURS
    another: dict[str, Any] = {"features": "bottleneck", "model": "dnn", "shots": 15}
    another["metric"] = "cross_validation.top1_accuracy.mean"
    others = [replace(OURS, **{key: value}) for key, value in another.items()]
    assert [published.counterpart(ROW, [other]) for other in others] == [None] * 4


def test_a_line_has_the_difference_in_points_our_best_and_what_differs():
    best = replace(OURS, model="finetuned", backbone="efficientnet_lite0", features="", value=0.9)
    (line,) = published.compare([ROW], [OURS, best])
    shown = "0.9000 (efficientnet_lite0/finetuned)"
    assert line == (SYSTEM, "-", "test top-1", "0.7000", "0.7500", "+5.00", shown, "-", "x")
    assert len(line) == len(published.HEADINGS)
    few = replace(ROW, shots=15, std=0.005, counterpart=("softmax", "ridge"))
    (line,) = published.compare([few], [replace(OURS, shots=15, std=0.01)])
    assert line[1:6] == ("15", "test top-1", "0.7000 ± 0.0050", "0.7500 ± 0.0100", "+5.00")
    assert line[6:8] == ("0.7500 (inception_v3/ridge)", "ours: ridge head")


VALIDATED = replace(ROW, metric="validation top-1"), replace(OURS, metric=METRICS["validation top-1"])
WHOLE: dict[str, Any] = {"backbone": "", "features": ""}
SCRATCH = replace(ROW, counterpart=("scratch",), **WHOLE), replace(OURS, model="scratch", **WHOLE)
IN_A_LINE = [
    (ROW, replace(OURS, backbone="b", value=0.65), ("0.6500", "-5.00", "0.6500 (b/ridge)", "ours: b")),
    (*VALIDATED, ("0.7500", "+5.00", "0.7500 (inception_v3/ridge)", "ours: cross-validation")),
    (*SCRATCH, ("0.7500", "+5.00", "0.7500 (scratch)", "-")),
]


def test_what_of_ours_stands_in_a_line():
    assert published.compare([ROW], [])[0][4:8] == ("-", "-", "-", "-")  # it stands alone
    assert [published.compare([row], [ours])[0][4:8] for row, ours, _ in IN_A_LINE] == [
        cells for *_, cells in IN_A_LINE
    ]
