"""The confusion matrices that differ between two revisions, as images with both sides next to each other."""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from app.pull_request.revisions import Revision
from stages.library.common import artifacts, console, tables
from stages.library.figures import charts

TEMPLATE = "confusion_counts"  # of a model's confusion matrix in dvc.yaml
GAP_PX, HEADER_PX, LEAST_PX = 24, 44, 320


def changed(base: Revision, head: Revision) -> list[str]:
    """Returns the files of plots that differ, sorted; what one side could not read is left out."""
    unknown = {*base.missing_plots, *head.missing_plots}
    files = sorted({*base.plots, *head.plots} - unknown)
    return [file for file in files if base.plots.get(file, (None, None))[0] != head.plots.get(file, (None, None))[0]]


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
    if properties.get("template") != TEMPLATE:
        return None
    try:
        png = charts.confusion(tables.restored(rows))
        return np.asarray(Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGB"))
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:  # a plot may be JSON with any number
        console.say(f"{file} can't be drawn: {error!r}")
        return None


def _pair(title: str, sides: dict[str, np.ndarray | None]) -> bytes:
    """Returns a PNG of two images in their own resolution under their captions; a missing one is said to be so."""
    shapes = [(LEAST_PX, LEAST_PX) if side is None else side.shape[:2] for side in sides.values()]
    height_px = max(height for height, _ in shapes) + HEADER_PX
    lefts = 0, max(shapes[0][1], LEAST_PX) + GAP_PX
    width_px = lefts[1] + max(shapes[1][1], LEAST_PX)
    captions = [charts.shorten(caption, 44) for caption in sides]
    with charts.style([title, *captions]):
        figure = Figure(figsize=(width_px / charts.DPI, height_px / charts.DPI))
        figure.text(8 / width_px, 1 - 12 / height_px, charts.shorten(title, 90), va="center", weight="bold", fontsize=9)
        for left, caption, side in zip(lefts, captions, sides.values(), strict=True):
            text = f"{caption}: no image" if side is None else caption
            figure.text((left + 8) / width_px, 1 - 32 / height_px, text, va="center", fontsize=9)
            if side is not None:
                figure.figimage(side, left, height_px - HEADER_PX - len(side))
        return charts.png(figure)
