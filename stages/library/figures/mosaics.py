"""Images of images: samples of each class, and predictions with their likeliest classes as bars."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.library.common import artifacts
from stages.library.figures import charts
from stages.library.figures.thumbnails import thumbnail

SAMPLES_PER_CLASS = 10
THUMBNAIL_SIZES_PX = (72, 64, 56, 48, 40, 32, 24)
GAP_PX, LABEL_PX, LABEL_CHARACTERS, MARGIN_PX = 3, 136, 18, 12
MAX_SIDE_PX = 2000
CARD_COLUMNS, CARD_PX = 3, 160


@dataclass(frozen=True)
class Card:
    """An image with what a model says of it."""

    pixels: np.ndarray  # uint8 (height, width, 3), about `CARD_PX` on the longer side
    actual: str  # class name
    likeliest: list[tuple[str, float]]  # class name and probability, the likeliest first


def write_samples(path: Path, samples: Mapping[str, Iterable[bytes]]) -> None:
    """Writes a PNG with up to ten images of each class, a row per class, in as many columns of rows as fit best.

    Args:
      path: the PNG; at most 2,000 px on a side. Of more classes than fit, the first ones are shown.
      samples: class name -> images as `normalisation.normalise` gives them; a generator is taken one at a time.
    """
    thumbnail_px, columns, rows = _layout(len(samples))
    shown = list(samples.items())[: columns * rows]
    row_px = thumbnail_px + GAP_PX
    column_px = LABEL_PX + SAMPLES_PER_CLASS * row_px + MARGIN_PX
    footer_px = 24 if len(shown) < len(samples) else 0
    width_px, height_px = MARGIN_PX + columns * column_px, 2 * MARGIN_PX + rows * row_px + footer_px
    canvas = Image.new("RGB", (width_px, height_px), "white")
    labels = []
    for index, (name, encoded) in enumerate(shown):
        left, top = MARGIN_PX + index // rows * column_px, MARGIN_PX + index % rows * row_px
        labels.append((left + LABEL_PX - 8, top + thumbnail_px / 2, charts.shorten(name, LABEL_CHARACTERS)))
        for position, content in enumerate(islice(encoded, SAMPLES_PER_CLASS)):
            small = Image.fromarray(thumbnail(content, thumbnail_px))
            x = left + LABEL_PX + position * row_px + (thumbnail_px - small.width) // 2
            canvas.paste(small, (x, top + (thumbnail_px - small.height) // 2))
    with charts.style([text for _, _, text in labels]):
        figure = Figure(figsize=(width_px / charts.DPI, height_px / charts.DPI))
        figure.figimage(np.asarray(canvas))
        for x, y, text in labels:
            figure.text(x / width_px, 1 - y / height_px, text, ha="right", va="center", fontsize=8)
        if footer_px:
            note = f"{len(shown):,} of {len(samples):,} classes"
            figure.text(0.5, MARGIN_PX / height_px, note, ha="center", fontsize=8)
        artifacts.write_bytes(path, charts.png(figure))


def write_predictions(path: Path, title: str, cards: Sequence[Card]) -> None:
    """Writes a PNG with one card per image: the image, its class, and the likeliest classes as bars.

    The bar of the right class is blue; if another is likelier, that one is vermilion, and the title has a cross.
    Without cards the title stands alone.
    """
    rows = math.ceil(len(cards) / CARD_COLUMNS)
    names = [name for card in cards for name in (card.actual, *(name for name, _ in card.likeliest))]
    with charts.style([title, *names]):
        figure = Figure(figsize=(3.5 * CARD_COLUMNS, 0.5 + 1.55 * rows), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        if cards:
            grid = figure.subplots(rows, 2 * CARD_COLUMNS, squeeze=False, width_ratios=[1, 1.25] * CARD_COLUMNS)
            for axes in grid.flat:
                axes.axis("off")
            for card, (image, bars) in zip(cards, grid.reshape(-1, 2), strict=False):
                _draw_card(card, image, bars)
        artifacts.write_bytes(path, charts.png(figure))


def _draw_card(card: Card, image: Axes, bars: Axes) -> None:
    right = card.likeliest[0][0] == card.actual
    image.imshow(card.pixels)
    bars.set(xlim=(0, 1), ylim=(len(card.likeliest) - 0.45, -1.15))
    mark, color = ("✓", charts.BLUE) if right else ("✗", charts.VERMILION)
    title = f"{mark} {charts.shorten(card.actual, 20)}"
    bars.text(0, -0.75, title, color=color, fontsize=9, weight="bold", va="center")
    for position, (name, probability) in enumerate(card.likeliest):
        likeliest = charts.GREY if position else charts.VERMILION
        color = charts.BLUE if name == card.actual else likeliest
        bars.barh(position + 0.22, 1, height=0.26, color="#EEF0F2")
        bars.barh(position + 0.22, probability, height=0.26, color=color)
        bars.text(0, position - 0.1, charts.shorten(name, 20), fontsize=7.5, va="center")
        bars.text(1, position - 0.1, f"{probability:.1%}", fontsize=7.5, va="center", ha="right")


def _layout(classes: int) -> tuple[int, int, int]:
    """Returns the largest thumbnail side in pixels at which all classes fit, with columns and rows of the layout."""
    for thumbnail_px in THUMBNAIL_SIZES_PX:
        row_px = thumbnail_px + GAP_PX
        columns_fit = (MAX_SIDE_PX - MARGIN_PX) // (LABEL_PX + SAMPLES_PER_CLASS * row_px + MARGIN_PX)
        rows_fit = (MAX_SIDE_PX - 2 * MARGIN_PX - 24) // row_px
        columns = math.ceil(classes / rows_fit)
        if columns <= columns_fit:
            # No taller than wide where more columns fit.
            columns = min(columns_fit, max(columns, math.ceil(classes / 16)))
            return thumbnail_px, columns, math.ceil(classes / columns)
    return thumbnail_px, columns_fit, rows_fit
