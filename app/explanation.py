"""What the web page shows of one image: the likeliest classes, where the evidence lies, what is similar."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from app.heat_map import GradCam
from app.models import Model
from app.neighbours import Neighbours
from stages.library.figures import thumbnails
from stages.library.records import preprocessing

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
    heat_map: GradCam | str  # what makes it, or why there is none
    neighbours: Neighbours | None  # the training images by its backbone's features; None where none are cached


@dataclass(frozen=True)
class Answer:
    """All that is shown of one image; images are PNG."""

    model: str  # its name
    likeliest: list[tuple[int, str, float]]  # class id, name and probability, the likeliest first
    label: int  # id of the class that the heat map is for
    shown: str  # and its name
    explainable: bool  # whether the model has heat maps
    image: bytes  # at most `SHOWN_PX` on the longer side
    width_px: int  # as it came
    height_px: int
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
    pixels = preprocessing.fit(image, model.preprocessing)
    probabilities = model.probabilities(pixels[None])[0]
    order = np.argsort(-probabilities, kind="stable")[:TOP].tolist()
    if label is None or not 0 <= label < len(model.classes):
        label = order[0]
    deadline.check()
    shown, heat, reason = thumbnails.fit(image, SHOWN_PX), None, explained.heat_map
    if not isinstance(reason, str):
        values, reason = reason(np.asarray(pixels), label), "nothing in the image speaks for this class"
        if values.any():
            heat, reason = overlay(shown, values, model.preprocessing.central_crop), ""
    deadline.check()
    found, compared_by = [], ""
    if neighbours := explained.neighbours:
        if neighbours.preprocessing != model.preprocessing:
            pixels = preprocessing.fit(image, neighbours.preprocessing)
        found, compared_by = neighbours.find(pixels, NEIGHBOURS), neighbours.features.source.backbone
    return Answer(
        model=model.name,
        likeliest=[(index, model.classes[index], float(probabilities[index])) for index in order],
        label=label,
        shown=model.classes[label],
        explainable=not isinstance(explained.heat_map, str),
        image=png(shown),
        width_px=image.shape[1],
        height_px=image.shape[0],
        heat_map=heat,
        no_heat_map=reason,
        neighbours=[(thumbnail(encoded), name, similarity) for encoded, name, similarity in found],
        compared_by=compared_by,
        seconds=time.monotonic() - start,
    )


def overlay(pixels: np.ndarray, values: np.ndarray, central_crop: float) -> bytes:
    """Returns a PNG of an image, uint8 (height, width, 3), in grey under its heat map, float32 (H, W) of [0, 1].

    The heat map is of the fraction `central_crop` of each side, which the model sees.
    """
    height, width = pixels.shape[:2]
    top, left = int((height - height * central_crop) / 2), int((width - width * central_crop) / 2)
    seen = slice(top, height - top), slice(left, width - left)
    size = (width - 2 * left, height - 2 * top)
    smooth = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps[COLOUR_MAP](np.clip(smooth, 0, 1))[..., :3] * 255
    shown = np.array(Image.fromarray(pixels).convert("L").convert("RGB"), np.float32)
    shown[seen] = HEAT_OPACITY * colours + (1 - HEAT_OPACITY) * shown[seen]
    return png(np.rint(shown).astype(np.uint8))


def thumbnail(encoded: bytes) -> bytes:
    """Returns a PNG of at most `THUMBNAIL_PX` on the longer side for an image that `normalisation.normalise` gave."""
    return png(thumbnails.thumbnail(encoded, THUMBNAIL_PX))


def png(pixels: np.ndarray) -> bytes:
    """Returns uint8 (height, width, 3) as PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=3)
    return out.getvalue()
