"""How unlike the training images an image is, by the distance to the k-th nearest of them (Sun et al. 2022).

The features are those of a network's last block, for earlier ones know edges and textures, which all images share: with
eight blocks of EfficientNet-Lite2 Caltech-101 was told from Fashion-MNIST with an AUROC of 0.87, by the last one with
0.99. They are brought to unit length; a random part of the training images does nearly as well as all of them
(arXiv:2204.06507). A distance says little by itself, so it is given as the share of known images that lie farther out:
of the training images, each without itself, or, for a network that was trained on them, of the validation images, for
it draws its training images together. An image with a share below a threshold is called unlike the training images; of
images like these the threshold is the fraction that is called so, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from stages.library.common import hashing
from stages.library.common.console import UserError
from stages.library.common.model_names import members
from stages.library.common.params import CONFIG, Seed
from stages.library.features import cache, nearest

FILE = "unlike.safetensors"
REMEDY = "Run: dvc repro"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `unlike` of params.yaml."""

    neighbours: Annotated[int, pydantic.Field(ge=1, le=1000, description="the training image that counts, by distance")]
    threshold: Annotated[float, pydantic.Field(ge=0, lt=1, description="share of known images farther out, at least")]
    max_images: Annotated[int, pydantic.Field(ge=2, le=1_000_000, description="training images kept, at random")]
    seed: Annotated[Seed, pydantic.Field(description="chooses them where there are more")]


def sample(keys: np.ndarray, params: Params) -> np.ndarray:
    """Returns the rows to keep, int64, rising: all, or `max_images` by a hash of their keys, sha256 hex (n,)."""
    if len(keys) <= params.max_images:
        return np.arange(len(keys))
    numbers = np.array([hashing.uniform(str(key), "unlike", params.seed) for key in keys])
    return np.sort(np.argsort(numbers, kind="stable")[: params.max_images])


@dataclass(frozen=True)
class Reference:
    """Training images, by their features, and how far out known images lie."""

    features: np.ndarray  # float16 (m, dim), of unit length
    distances: np.ndarray  # float32 (c,), rising, of known images to their nearest ones; none: nothing is unlike them
    neighbours: int  # the k of the k-th nearest, at most m
    threshold: float
    widths: tuple[int, ...]  # of the last features of each network, which count; their sum is dim

    @classmethod
    def fit(cls, training: Sequence[np.ndarray], held_out: Sequence[np.ndarray] | None, params: Params) -> "Reference":
        """Makes it of the features of training images that count, a block (m, width) for each network; m is at least 1.

        `held_out`, where there are such images, are those of images that the networks were not trained on.
        """
        features = nearest.unit_length(training).astype(np.float16)
        if held_out is not None and len(held_out[0]):
            k = min(params.neighbours, len(features))
            distances = nearest.kth_distances_of(held_out, features, k)
        else:
            k = max(min(params.neighbours, len(features) - 1), 1)
            alone = len(features) < 2
            distances = nearest.kth_distances(features[: 0 if alone else None], features, k, leave_one_out=True)
        return cls(features, np.sort(distances), k, params.threshold, tuple(block.shape[1] for block in training))

    def distances_of(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the distance of each image to the k-th nearest training image, float32 (n,), of its features.

        UserError where they are fewer than those of the training images.
        """
        rows = [block[:, -width:] for block, width in zip(blocks, self.widths, strict=False)]
        known, given = self.features.shape[1], sum(block.shape[1] for block in rows)
        if given != known:
            raise UserError(f"{FILE} is of {known} features an image, and the model gives {given}. {REMEDY}")
        return nearest.kth_distances_of(rows, self.features, self.neighbours)

    def farther_out(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the share of known images at least as far out as each image, float32 (n,); as `distances_of`."""
        count, distances = len(self.distances), self.distances_of(blocks)
        if not count:
            return np.ones(len(distances), np.float32)
        return ((count - np.searchsorted(self.distances, distances, side="left")) / count).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Writes `FILE` into an existing folder."""
        numbers = {"neighbours": [self.neighbours], "threshold": [self.threshold], "widths": list(self.widths)}
        about = {name: np.array(values) for name, values in numbers.items()}
        (folder / FILE).write_bytes(save({"features": self.features, "distances": self.distances} | about))


def load(folder: Path) -> Reference | None:
    """Reads what `Reference.save` wrote, or None where there is none; UserError where it is damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = load_file(path)
        features, distances = content["features"], content["distances"]
        (k,), (threshold,) = content["neighbours"].tolist(), content["threshold"].tolist()
        widths = tuple(content["widths"].tolist())
        if (features.dtype, features.ndim, distances.dtype, distances.ndim) != (np.float16, 2, np.float32, 1):
            raise ValueError("it must hold features, float16 (m, dim), and distances, float32 (n,)")
        if not (np.isfinite(features).all() and np.isfinite(distances).all() and (np.diff(distances) >= 0).all()):
            raise ValueError("its numbers must be finite, and `distances` must rise")
        if not (isinstance(k, int) and 1 <= k <= len(features) and 0 <= threshold < 1):
            raise ValueError("`neighbours` must be 1 to the number of features, and `threshold` at least 0 and below 1")
        if not all(isinstance(width, int) and width > 0 for width in widths) or sum(widths) != features.shape[1]:
            raise ValueError("`widths` must be positive, and their sum the width of `features`")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(f"{path} can't be read ({' '.join(str(error).split())}). {REMEDY}") from error
    return Reference(features, distances, k, threshold, widths)


def of_cache(folder: Path, split: str, widths: Sequence[int | None], params: Params) -> list[np.ndarray]:
    """Returns cached features, a block (n, width) for each backbone, of the training images to keep or all of a split.

    `folder` is as `joined.load` takes it; the last `widths` features of each backbone count, None: all. UserError: they
    can't be read, or are of other images than each other.
    """
    blocks = [cache.load(folder.with_name(name), [split], "bottleneck") for name in members(folder.name)]
    if any(not np.array_equal(block.keys, blocks[0].keys) for block in blocks):
        raise UserError(f"{folder} has the features of other images for one backbone than for another. {REMEDY}")
    rows = sample(blocks[0].keys, params) if split == "train" else slice(None)
    return [block.values[rows, -(width or 0) :] for block, width in zip(blocks, widths, strict=True)]
