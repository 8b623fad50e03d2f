from pathlib import Path

from stages.library.report import operating_points
from stages.library.report.leaderboard import Result
from stages.library.report.page import _operating

SETS = {"least_probability": 0.1, "mean_size": 1.25, "coverage": 0.98, "low": 0.95, "high": 0.99}


def result(name, **metrics):
    return Result(name, name, "", metrics, Path())


def test_a_row_for_each_model_of_which_it_is_known():
    sure = {"answered": 0.75, "least_confidence": 0.9, "accuracy": 0.995, "low": 0.96, "high": 0.999}
    results = [
        result("a", operating={"answers": sure, "sets": SETS}),
        result("b"),
        result("c", operating={"answers": {"answered": 0.0}, "sets": SETS}),
    ]
    of_sets = "0.9800", "[0.9500, 0.9900]", "1.25"
    assert operating_points.rows(results) == [
        ("a", "0.9000", "0.7500", "0.9950", "[0.9600, 0.9990]", *of_sets),
        ("c", "-", "0.0000", "-", "-", *of_sets),
    ]
    assert len(operating_points.HEADINGS) == 8
    assert _operating(results[1:2]) == []
    assert "[0.9600, 0.9990]" in _operating(results)[0].body
