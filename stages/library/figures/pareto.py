"""Images of accuracy against a cost: which models are worth theirs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from stages.library.figures import charts


@dataclass(frozen=True)
class Point:
    """A model in the image."""

    name: str
    accuracy: float  # in [0, 1]
    cost: float  # > 0, in the unit of the axis
    costs: str  # all its costs in words, to stand behind its accuracy
    area: float = 60.0  # of its mark, in square points
    interval: tuple[float, float] | None = None  # of its accuracy


def frontier(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other one beats in both accuracy and cost, the cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def draw(points: Sequence[Point], xlabel: str, title: str) -> bytes:
    """Draws accuracy against a cost on a logarithmic axis, a line through the frontier of 1 or more; returns a PNG."""
    best = frontier(points)
    names = [charts.shorten(point.name, 40) for point in points]
    with charts.drawing(9, max(3.6, 0.9 + 0.2 * len(points)), [title, xlabel, *names]) as figure:
        axes = figure.add_subplot()
        axes.plot([point.cost for point in best], [point.accuracy for point in best], color=charts.GREY, zorder=1)
        for point in points:
            color, marker = (charts.BLUE, "o") if point in best else (charts.DARK_GREY, "D")
            if point.interval:
                axes.vlines(point.cost, *point.interval, color=color, linewidth=1, alpha=0.5, zorder=1)
            axes.scatter(point.cost, point.accuracy, s=point.area, color=color, marker=marker, alpha=0.8, zorder=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=xlabel, ylabel="test top-1 accuracy", title=title)
        axes.yaxis.set_major_formatter("{x:.1%}")
        axes.grid(color=charts.GREY, linewidth=0.5, alpha=0.6)
        # Names in a column beside the points: the heads of one backbone cost the same and would hide each other.
        low, high = axes.get_ylim()
        order = sorted(range(len(points)), key=lambda row: points[row].accuracy)
        heights = dodged([(points[row].accuracy - low) / (high - low) for row in order])
        for row, height in zip(order, heights, strict=True):
            axes.annotate(
                f"{names[row]}  {charts.percent(points[row].accuracy)}, {points[row].costs}",
                (points[row].cost, points[row].accuracy),
                (1.03, height),
                textcoords="axes fraction",
                fontsize=8,
                va="center",
                arrowprops={"arrowstyle": "-", "color": charts.GREY, "linewidth": 0.8, "relpos": (0, 0.5)},
                annotation_clip=False,
            )
        return charts.png(figure)


def dodged(wanted: Sequence[float]) -> list[float]:
    """Returns heights near the wanted ones, so far apart that no name hides another; both in [0, 1], rising."""
    gap = min(0.075, 1 / max(len(wanted) - 1, 1))
    steps = gap * np.arange(len(wanted))
    apart = np.maximum.accumulate(wanted - steps)  # each as far above the one below it
    heights: list[float] = (np.minimum(apart, 1 - steps[-1]) + steps).clip(0, 1).tolist()
    return heights
