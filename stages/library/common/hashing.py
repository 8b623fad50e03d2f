"""Decisions by content: the same key and seed give the same number, on any machine and in any order."""

import hashlib
from typing import Annotated

import numpy as np
import pydantic

Fraction = Annotated[float, pydantic.Field(gt=0, lt=1)]


def uniform(key: str, purpose: str, seed: int) -> float:
    """Returns a number in [0, 1) that depends on the key, the purpose and the seed alone; uniform over keys."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{key}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def number(name: str) -> int:
    """Returns the first eight bytes of a name's sha256, in [0, 2**64): a name for a name, and as good as unique."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8])


def shuffled(numbers: np.ndarray, purpose: str, seed: int) -> np.ndarray:
    """Returns uint64 (n,): other numbers for numbers, uint64 (n,), as if a random permutation of all had been drawn.

    It depends on the purpose and the seed alone, so sorting by it gives the same random order anywhere. The mixing is
    that of SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014).
    """
    mixed = numbers ^ np.uint64(number(f"{seed}:{purpose}"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
