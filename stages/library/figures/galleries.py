"""Images of single images and of pairs, with lines of text below each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from stages.library.common import artifacts
from stages.library.figures import charts

COLUMNS = 6
LINE_CHARACTERS = 22


@dataclass(frozen=True)
class Tile:
    """An image and what is written below it."""

    pixels: np.ndarray  # uint8 (height, width, 3)
    lines: tuple[str, ...]  # few and short; longer ones lose their middle


def write(path: Path, title: str, groups: Sequence[Sequence[Tile]]) -> None:
    """Writes a PNG of groups of as many tiles each, 1 to `COLUMNS`, which stand side by side and share a frame."""
    texts = [title, *(line for group in groups for tile in group for line in tile.lines)]
    width = len(groups[0]) if groups else 1
    across = COLUMNS // width
    rows = math.ceil(len(groups) / across)
    with charts.style(texts):
        figure = Figure(figsize=(10.5, 0.5 + 2.3 * rows))
        top_inches = 0.45
        figure.text(0.01, 1 - 0.2 / figure.get_figheight(), title, fontsize=11, va="center")
        tile_width, tile_height = 1 / COLUMNS, (1 - top_inches / figure.get_figheight()) / max(rows, 1)
        for number, group in enumerate(groups):
            row, column = divmod(number, across)
            left, bottom = column * width * tile_width, (rows - 1 - row) * tile_height
            _frame(figure, left, bottom, width * tile_width, tile_height)
            for position, tile in enumerate(group):
                _draw(figure, tile, left + position * tile_width, bottom, tile_width, tile_height)
        artifacts.write_bytes(path, charts.png(figure))


def _frame(figure: Figure, left: float, bottom: float, width: float, height: float) -> None:
    axes = figure.add_axes((left + 0.004, bottom + 0.015 * height, width - 0.008, 0.97 * height), xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(True)
    axes.spines[:].set_color("#D9DEE3")


def _draw(figure: Figure, tile: Tile, left: float, bottom: float, width: float, height: float) -> None:
    axes = figure.add_axes((left + 0.08 * width, bottom + 0.32 * height, 0.84 * width, 0.62 * height))
    axes.imshow(tile.pixels, interpolation="nearest")
    axes.axis("off")
    for index, line in enumerate(tile.lines):
        y = bottom + (0.24 - 0.085 * index) * height
        weight = "bold" if index == 0 else "normal"
        text = charts.shorten(line, LINE_CHARACTERS)
        figure.text(left + width / 2, y, text, ha="center", va="center", fontsize=8, weight=weight)
