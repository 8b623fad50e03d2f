"""Charts: the same bytes twice, no matter whose settings; any script; nothing lost when shortened."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.common import tables
from stages.library.figures import charts
from stages.library.figures.thumbnails import decode as pixels
from stages.library.report import fewshot_results, published
from stages.library.report.fewshot_results import FewShot
from stages.library.scoring.result_files import FewShotNumbers, Moments

NAMES = ["cat", "$x_1$ \\frac", "кошка", "猫", "कुत्ता", "قطة", "a\nb", "x" * 300]
CURVE = [
    {"step": str(step), "series": series, "accuracy": "0.5", "loss": "1"}
    for step in range(3)
    for series in ("training", "held-out")
]


def numbers(mean, std):
    accuracy: Moments = {"mean": mean, "std": std}
    return FewShotNumbers(top1_accuracy=accuracy, balanced_accuracy=accuracy, num_examples=9)


FEW_SHOT = [
    FewShot("b", head, shots, "", 5, part, numbers(0.8 + shots / 1000, 0.01), True, [])
    for head in ("ridge", "softmax")
    for shots in (15, 30)
    for part in ("with", "without")
]
PUBLISHED = [replace(published.load("caltech101")[0], system=NAMES[1], shots=shots) for shots in (15, 30)]
CHARTS = {
    "confusion": lambda: charts.confusion([{"actual": name, "predicted": name, "count": "3"} for name in NAMES]),
    "per_class": lambda: charts.per_class([{"class": name, "recall": "0.5", "count": "4"} for name in NAMES]),
    "reliability": lambda: charts.reliability([{"confidence": "0.3", "accuracy": "0.2", "examples": "5"}]),
    "learning_curve": lambda: charts.learning_curve(CURVE),
    "few_shot": lambda: fewshot_results.chart(FEW_SHOT, PUBLISHED),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts_show_something_in_the_same_bytes_whatever_the_settings(name):
    first = CHARTS[name]()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 300}):
        assert CHARTS[name]() == first
    assert not [chunk for chunk in (b"tEXt", b"iTXt", b"zTXt", b"tIME") if chunk in first]
    shown = pixels(first)
    assert min(shown.shape[:2]) > 200
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 10


def test_confusion_shades_by_the_fraction_of_the_actual_class():
    # More than 20 classes: no numbers are written, so that only the shades are left.
    diagonal = [(f"class {index:02d}", f"class {index:02d}", 1) for index in range(20)]

    def drawn(*rows):
        return pixels(charts.confusion([dict(zip(tables.CONFUSION, row, strict=True)) for row in [*rows, *diagonal]]))

    first = drawn(("a", "a", 1), ("a", "b", 1), ("b", "b", 100))
    np.testing.assert_array_equal(first, drawn(("a", "a", 50), ("a", "b", 50), ("b", "b", 1)))
    assert (first != drawn(("a", "a", 2), ("b", "b", 1))).any()


def test_of_many_classes_the_most_confused_pairs_are_drawn_however_many_there_are():
    def drawn(classes, *more):
        rows = [(f"c{index:05d}", f"c{index + off:05d}", 9 - off) for index in range(classes) for off in (0, 1, 7)]
        return charts.confusion([dict(zip(tables.CONFUSION, row, strict=True)) for row in [*rows, *more]])

    assert len(pixels(drawn(20_000))) == len(pixels(drawn(charts.MOST_CLASSES))) < 1000 < len(pixels(drawn(100)))
    assert drawn(200) != drawn(200, ("c00009", "c00003", 10))
    assert drawn(200) == drawn(200, ("c00009", "c00003", 0))  # never confused
    alone = [{"actual": str(index), "predicted": str(index), "count": "1"} for index in range(200)]
    assert charts.confusion(alone).startswith(b"\x89PNG")  # none is confused


def test_only_the_hardest_of_many_classes_are_drawn():
    rows = [{"class": f"{index:03d}", "recall": str(index / 100), "count": "1"} for index in range(100)]
    few = charts.per_class(rows, limit=5)
    assert len(pixels(few)) < len(pixels(charts.per_class(rows)))
    # What is beyond the limit does not matter.
    assert few == charts.per_class(rows[:5] + [row | {"recall": "1"} for row in rows[5:]], 5)


def test_few_shot_has_a_panel_without_background_where_there_is_one_and_shows_published_points():
    rows = [row for row in FEW_SHOT if row.background == "with"]
    single = fewshot_results.chart(rows, PUBLISHED)
    assert pixels(CHARTS["few_shot"]()).shape[1] > 1.5 * pixels(single).shape[1]
    surer = [replace(row, numbers=numbers(0.8, 0.001)) for row in rows]
    assert len({single, fewshot_results.chart(rows, []), fewshot_results.chart(surer, PUBLISHED)}) == 3
    fewshot_results.chart(rows[:1], [])  # a single point


@given(st.text(max_size=80), st.integers(3, 40))
def test_shortened_text_is_one_printable_line_of_limited_width(text, limit):
    short = charts.shorten(text, limit)
    assert charts._columns(short) <= limit
    assert not any(ord(character) < 32 for character in short)
    if text.isascii() and text.isprintable() and len(text) <= limit:
        assert short == text
    assert charts.shorten("car_side_of_the_road", 11) == "car_s…_road"
    assert charts.shorten("猫" * 20, 9) == "猫猫…猫猫"


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [(0, "0.0%"), (0.0004, "<0.1%"), (0.5, "50.0%"), (0.9994, "99.9%"), (0.99996, ">99.9%"), (1, "100.0%")],
)
def test_only_1_is_100_percent(fraction, shown):
    assert charts.percent(fraction) == charts.percent(float(np.float32(fraction))) == shown
