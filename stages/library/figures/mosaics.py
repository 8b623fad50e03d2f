"""Images of images: samples of each class, predictions with their likeliest classes as bars, and galleries."""

import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.library.common import artifacts
from stages.library.common.threads import ahead
from stages.library.figures import charts
from stages.library.figures.thumbnails import thumbnail

SAMPLES_PER_CLASS, FEWEST_SAMPLES = 10, 4
ENOUGH_SAMPLES = 400  # of all classes: more make a picture slow to draw and its images small
THUMBNAIL_SIZES_PX = (72, 64, 56, 48, 40, 32, 24)
GAP_PX, LABEL_PX, LABEL_CHARACTERS, MARGIN_PX = 3, 136, 18, 12
MAX_SIDE_PX = 2000
CARD_COLUMNS, CARD_PX, LIKELIEST = 3, 160, 3
CARD_WIDTH, CARD_HEIGHT, CARD_IMAGE = 3.5, 1.85, 1.48  # inches, the last one of its image's longer side
CARD_CHARACTERS, FILE_CHARACTERS = 24, 30
TILE_COLUMNS, LINE_CHARACTERS = 6, 22


@dataclass(frozen=True)
class Card:
    """An image with what a model says of it."""

    pixels: np.ndarray  # uint8 (height, width, 3), about `CARD_PX` on the longer side
    actual: str  # class name
    likeliest: list[tuple[str, float]]  # class name and probability, the likeliest first
    filename: str = ""


@dataclass(frozen=True)
class Tile:
    """An image and what is written below it."""

    pixels: np.ndarray  # uint8 (height, width, 3)
    lines: tuple[str, ...]  # few and short; longer ones lose their middle


def card(
    pixels: np.ndarray,
    filename: str,
    actual: str,
    classes: Sequence[str],
    probabilities: np.ndarray,
    logits: np.ndarray | None = None,
) -> Card:
    """Returns the card of an image; logits tell the order of classes whose probabilities are the same in float32."""
    likeliest = np.argsort(-(probabilities if logits is None else logits), kind="stable")[:LIKELIEST]
    return Card(pixels, actual, [(classes[label], float(probabilities[label])) for label in likeliest], filename)


def write_samples(path: Path, samples: Mapping[str, Iterable[bytes]]) -> None:
    """Writes a PNG of at most 2,000 px a side, a row per class with some images; the first classes that fit.

    There are ten of each class, or of many classes four to nine. `samples` are images as `normalisation.normalise`
    gives them, by class name; a generator is taken one at a time.
    """
    most = _most_samples(len(samples))
    thumbnail_px, columns, rows = _layout(len(samples))
    shown = list(samples.items())[: columns * rows]
    row_px = thumbnail_px + GAP_PX
    column_px = LABEL_PX + most * row_px + MARGIN_PX
    footer_px = 24 if len(shown) < len(samples) else 0
    width_px, height_px = MARGIN_PX + columns * column_px, 2 * MARGIN_PX + rows * row_px + footer_px
    labels = []
    for index, name in enumerate(name for name, _ in shown):
        left, top = MARGIN_PX + index // rows * column_px, MARGIN_PX + index % rows * row_px
        labels.append((left + LABEL_PX, top, charts.shorten(name, LABEL_CHARACTERS)))
    texts = [text for *_, text in labels]
    with charts.drawing(width_px / charts.DPI, height_px / charts.DPI, texts, layout=None) as figure:
        for left, top, text in labels:
            place = (left - 8) / width_px, 1 - (top + thumbnail_px / 2) / height_px
            figure.text(*place, text, ha="right", va="center", fontsize=8)
        if footer_px:
            note = f"{len(shown):,} of {len(samples):,} classes"
            figure.text(0.5, MARGIN_PX / height_px, note, ha="center", fontsize=8)
        canvas = Image.fromarray(charts.pixels(figure))

    def small(item: tuple[int, int, bytes]) -> tuple[int, int, Image.Image]:
        return *item[:2], Image.fromarray(thumbnail(item[2], thumbnail_px))

    # Pasted into the finished picture: in a figure, matplotlib takes a second and more for so many pixels.
    for index, position, image in ahead(small, _numbered((encoded for _, encoded in shown), most), os.cpu_count() or 1):
        left, top, _ = labels[index]
        x = left + position * row_px + (thumbnail_px - image.width) // 2
        canvas.paste(image, (x, top + (thumbnail_px - image.height) // 2))
    written = io.BytesIO()
    canvas.save(written, "PNG", compress_level=1)
    artifacts.write_bytes(path, written.getvalue())


def _numbered(rows: Iterable[Iterable[bytes]], most: int) -> Iterator[tuple[int, int, bytes]]:
    """Yields the first images of each row, each with its row and its place there."""
    for index, row in enumerate(rows):
        for position, encoded in enumerate(islice(row, most)):
            yield index, position, encoded


def write_predictions(path: Path, title: str, cards: Sequence[Card], wrong: str = "taken for") -> None:
    """Writes a PNG with a card per image: its class, and the likeliest as bars, blue if right, vermilion if wrong.

    `wrong` stands between its class and another one that is likelier.
    """
    rows = math.ceil(len(cards) / CARD_COLUMNS)
    names = [name for card in cards for name in (card.actual, card.filename, *(name for name, _ in card.likeliest))]
    width, height = CARD_COLUMNS * CARD_WIDTH, 0.4 + rows * CARD_HEIGHT
    with charts.drawing(width, height, [title, *names], layout=None) as figure:
        # Inches, right and down, for all cards together: with axes for each, matplotlib takes almost twice as long.
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        axes.axis("off")
        axes.text(0.1, 0.14, title, fontsize=11, va="center")
        for number, card in enumerate(cards):
            row, column = divmod(number, CARD_COLUMNS)
            _draw_card(axes, card, column * CARD_WIDTH, 0.3 + row * CARD_HEIGHT, wrong)
        artifacts.write_bytes(path, charts.png(figure))


def write_gallery(path: Path, title: str, groups: Sequence[Sequence[Tile]]) -> None:
    """Writes a PNG of groups of as many tiles each, 1 to 6, which stand side by side and share a frame."""
    texts = [title, *(line for group in groups for tile in group for line in tile.lines)]
    width = len(groups[0]) if groups else 1
    across = TILE_COLUMNS // width
    rows = math.ceil(len(groups) / across)
    with charts.drawing(10.5, 0.5 + 2.3 * rows, texts, layout=None) as figure:
        figure.text(0.01, 1 - 0.2 / figure.get_figheight(), title, fontsize=11, va="center")
        tile_width, tile_height = 1 / TILE_COLUMNS, (1 - 0.45 / figure.get_figheight()) / max(rows, 1)
        for number, group in enumerate(groups):
            row, column = divmod(number, across)
            left, bottom = column * width * tile_width, (rows - 1 - row) * tile_height
            place = left + 0.004, bottom + 0.015 * tile_height, width * tile_width - 0.008, 0.97 * tile_height
            frame = figure.add_axes(place, xticks=[], yticks=[])
            frame.spines[["top", "right"]].set_visible(True)
            frame.spines[:].set_color("#D9DEE3")
            for position, tile in enumerate(group):
                _draw_tile(figure, tile, left + position * tile_width, bottom, tile_width, tile_height)
        artifacts.write_bytes(path, charts.png(figure))


def _draw_card(axes: Axes, card: Card, left: float, top: float, wrong: str) -> None:
    """Draws a card in axes whose unit is an inch, from its upper left corner."""
    centre_x, centre_y = left + 0.05 + CARD_IMAGE / 2, top + CARD_HEIGHT / 2
    height, width = (size * CARD_IMAGE / max(card.pixels.shape[:2]) / 2 for size in card.pixels.shape[:2])
    extent = centre_x - width, centre_x + width, centre_y + height, centre_y - height
    axes.imshow(card.pixels, extent=extent, aspect="auto")
    start, end = left + 0.15 + CARD_IMAGE, left + CARD_WIDTH - 0.05
    likeliest_name = card.likeliest[0][0]
    right = likeliest_name == card.actual
    actual = charts.shorten(card.actual, CARD_CHARACTERS)
    look: dict[str, Any] = {"color": charts.BLUE if right else charts.VERMILION, "fontsize": 9, "va": "center"}
    if right:
        axes.text(start, top + 0.32, f"✓ {actual}", weight="bold", **look)
    else:
        taken = f"{wrong} {charts.shorten(likeliest_name, CARD_CHARACTERS - len(wrong))}"
        fits = len(actual) + len(taken) < CARD_CHARACTERS
        first = axes.text(start, top + (0.32 if fits else 0.15), actual, weight="bold", **look)
        if fits:  # beside it, for only the true class is bold
            axes.annotate(f", {taken}", (1, 0), xycoords=first, **look | {"va": "bottom"})
        else:
            axes.text(start, top + 0.36, taken, **look)
    for position, (name, probability) in enumerate(card.likeliest):
        text_y = top + 0.54 + 0.375 * position
        likeliest = charts.GREY if position else charts.VERMILION
        color = charts.BLUE if name == card.actual else likeliest
        ends = [end, start + probability * (end - start)]
        axes.hlines([text_y + 0.12] * 2, start, ends, colors=["#EEF0F2", color], linewidths=7)
        weight = "bold" if name == card.actual else "normal"
        axes.text(start, text_y, charts.shorten(name, 20), fontsize=7.5, va="center", weight=weight)
        axes.text(end, text_y, charts.percent(probability), fontsize=7.5, va="center", ha="right")
    filename, below = charts.shorten(card.filename, FILE_CHARACTERS), top + 0.54 + 0.375 * len(card.likeliest)
    axes.text(start, below, filename, fontsize=7, va="center", color=charts.DARK_GREY)


def _draw_tile(figure: Figure, tile: Tile, left: float, bottom: float, width: float, height: float) -> None:
    axes = figure.add_axes((left + 0.08 * width, bottom + 0.32 * height, 0.84 * width, 0.62 * height))
    axes.imshow(tile.pixels, interpolation="nearest")
    axes.axis("off")
    for index, line in enumerate(tile.lines):
        y, weight = bottom + (0.24 - 0.085 * index) * height, "normal" if index else "bold"
        text = charts.shorten(line, LINE_CHARACTERS)
        figure.text(left + width / 2, y, text, ha="center", va="center", fontsize=8, weight=weight)


def _most_samples(classes: int) -> int:
    """Returns how many images of each class are drawn."""
    return min(max(ENOUGH_SAMPLES // classes, FEWEST_SAMPLES), SAMPLES_PER_CLASS)


def _layout(classes: int) -> tuple[int, int, int]:
    """Returns the largest thumbnail side in pixels at which all classes fit, with columns and rows of the layout."""
    for thumbnail_px in THUMBNAIL_SIZES_PX:
        row_px = thumbnail_px + GAP_PX
        columns_fit = (MAX_SIDE_PX - MARGIN_PX) // (LABEL_PX + _most_samples(classes) * row_px + MARGIN_PX)
        rows_fit = (MAX_SIDE_PX - 2 * MARGIN_PX - 24) // row_px
        columns = math.ceil(classes / rows_fit)
        if columns <= columns_fit:
            # No taller than wide where more columns fit.
            columns = min(columns_fit, max(columns, math.ceil(classes / 16)))
            return thumbnail_px, columns, math.ceil(classes / columns)
    return thumbnail_px, columns_fit, rows_fit
