"""What the web page shows of one image: the likeliest classes, where the evidence lies, what is similar."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from app.heat_map import GradCam, OfHead
from app.models import Model
from app.neighbours import Neighbours
from stages.library.figures import thumbnails
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Placement, Preprocessing

TOP, NEIGHBOURS = 5, 6
SHOWN_PX, THUMBNAIL_PX = 480, 112  # longer side, as sent to the browser
HEAT_OPACITY = 0.6
COLOUR_MAP = "viridis"  # even in lightness, so it reads without colour vision, too


class TooSlowError(Exception):
    """A request took longer than it may."""


class Deadline:
    """The moment by which an answer must be there; steps can't be interrupted, so it is looked at between them."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def left_seconds(self) -> float:
        """Returns the time left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises TooSlowError when the time is up."""
        if not self.left_seconds():
            raise TooSlowError

    @contextlib.contextmanager
    def hold(self, lock: "threading.Lock | threading.Semaphore") -> Iterator[None]:
        """Holds a lock inside of the context; raises TooSlowError where it is not free in time."""
        if not lock.acquire(timeout=self.left_seconds()):
            raise TooSlowError
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class Explained:
    """A model and what explains its answers."""

    model: Model
    heat_map: GradCam | OfHead | str  # what makes it, or why there is none
    neighbours: Neighbours | None  # the training images by its backbone's features; None where none are cached


@dataclass(frozen=True)
class Answer:
    """All that is shown of one image; images are PNG."""

    model: str  # its name
    farther_out: float | None  # share of known images that lie farther out from the training images; None: unknown
    not_sure: list[str] | None  # the conformal set where the model is not sure enough to answer, the likeliest first
    unlike: bool  # whether that is so small that the image is called unlike the training images
    likeliest: list[tuple[int, str, float]]  # class id, name and probability, the likeliest first
    label: int  # id of the class that the heat map is for
    shown: str  # and its name
    explainable: bool  # whether the model has heat maps
    image: bytes  # at most `SHOWN_PX` on the longer side
    width_px: int  # as it came
    height_px: int
    seen: str  # how much of its middle the model sees, as "88 x 88 px"; "" for all
    heat_map: bytes | None  # as large as `image`
    no_heat_map: str  # why there is none
    neighbours: list[tuple[bytes, str, float]]  # training images, their classes and similarities, the highest first
    compared_by: str  # name of the backbone whose features say what is similar, or ""
    seconds: float  # that it took


def explain(explained: Explained, image: np.ndarray, label: int | None, deadline: Deadline) -> Answer:
    """Answers for one normalised image, uint8 RGB (height, width, 3); raises TooSlowError after the deadline.

    The heat map is for the class id `label`, or for the likeliest class where that is None or one that the model lacks.
    """
    start = time.monotonic()
    model = explained.model
    deadline.check()
    inputs = model.inputs(image)
    (probabilities,), shares = model.answer([pixels[None] for pixels in inputs])
    order = np.argsort(-probabilities, kind="stable")[:TOP].tolist()
    if label is None or not 0 <= label < len(model.classes):
        label = order[0]
    deadline.check()
    placed = [placement(image, part.preprocessing) for part in model.parts]
    most = max(placed, key=lambda at: at.height * at.width)
    shown, heat, reason = thumbnails.fit(image, SHOWN_PX), None, explained.heat_map
    if not isinstance(reason, str):
        maps = reason([np.asarray(pixels) for pixels in inputs], label)
        reason = "nothing in the image speaks for this class"
        if any(values.any() for values in maps):
            sides = (part.preprocessing.input_size_px for part in model.parts)
            heat, reason = overlay(shown, list(zip(maps, placed, sides, strict=True)), image.shape[:2]), ""
    deadline.check()
    found, compared_by = [], ""
    if neighbours := explained.neighbours:
        found, compared_by = neighbours.find(image, NEIGHBOURS), neighbours.features.source.backbone
    return Answer(
        model=model.name,
        farther_out=None if shares is None else float(shares[0]),
        not_sure=not_sure(model, probabilities),
        unlike=shares is not None and bool(shares[0] < model.threshold),
        likeliest=[(index, model.classes[index], float(probabilities[index])) for index in order],
        label=label,
        shown=model.classes[label],
        explainable=not isinstance(explained.heat_map, str),
        image=png(shown),
        width_px=image.shape[1],
        height_px=image.shape[0],
        seen="" if (most.height, most.width) == image.shape[:2] else f"{most.width} x {most.height} px",
        heat_map=heat,
        no_heat_map=reason,
        neighbours=[(thumbnail(encoded), name, similarity) for encoded, name, similarity in found],
        compared_by=compared_by,
        seconds=time.monotonic() - start,
    )


def not_sure(model: Model, probabilities: np.ndarray) -> list[str] | None:
    """Returns the classes that an image may be, the likeliest first, where the model is not sure enough to answer.

    `probabilities` are float32 (classes,). None where it is, or where that is not known.
    """
    point = model.operating
    if point is None or point.is_sure(probabilities[None])[0]:
        return None
    inside = point.sets(probabilities[None])[0]
    return [model.classes[label] for label in np.argsort(-probabilities, kind="stable") if inside[label]]


def placement(image: np.ndarray, preparation: Preprocessing) -> Placement:
    """Returns where an image (height, width, 3) comes to lie in the model's input, as Python's integers."""
    import tensorflow as tf

    height, width = tf.unstack(tf.constant(image.shape[:2]))
    return Placement(*(int(value) for value in preprocessing.placement(height, width, preparation)))


def overlay(pixels: np.ndarray, maps: Sequence[tuple[np.ndarray, Placement, int]], size: tuple[int, ...]) -> bytes:
    """Returns a PNG of an image in grey, under the heat map of what the model sees of it.

    Args:
      pixels: the image, or a smaller one of it, uint8 (height, width, 3).
      maps: of each network the heat map of its whole input, float32 (H, W) of [0, 1], where the image lies in the input
        (bars around it are not shown), and the input's side in pixels. They are added up.
      size: height and width of the image.
    """
    evidence, seen = np.zeros(pixels.shape[:2], np.float32), np.zeros(pixels.shape[:2], bool)
    for values, at, side_px in maps:
        top, bottom = _span(at.top, at.height, size[0], pixels.shape[0])
        left, right = _span(at.left, at.width, size[1], pixels.shape[1])
        box = at.first_column, at.first_row, at.first_column + at.columns, at.first_row + at.rows
        cells = np.multiply(box, values.shape[::-1] * 2) / side_px
        smooth = Image.fromarray(values.astype(np.float32)).resize(
            (right - left, bottom - top), Image.Resampling.BILINEAR, tuple(cells)
        )
        evidence[top:bottom, left:right] += np.asarray(smooth)
        seen[top:bottom, left:right] = True
    evidence = np.clip(evidence / max(float(evidence.max()), 1.0), 0, 1)
    colours = matplotlib.colormaps[COLOUR_MAP](evidence)[..., :3] * 255
    shown = np.array(Image.fromarray(pixels).convert("L").convert("RGB"), np.float32)
    shown[seen] = (HEAT_OPACITY * colours + (1 - HEAT_OPACITY) * shown)[seen]
    return png(np.rint(shown).astype(np.uint8))


def _span(start: int, count: int, length: int, shown: int) -> tuple[int, int]:
    """Returns which of `shown` pixels stand for `count` of `length`, at least one: the first, and the first after."""
    first = min(round(start * shown / length), shown - 1)
    return first, max(round((start + count) * shown / length), first + 1)


def thumbnail(encoded: bytes) -> bytes:
    """Returns a PNG of at most `THUMBNAIL_PX` on the longer side for an image that `normalisation.normalise` gave."""
    return png(thumbnails.thumbnail(encoded, THUMBNAIL_PX))


def png(pixels: np.ndarray) -> bytes:
    """Returns uint8 (height, width, 3) as PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=3)
    return out.getvalue()
