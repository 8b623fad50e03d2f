"""Charts of an evaluation as PNG: one style, colour-blind safe, the same bytes for the same numbers.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), and no colour carries a meaning alone.
"""

import contextlib
import io
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#B8BEC4"
GREEN, PURPLE, ORANGE, DARK_GREY = "#009E73", "#CC79A7", "#E69F00", "#4B5563"
DPI = 100
MOST_CLASSES = 120  # of a confusion matrix: 1,750 px a side
STYLE = {
    "figure.dpi": DPI,
    "savefig.dpi": "figure",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6B7280",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in a class name is no formula
}
SERIES: dict[str, dict[str, Any]] = {
    "training": {"color": VERMILION, "linestyle": "--", "marker": "o"},
    "held-out": {"color": BLUE, "linestyle": "-", "marker": "s"},
}
FIRST_FONT, LAST_FONT = "DejaVu Sans", "Last Resort High-Efficiency"  # matplotlib carries both

Rows = Sequence[Mapping[str, Any]]  # as tables.read_csv gives them: values may be text


@contextlib.contextmanager
def drawing(width: float, height: float, texts: Sequence[str] = (), layout: Any = "constrained") -> Iterator[Figure]:
    """Gives a figure, in inches, alike under every matplotlibrc, with installed fonts for the characters of `texts`."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # "failed to find font weight normal"
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"font.family": _families("".join(texts))})
        yield Figure(figsize=(width, height), layout=layout)


def png(figure: Figure) -> bytes:
    """Returns a figure as PNG, without the metadata that would differ between runs or versions."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def pixels(figure: Figure) -> np.ndarray:
    """Returns a figure as uint8 RGB (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def shorten(text: str, limit: int) -> str:
    """Returns one printable line at most `limit` Latin letters wide; the middle of a longer one becomes an ellipsis."""
    line = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    if _columns(line) <= limit:
        return line
    head, tail = line[: len(line) // 2], line[len(line) // 2 :]
    while _columns(head) + _columns(tail) >= limit:
        head, tail = (head[:-1], tail) if _columns(head) > _columns(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def percent(fraction: float) -> str:
    """Returns a fraction as people read it: "100.0%" is 1 itself, and "0.0%" is 0."""
    if 0 < fraction < 0.001:
        return "<0.1%"
    text = f"{fraction:.1%}"
    return ">99.9%" if text == "100.0%" and fraction < 1 else text


def confusion(rows: Rows) -> bytes:
    """Draws a confusion matrix of `tables.CONFUSION`, shaded by the fraction of the actual class.

    An image grows with the square of the classes: of more than MOST_CLASSES the most confused pairs are drawn.
    """
    classes = sorted({row[side] for row in rows for side in ("actual", "predicted")})
    if len(classes) > MOST_CLASSES:
        return _most_confused(rows)
    index = {name: position for position, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for row in rows:
        counts[index[row["actual"]], index[row["predicted"]]] = int(row["count"])
    fraction = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shorten(name, 24) for name in classes]
    few = len(names) <= 20
    side = 1.9 + len(names) * (0.34 if few else 0.13)
    with drawing(side, side, names) as figure:
        axes = figure.add_subplot()
        axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1, interpolation="none")
        size = 8 if few else 6.5
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
        axes.set_yticks(range(len(names)), names, fontsize=size)
        axes.set(xlabel="predicted", ylabel="actual")
        axes.spines[["top", "right"]].set_visible(True)
        for row, column in np.argwhere(counts) if few else ():
            color = "white" if fraction[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=7, color=color)
        return png(figure)


def per_class(rows: Rows, limit: int = 30) -> bytes:
    """Draws the recall of each class of `tables.PER_CLASS`, the hardest first, and no more than `limit` of them."""
    hardest = sorted(rows, key=lambda row: (float(row["recall"]), row["class"]))[:limit]
    names = [f"{shorten(row['class'], 24)}  (n={int(row['count']):,})" for row in hardest]
    values = [float(row["recall"]) for row in hardest]
    with drawing(5, 0.8 + 0.2 * len(names), names) as figure:
        axes = _bars(figure, names, values, list(map(percent, values)))
        axes.set(xlim=(0, 1.12))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.xaxis.set_major_formatter("{x:.0%}")
        if len(names) < len(rows):
            axes.set_title(f"the {len(names)} hardest of {len(rows):,} classes")
        return png(figure)


def _most_confused(rows: Rows, limit: int = 40) -> bytes:
    """Draws how often the pairs of `tables.CONFUSION` that are confused most are, and no more than `limit` of them."""
    wrong = (row for row in rows if row["actual"] != row["predicted"] and int(row["count"]))
    pairs = sorted((-int(row["count"]), row["actual"], row["predicted"]) for row in wrong)
    names = [f"{shorten(actual, 24)} → {shorten(predicted, 24)}" for _, actual, predicted in pairs[:limit]]
    counts = [-count for count, *_ in pairs[:limit]]
    with drawing(7, 1 + 0.2 * len(names), names) as figure:
        axes = _bars(figure, names, counts, [f"{count:,}" for count in counts])
        axes.set(xlabel="images", title=f"the {len(names)} most confused of {len(pairs):,} pairs: actual → predicted")
        axes.margins(x=0.1)
        return png(figure)


def _bars(figure: Figure, names: Sequence[str], values: Sequence[float], labels: Sequence[str]) -> Any:
    """Draws a bar for each name, the first one on top; returns the axes."""
    axes = figure.add_subplot()
    axes.bar_label(axes.barh(range(len(names)), values, color=BLUE, height=0.7), labels, padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(ylim=(len(names) - 0.4, -0.6))
    return axes


def reliability(rows: Rows) -> bytes:
    """Draws accuracy against confidence of `tables.RELIABILITY`; a point's area is the share of examples in its bin."""
    confidence, accuracy, examples = (
        np.array([float(row[key]) for row in rows]) for key in ("confidence", "accuracy", "examples")
    )
    with drawing(4, 4.2) as figure:
        axes = figure.add_subplot()
        axes.set_title(" ", fontsize=12)  # room for a point at the top, which is larger than its place
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfectly calibrated")
        axes.plot(confidence, accuracy, color=BLUE, linewidth=1)
        axes.scatter(confidence, accuracy, s=12 + 400 * examples / examples.sum(), color=BLUE, alpha=0.7, clip_on=False)
        axes.scatter([], [], s=40, color=BLUE, alpha=0.7, label="bin; area: share of images")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return png(figure)


def learning_curve(rows: Rows) -> bytes:
    """Draws accuracy and loss of `tables.CURVE` against the step, a line per series, "training" and "held-out"."""
    with drawing(6.4, 2.9) as figure:
        for axes, quantity in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
            for series, look in SERIES.items():
                points = sorted((float(row["step"]), float(row[quantity])) for row in rows if row["series"] == series)
                if points:
                    marker = look["marker"] if len(points) < 25 else ""
                    axes.plot(*zip(*points, strict=True), **look | {"marker": marker}, markersize=4, label=series)
            axes.set(xlabel="step", title=quantity)
        figure.axes[0].legend(fontsize=8)
        return png(figure)


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _families(text: str) -> list[str]:
    """Returns font families that together have every character of a text for which any font is installed."""
    families = [FIRST_FONT]
    missing = {ord(character) for character in text} - _characters(font_manager.findfont(FIRST_FONT), 0)
    fonts = sorted(font_manager.fontManager.ttflist, key=lambda font: (font.style != "normal", font.name, font.fname))
    for font in fonts:
        if not missing:
            break
        if font.name != LAST_FONT and (found := missing & _characters(font.fname, font.index)):
            families.append(font.name)
            missing -= found
    return [*families, LAST_FONT]


def _characters(path: str, face_index: int) -> set[int]:
    return set(FT2Font(path, face_index=face_index).get_charmap())
