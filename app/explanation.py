"""What the web page shows of one image: the likeliest classes, where the evidence lies, what is similar."""

import io
import time
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


@dataclass(frozen=True)
class Deadline:
    """The moment by which an answer must be there; steps can't be interrupted, so it is looked at between them."""

    monotonic_seconds: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    def left_seconds(self) -> float:
        """Returns the time left, at least 0."""
        return max(0.0, self.monotonic_seconds - time.monotonic())

    def check(self) -> None:
        """Raises TooSlowError when the time is up."""
        if not self.left_seconds():
            raise TooSlowError


@dataclass(frozen=True)
class Explained:
    """A model and what explains its answers.

    Attributes:
      model: loaded.
      grad_cam: makes its heat maps; None where it has none, and then `no_heat_map` is the reason.
      neighbours: the training images by its backbone's features; None where none are cached.
    """

    model: Model
    grad_cam: GradCam | None
    no_heat_map: str
    neighbours: Neighbours | None


@dataclass(frozen=True)
class Answer:
    """All that is shown of one image; images are PNG.

    Attributes:
      model: its name.
      likeliest: (class id, name, probability), the likeliest first.
      label, shown: id and name of the class that the heat map is for.
      explainable: whether the model has heat maps.
      image: at most `SHOWN_PX` on the longer side; it came as `width_px` by `height_px`.
      heat_map: as large as `image`; None where there is none, and then `no_heat_map` is the reason.
      neighbours: (image, class, similarity) of training images, the most similar first.
      compared_by: name of the backbone whose features say what is similar, or "".
      seconds: that it took.
    """

    model: str
    likeliest: list[tuple[int, str, float]]
    label: int
    shown: str
    explainable: bool
    image: bytes
    width_px: int
    height_px: int
    heat_map: bytes | None
    no_heat_map: str
    neighbours: list[tuple[bytes, str, float]]
    compared_by: str
    seconds: float


def explain(explained: Explained, image: np.ndarray, label: int | None, deadline: Deadline) -> Answer:
    """Answers for one image.

    Args:
      explained: the model.
      image: uint8 RGB (height, width, 3), decoded from what `normalisation.normalise` gives.
      label: class id that the heat map is for; None or one that the model lacks: the likeliest.
      deadline: after which there is no answer, but TooSlowError.
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
    shown, heat, reason = thumbnails.fit(image, SHOWN_PX), None, explained.no_heat_map
    if explained.grad_cam:
        values = explained.grad_cam(np.asarray(pixels), label)
        if values.any():
            heat = overlay(shown, values, model.preprocessing.central_crop)
        else:
            reason = "nothing in the image speaks for this class"
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
        explainable=explained.grad_cam is not None,
        image=png(shown),
        width_px=image.shape[1],
        height_px=image.shape[0],
        heat_map=heat,
        no_heat_map=reason,
        neighbours=[(thumbnail(near.encoded), near.name, near.similarity) for near in found],
        compared_by=compared_by,
        seconds=time.monotonic() - start,
    )


def overlay(pixels: np.ndarray, values: np.ndarray, central_crop: float) -> bytes:
    """Returns a PNG of a grey image under its heat map.

    Args:
      pixels: uint8 (height, width, 3).
      values: float32 (H, W) of [0, 1], for the part of the image that the model sees.
      central_crop: fraction of each side that it sees; what lies outside stays grey.
    """
    height, width = pixels.shape[:2]
    top, left = int((height - height * central_crop) / 2), int((width - width * central_crop) / 2)
    seen = slice(top, height - top), slice(left, width - left)
    size = (width - 2 * left, height - 2 * top)
    smooth = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps[COLOUR_MAP](np.clip(smooth, 0, 1))[..., :3] * 255
    shown = np.repeat(np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[..., None], 3, axis=2)
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
