"""Charts: the same bytes twice, no matter whose settings; any script; nothing lost when shortened."""

import io
import struct
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.library.figures import charts
from stages.library.report import fewshot_chart, published
from stages.library.report.fewshot_results import FewShot
from stages.library.scoring.result_files import FewShotNumbers, Moments

NAMES = ["cat", "$x_1$ \\frac", "кошка", "猫", "कुत्ता", "قطة", "a\nb", "x" * 300]
CONFUSION = [{"actual": name, "predicted": name, "count": "3"} for name in NAMES]
PER_CLASS = [{"class": name, "accuracy": "0.5", "examples": "4"} for name in NAMES]
RELIABILITY = [{"confidence": "0.3", "accuracy": "0.2", "examples": "5"}]
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
    "confusion": lambda: charts.confusion(CONFUSION),
    "per_class": lambda: charts.per_class(PER_CLASS),
    "reliability": lambda: charts.reliability(RELIABILITY),
    "learning_curve": lambda: charts.learning_curve(CURVE),
    "few_shot": lambda: fewshot_chart.few_shot(FEW_SHOT, PUBLISHED),
}


def chunk_names(png):
    """The names of a PNG's chunks, read by hand."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position, names = 8, []
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        names.append(png[position + 4 : position + 8].decode())
        position += length + 12
    return names


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_the_same_bytes_whatever_the_settings(name):
    first = CHARTS[name]()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 300}):
        assert CHARTS[name]() == first
    assert not {"tEXt", "iTXt", "zTXt", "tIME"} & set(chunk_names(first))


@pytest.mark.parametrize("name", CHARTS)
def test_charts_show_something(name):
    with Image.open(io.BytesIO(CHARTS[name]()), formats=("PNG",)) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_confusion_shades_by_the_fraction_of_the_actual_class():
    rows = [("a", "a", 1), ("a", "b", 1), ("b", "b", 100)]
    scaled = [("a", "a", 50), ("a", "b", 50), ("b", "b", 1)]

    def darkest(rows):
        png = charts.confusion([{"actual": a, "predicted": p, "count": n} for a, p, n in rows] + DIAGONAL)
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))

    # More than 20 classes: no numbers are written, so that only the shades are left.
    names = [f"class {index:02d}" for index in range(20)]
    DIAGONAL = [{"actual": name, "predicted": name, "count": 1} for name in names]  # noqa: N806
    np.testing.assert_array_equal(darkest(rows), darkest(scaled))
    assert (darkest(rows) != darkest([("a", "a", 2), ("b", "b", 1)])).any()


def test_only_the_hardest_of_many_classes_are_drawn():
    rows = [{"class": f"{index:03d}", "accuracy": str(index / 100), "examples": "1"} for index in range(100)]
    few = charts.per_class(rows, limit=5)
    with (
        Image.open(io.BytesIO(few), formats=("PNG",)) as small,
        Image.open(io.BytesIO(charts.per_class(rows)), formats=("PNG",)) as large,
    ):
        assert small.height < large.height
    # What is beyond the limit does not matter.
    assert few == charts.per_class(
        [row | {"accuracy": "1"} if index >= 5 else row for index, row in enumerate(rows)], 5
    )


def test_few_shot_has_a_panel_without_background_where_there_is_one_and_shows_published_points():
    rows = [row for row in FEW_SHOT if row.background == "with"]
    single, double = fewshot_chart.few_shot(rows, PUBLISHED), fewshot_chart.few_shot(FEW_SHOT, PUBLISHED)
    with (
        Image.open(io.BytesIO(single), formats=("PNG",)) as one,
        Image.open(io.BytesIO(double), formats=("PNG",)) as two,
    ):
        assert two.width > 1.5 * one.width
    assert fewshot_chart.few_shot(rows, []) != single
    surer = [replace(row, numbers=numbers(0.8, 0.001)) for row in rows]
    assert fewshot_chart.few_shot(surer, PUBLISHED) != single
    fewshot_chart.few_shot(rows[:1], [])  # a single point


@given(st.text(max_size=80), st.integers(3, 40))
def test_shortened_text_is_one_printable_line_of_limited_width(text, limit):
    short = charts.shorten(text, limit)
    assert charts._columns(short) <= limit
    assert not any(ord(character) < 32 for character in short)
    if text.isascii() and text.isprintable() and len(text) <= limit:
        assert short == text


def test_shortening_keeps_both_ends():
    assert charts.shorten("car_side_of_the_road", 11) == "car_s…_road"
    assert charts.shorten("猫" * 20, 9) == "猫猫…猫猫"
