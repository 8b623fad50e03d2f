"""Lays one miniature over another as well as it goes, and says how they differ then.

A copy may be cut at its edges. So the rows and the columns of one image are shifted and stretched onto those of the
other, by Gauss-Newton steps on the squared difference, coarse before fine, with free contrast and brightness (Baker and
Matthews, 2004, doi:10.1023/B:VISI.0000011205.11775.fd).
"""

from collections.abc import Sequence

import numpy as np

from stages.library.duplicates.miniatures import SIDE_PX, Miniatures

WHOLE = np.array([0, 1, 0, 1], np.float32)  # the frame that shows all of an image
FARTHEST = np.array([0.08, 0.16, 0.08, 0.16], np.float32)  # from it: a tenth of each side is cut off, and some more
LEVELS = ((12, 2.0, 4), (16, 1.5, 4), (SIDE_PX, 1.5, 4))  # pixels of a side at most, blur in pixels, steps
LONGEST_STEP = 0.05
DAMPING = 1e-3
HOPELESS = 21.0  # grey levels
BLUR_PX = 1.5  # at which images are compared: it hides the noise of JPEG and of resizing
LEAST = 1e-6


def sample(images: Miniatures, frames: np.ndarray, shape: tuple[int, int], blur: float) -> tuple[np.ndarray, ...]:
    """Returns what is seen of images through frames, float32 (n, *shape), and 1 where that lies inside of them, or 0.

    A frame is the shift and the scale of the rows, and those of the columns, in sides of the image: float32 (n, 4).
    """
    rows, has_row = _weights(images.sizes[:, :1], frames[:, :2], shape[0], blur)
    columns, has_column = _weights(images.sizes[:, 1:], frames[:, 2:], shape[1], blur)
    seen = rows @ images.pixels.astype(np.float32) @ columns.transpose(0, 2, 1)
    return seen, has_row[:, :, None] * has_column[:, None]


def _weights(sides: np.ndarray, frames: np.ndarray, count: int, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights of SIDE_PX pixels in each of `count` samples, triangles, and 1 for samples inside, or 0."""
    sides, pixel = sides.astype(np.float32), np.arange(SIDE_PX, dtype=np.float32)
    centre = (frames[:, :1] + frames[:, 1:] * _places(count) + 0.5) * sides - 0.5
    reach = blur * np.maximum(1, frames[:, 1:] * sides / count)
    weights = np.maximum(0, 1 - np.abs(centre[:, :, None] - pixel) / reach[:, :, None])
    weights *= (pixel < sides)[:, None]
    weights /= np.maximum(weights.sum(axis=2, keepdims=True), LEAST)
    return weights, ((centre >= -0.5) & (centre <= sides - 0.5)).astype(np.float32)


def _places(count: int) -> np.ndarray:
    return (np.arange(count, dtype=np.float32) + 0.5) / count - 0.5


def align(
    moved: Miniatures,
    still: Miniatures,
    shape: tuple[int, int],
    frames: np.ndarray,
    levels: Sequence[tuple[int, float, int]] = LEVELS,
) -> np.ndarray:
    """Returns the frames, float32 (n, 4), through which `moved` looks most like `still`, whose size is `shape`.

    It starts from `frames`, float32 (n, 4), so these must not be far off.
    """
    for most, blur, steps in levels:
        height, width = size = min(most, shape[0]), min(most, shape[1])
        target, _ = sample(still, np.tile(WHOLE, (len(still), 1)), size, blur)
        for _ in range(steps):
            seen, inside = sample(moved, frames, size, blur)
            down, across = np.gradient(seen, axis=(1, 2))
            down, across = down * height, across * width
            terms = [down, down * _places(height)[:, None], across, across * _places(width), seen, np.ones_like(seen)]
            design = (np.stack(terms, axis=1) * inside[:, None]).reshape(len(seen), len(terms), -1)
            squares = design @ design.transpose(0, 2, 1)
            diagonal = np.einsum("nii->ni", squares)  # a view
            diagonal += DAMPING * (diagonal + 1)
            solved = np.linalg.solve(squares, design @ (target * inside).reshape(len(seen), -1, 1))[..., 0]
            contrast = np.maximum(solved[:, 4:5], 0.2)
            frames = frames + np.clip(solved[:, :4] / contrast, -LONGEST_STEP, LONGEST_STEP)
            frames = np.clip(frames, WHOLE - FARTHEST, WHOLE + FARTHEST).astype(np.float32)
    return frames


def compare(
    moved: Miniatures, still: Miniatures, shape: tuple[int, int], frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Aligns images and returns how they differ, each float64 (n,); arguments as of `align`.

    The first is the root mean square of what is left of `still`, in grey levels, when `moved` is taken away with the
    best contrast and brightness. The second is the correlation of their gradients, in [-1, 1]. Images that differ by
    more than HOPELESS when they are aligned at the coarsest level are aligned no further: inf and -1.
    """
    most, blur, _ = LEVELS[0]
    frames = align(moved, still, shape, frames, LEVELS[:1])
    coarse, _ = _differences(moved, still, (min(most, shape[0]), min(most, shape[1])), frames, blur)
    residual, detail = np.full(len(coarse), np.inf), np.full(len(coarse), -1.0)
    near = np.flatnonzero(coarse <= HOPELESS)
    moved, still = moved[near], still[near]
    frames = align(moved, still, shape, frames[near], LEVELS[1:])
    residual[near], detail[near] = _differences(moved, still, shape, frames, BLUR_PX)
    return residual, detail


def _differences(
    moved: Miniatures, still: Miniatures, shape: tuple[int, int], frames: np.ndarray, blur: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `compare` does, of images that are aligned."""
    seen, inside = sample(moved, frames, shape, blur)
    target, _ = sample(still, np.tile(WHOLE, (len(still), 1)), shape, blur)
    seen, target, inside = (values.astype(np.float64) for values in (seen, target, inside))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray((values * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1))

    seen -= mean(seen)[:, None, None]
    target -= mean(target)[:, None, None]
    contrast = mean(seen * target) / np.maximum(mean(seen * seen), LEAST)
    residual = np.sqrt(mean((target - contrast[:, None, None] * seen) ** 2))
    products = np.zeros((3, len(seen)))
    for axis in (1, 2):
        both = np.delete(inside, 0, axis) * np.delete(inside, -1, axis)
        first, second = np.diff(seen, axis=axis) * both, np.diff(target, axis=axis) * both
        products += [(a * b).sum(axis=(1, 2)) for a, b in ((first, second), (first, first), (second, second))]
    return residual, products[0] / np.sqrt(np.maximum(products[1] * products[2], LEAST))
