"""How long training takes on this machine, guessed from the number of images: within a factor of two or three."""

import time
from collections.abc import Sequence
from itertools import product

import numpy as np

from stages.library.common import tensorflow_runtime
from stages.library.networks import contract as backbones
from stages.library.settings import Params

# Seconds where everything below was measured: one product of two matrices, by which another machine is compared.
PRODUCT_SECONDS, SIDE = 0.0175, 1024
# Of each stage to start and to look after, and for each image and parameter of a network that it goes through once.
STAGE_SECONDS, FORWARD_SECONDS = 5.0, 2.6e-9
# For each image: of a quick head, which takes twice as long with CLASSES, of another one with CLASSES, for trees grow
# with them, and of training from scratch for an epoch.
QUICK_SECONDS, SLOW_SECONDS, SCRATCH_SECONDS, CLASSES = 0.003, 0.1, 0.0015, 30
BACKWARD = 2.0  # passes forward that a step of fine-tuning costs


def seconds(images: int, classes: int, params: Params, quick: Sequence[str]) -> tuple[float, float]:
    """Returns the seconds to a leaderboard of the quick heads, and those for everything else, nothing being cached."""
    combinations = len(params["combine"].models)
    first, rest = (
        STAGE_SECONDS,
        (3 + 2 * combinations) * STAGE_SECONDS + images * SCRATCH_SECONDS * params["scratch"].epochs,
    )
    for name in params["backbones"]:
        backbone, extract = backbones.lookup(name).BACKBONE, params["extract"]
        side = (extract.input_size_px or backbone.input_size_px) / backbone.input_size_px
        forward = images * FORWARD_SECONDS * backbone.num_parameters * side**2 * (1 + extract.flip)
        first += STAGE_SECONDS + forward
        rest += 4 * STAGE_SECONDS + BACKWARD * forward * params["finetune"].epochs
    for _, head in product([*params["backbones"], *params["joined"]], params["heads"]):
        if head in quick:
            first += 2 * STAGE_SECONDS + images * QUICK_SECONDS * (1 + classes / CLASSES)
        else:
            rest += 3 * STAGE_SECONDS + images * SLOW_SECONDS * classes / CLASSES
    slowness = product_seconds() / PRODUCT_SECONDS
    return first * slowness, rest * slowness


def product_seconds() -> float:
    """Returns how long this machine takes to multiply two matrices if it does nothing else, the best of five tries."""
    matrix = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    tries = []
    for _ in range(5):
        start = time.process_time()  # of all threads
        matrix @ matrix
        tries.append((time.process_time() - start) / tensorflow_runtime.cores())
    return min(tries)


def shown(number: float) -> str:
    """Returns seconds in words: "about 40 s", "about 3 min", "about 2 h"."""
    if number < 90:
        return f"about {max(10, round(number, -1)):.0f} s"
    return f"about {number / 60:.0f} min" if number < 5400 else f"about {number / 3600:.0f} h"
