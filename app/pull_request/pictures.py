"""The plots that differ between two revisions, as pictures with both sides next to each other."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from app.pull_request.revisions import Revision
from stages.library import artifacts, console, plots, tables
from stages.library.decoding_workers import Workers
from stages.library.pictures import PictureError

DRAWN: dict[str, Callable[[plots.Rows], bytes]] = {  # template in dvc.yaml -> what draws its rows
    "confusion_counts": plots.confusion,
    "learning_curve": plots.learning_curve,
    "per_class": plots.per_class,
    "reliability": plots.reliability,
}
# Of one of both; a picture in a pull request is not to be trusted. A line of a pixel has margins many times its size.
MAX_PIXELS, MAX_PX = 40_000_000, 10_000
GAP_PX, HEADER_PX = 24, 44


@dataclass(frozen=True)
class Change:
    """A plot that differs.

    Attributes:
      file: of the plot, relative to the repository.
      what: "changed", "new" or "gone".
      picture: PNG of both sides, relative to the output folder; None where there is none.
    """

    file: str
    what: str
    picture: str | None = None


def changes(base: Revision, head: Revision) -> list[Change]:
    """Returns the plots that differ, by file; what one side could not read is left out."""
    unknown = {*base.missing_plots, *head.missing_plots}
    found = []
    for file in sorted({*base.plots, *head.plots} - unknown):
        before, after = base.plots.get(file), head.plots.get(file)
        if before is None or after is None:
            found.append(Change(file, "new" if before is None else "gone"))
        elif before[0] != after[0]:
            found.append(Change(file, "changed"))
    return found


def draw(folder: Path, found: Iterable[Change], base: Revision, head: Revision, limit: int) -> Iterator[Change]:
    """Writes a picture of each of the first `limit` changes that can be drawn, and yields all with their pictures."""
    drawn = 0
    with Workers(1) as workers:
        for change in found:
            name = PurePosixPath(change.file)
            if drawn >= limit or name.is_absolute() or ".." in name.parts:
                yield change
                continue
            sides = [_picture(change.file, revision.plots.get(change.file), workers) for revision in (base, head)]
            if sides == [None, None]:
                yield change
                continue
            target = PurePosixPath("pictures") / (name if name.suffix == ".png" else name.with_name(f"{name.name}.png"))
            artifacts.write_bytes(folder / target, _pair(change.file, sides, [base.title(), head.title()]))
            drawn += 1
            yield Change(change.file, change.what, str(target))


def _picture(file: str, plot: tuple[Any, Any] | None, workers: Workers) -> Image.Image | None:
    """Returns a plot as a picture; None where there is none, or what it holds can't be drawn."""
    if plot is None:
        return None
    data, properties = plot
    try:
        if isinstance(data, bytes):
            encoded = data
        elif draw_rows := DRAWN.get(str(properties.get("template"))):
            encoded = draw_rows(tables.restored(data))
        else:
            return None
        picture = Image.fromarray(workers.pixels(encoded, MAX_PIXELS))
        if max(picture.size) > MAX_PX:
            raise PictureError(f"more than {MAX_PX:,} pixels in a row: {picture.width} x {picture.height} px")
        return picture
    except (ArithmeticError, KeyError, TypeError, ValueError, PictureError) as error:
        console.say(f"{file} can't be drawn: {error!r}")
        return None


def _pair(title: str, sides: list[Image.Image | None], captions: list[str]) -> bytes:
    """Returns a PNG of two pictures in their own resolution under their captions; a missing one is said to be so."""
    shown = [side or Image.new("RGB", (320, 240), "#F3F4F6") for side in sides]
    widths = [max(side.width, 320) for side in shown]
    width_px, height_px = sum(widths) + GAP_PX, max(side.height for side in shown) + HEADER_PX
    canvas = Image.new("RGB", (width_px, height_px), "white")
    lefts = [0, widths[0] + GAP_PX]
    for side, left in zip(shown, lefts, strict=True):
        canvas.paste(side, (left, HEADER_PX))
    captions = [plots.shorten(caption, 44) for caption in captions]
    with plots.style([title, *captions]):
        figure = Figure(figsize=(width_px / plots.DPI, height_px / plots.DPI))
        figure.figimage(np.asarray(canvas))
        figure.text(8 / width_px, 1 - 12 / height_px, plots.shorten(title, 90), va="center", weight="bold", fontsize=9)
        for side, left, caption in zip(sides, lefts, captions, strict=True):
            text = caption if side else f"{caption}: no picture"
            figure.text((left + 8) / width_px, 1 - 32 / height_px, text, va="center", fontsize=9)
        return plots.png(figure)
