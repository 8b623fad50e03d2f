"""The confusion matrices that differ between two revisions, as images with both sides next to each other."""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from app.pull_request.revisions import Revision
from stages.library.common import artifacts, console, tables
from stages.library.figures import charts

HEADER_PX, LEAST_PX = 44, 320


def changed(base: Revision, head: Revision) -> list[str]:
    """Returns the files of plots that differ, sorted; what one side could not read is left out."""
    before, after = ({file: data for file, (data, _) in side.plots.items()} for side in (base, head))
    files = sorted((before.keys() | after.keys()) - base.missing_plots - head.missing_plots)
    return [file for file in files if before.get(file) != after.get(file)]


def draw(folder: Path, files: Sequence[str], base: Revision, head: Revision) -> list[str]:
    """Writes an image of each model whose confusion matrix is among `files`; returns their paths in the folder."""
    drawn = []
    for file in files:
        name = PurePosixPath(file)
        if name.is_absolute() or ".." in name.parts:
            continue
        sides = {revision.title: _confusion(file, revision) for revision in (base, head)}
        if any(side is not None for side in sides.values()):
            target = PurePosixPath("images") / name.with_name(f"{name.name}.png")
            artifacts.write_bytes(folder / target, _pair(file, sides))
            drawn.append(str(target))
    return drawn


def _confusion(file: str, revision: Revision) -> np.ndarray | None:
    """Returns a side as uint8 (height, width, 3); None where it has no such matrix, or none that can be drawn."""
    rows, properties = revision.plots.get(file, (None, {}))
    if properties.get("template") != "confusion_counts":
        return None
    try:
        png = charts.confusion(tables.restored(rows))
        return np.asarray(Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGB"))
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:  # a plot may be JSON with any number
        console.say(f"{file} can't be drawn: {error!r}")
        return None


def _pair(title: str, sides: dict[str, np.ndarray | None]) -> bytes:
    """Returns a PNG, each image in its own resolution in one half under its caption; a missing one is said to be so."""
    shapes = [side.shape[:2] for side in sides.values() if side is not None]
    height_px, half_px = np.max([*shapes, (LEAST_PX, LEAST_PX)], axis=0) + np.array([HEADER_PX, 0])
    size = 2 * half_px / charts.DPI, height_px / charts.DPI
    with charts.drawing(*size, [title, *sides], layout=None) as figure:
        top = 1 - 12 / height_px
        figure.text(4 / half_px, top, charts.shorten(title, 90), va="center", weight="bold", fontsize=9)
        for half, (caption, side) in enumerate(sides.items()):
            text = charts.shorten(caption, 44) + (": no image" if side is None else "")
            figure.text(half / 2 + 4 / half_px, top - 20 / height_px, text, va="center", fontsize=9)
            if side is not None:
                figure.figimage(side, half * half_px, height_px - HEADER_PX - len(side))
        return charts.png(figure)
