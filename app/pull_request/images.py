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
GAP_PX, HEADER_PX = 24, 44


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
        sides = [_confusion(file, revision) for revision in (base, head)]
        if sides == [None, None]:
            continue
        target = PurePosixPath("images") / name.with_name(f"{name.name}.png")
        artifacts.write_bytes(folder / target, _pair(file, sides, [base.title(), head.title()]))
        drawn.append(str(target))
    return drawn


def _confusion(file: str, revision: Revision) -> Image.Image | None:
    """Returns a side as an image; None where it has no such matrix, or none that can be drawn."""
    rows, properties = revision.plots.get(file, (None, {}))
    if properties.get("template") != TEMPLATE:
        return None
    try:
        return Image.open(io.BytesIO(charts.confusion(tables.restored(rows))), formats=("PNG",)).convert("RGB")
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:  # a plot may be JSON with any number
        console.say(f"{file} can't be drawn: {error!r}")
        return None


def _pair(title: str, sides: list[Image.Image | None], captions: list[str]) -> bytes:
    """Returns a PNG of two images in their own resolution under their captions; a missing one is said to be so."""
    shown = [side or Image.new("RGB", (320, 240), "#F3F4F6") for side in sides]
    lefts = [0, max(shown[0].width, 320) + GAP_PX]
    width_px, height_px = lefts[1] + max(shown[1].width, 320), max(side.height for side in shown) + HEADER_PX
    canvas = Image.new("RGB", (width_px, height_px), "white")
    captions = [charts.shorten(caption, 44) for caption in captions]
    with charts.style([title, *captions]):
        figure = Figure(figsize=(width_px / charts.DPI, height_px / charts.DPI))
        figure.text(8 / width_px, 1 - 12 / height_px, charts.shorten(title, 90), va="center", weight="bold", fontsize=9)
        for side, given, left, caption in zip(shown, sides, lefts, captions, strict=True):
            canvas.paste(side, (left, HEADER_PX))
            text = caption if given else f"{caption}: no image"
            figure.text((left + 8) / width_px, 1 - 32 / height_px, text, va="center", fontsize=9)
        figure.figimage(np.asarray(canvas), zorder=-1)
        return charts.png(figure)
